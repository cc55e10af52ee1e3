"""The command line: `yottabench`."""

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        from yottabench.cli.app import build
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("yottabench"):
            raise
        sys.exit(f"The command needs the package {error.name}. Install it with: pip install 'yottabench[cli]'")

    build()(prog_name="yottabench", args=sys.argv[1:])
