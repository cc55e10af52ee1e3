"""The command line: `yottabench`."""

import sys


def main() -> None:
    """Entry point of the console script."""
    from yottabench.cli.app import build

    build()(prog_name="yottabench", args=sys.argv[1:])
