"""`make bench`: runs the benchmarks named on the command line, or all."""

import argparse
import sys
from pathlib import Path

from bench import client, emulator, locust_client
from bench.frame import Report, write
from bench.processes import CannotMeasure

ALL = {
    "submissions": emulator.submissions,
    "start": emulator.start_and_memory,
    "drain": emulator.drain,
    "generator": locust_client.generator,
    "pacer": locust_client.pacer,
    "client": client.async_client,
    "import": client.import_time,
}


def main() -> int:
    """Prints the figures and writes runs/bench/."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ALL, []], help="which; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    chosen = parser.parse_args()
    reports: list[Report] = []
    try:
        for name in chosen.names or ALL:
            reports.append(ALL[name]())
            sys.stdout.write(reports[-1].markdown() + "\n")
    except CannotMeasure as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"Written to {write(reports, chosen.out)} and bench.json beside it.\n")
    return 0


sys.exit(main())
