"""The command line: `yottabench`."""

import sys


def main() -> None:
    """Entry point of the console script."""
    try:
        import typer

        from yottabench.cli.app import build
        from yottabench.cli.connect import EXIT_INTERRUPTED, usage_error
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("yottabench"):
            raise
        sys.exit(f"The command needs the package {error.name}. Install it with: pip install 'yottabench[cli]'")

    arguments = sys.argv[1:]
    try:
        code = build()(prog_name="yottabench", args=arguments, standalone_mode=False)
    except typer.TyperException as error:
        code = usage_error(error, "--json" in arguments)
    except typer.Abort:
        code = EXIT_INTERRUPTED
    sys.exit(code or 0)
