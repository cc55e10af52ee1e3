"""Runs simulations: `python -m tests.simulation SEED [--trace]`, or a range of seeds `FIRST-LAST`."""

import argparse
import sys

from tests.simulation.world import Failed, run


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("seeds", help="one seed, or FIRST-LAST")
    parser.add_argument("--trace", action="store_true", help="print everything that happens")
    parser.add_argument("--always", default="", help="features that every plan has, with commas between them")
    options = parser.parse_args()
    always = frozenset(filter(None, options.always.split(",")))
    first, _, last = options.seeds.partition("-")
    failed = steps = 0
    counts: dict[str, int] = {}
    for seed in range(int(first), int(last or first) + 1):
        try:
            done = run(seed, tell if options.trace else None, always)
        except Failed as error:
            failed += 1
            tell(str(error))
        else:
            steps += done.steps
            for event, n in done.counts.items():
                counts[event] = counts.get(event, 0) + n
            if not last:
                tell(str(done))
    tell(f"{failed} failed; {steps} steps; {counts}")
    return min(1, failed)


if __name__ == "__main__":
    sys.exit(main())
