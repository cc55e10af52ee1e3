"""`make bench`: runs the benchmarks named on the command line, or all."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from bench import client, emulator, locust_client, queues, reads
from bench.frame import Report, update, write
from bench.processes import CannotMeasure

ALL: dict[str, Callable[[], Report]] = {
    "submissions": emulator.submissions,
    "start": emulator.start_and_memory,
    "drain": emulator.drain,
    "queues": queues.queues,
    "reads": reads.under_load,
    "growth": reads.growth,
    "generator": locust_client.generator,
    "pacer": locust_client.pacer,
    "client": client.async_client,
    "import": client.import_time,
}


def main() -> int:
    """Prints the figures and writes runs/bench/; what this machine cannot measure is said."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ALL, []], help="which; all by default")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    parser.add_argument("--docs", type=Path, help="a page whose tables are to be those of this run")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what was started is ended
    reports: dict[str, Report] = {}
    for name in chosen.names or ALL:
        try:
            reports[name] = ALL[name]()
        except CannotMeasure as error:
            reports[name] = Report(name.capitalize(), "", skipped=[str(error)])
        sys.stdout.write(reports[name].markdown() + "\n")
        sys.stdout.flush()
    sys.stdout.write(f"Written to {write(list(reports.values()), chosen.out)} and bench.json beside it.\n")
    if chosen.docs is not None:
        update(chosen.docs, reports)
    return 0


if __name__ == "__main__":
    sys.exit(main())
