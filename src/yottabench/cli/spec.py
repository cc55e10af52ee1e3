"""`yottabench spec`: compares OpenAPI documents, and tells versions of one apart."""

from typing import Annotated, Any

import attrs
import typer

from yottabench.cli.connect import AsJson, print_json, stop

EXIT_BREAKING = 1

app = typer.Typer(help="The API's OpenAPI document.", no_args_is_help=True, pretty_exceptions_show_locals=False)
Source = Annotated[str, typer.Argument(show_default=False, help="A YAML or JSON file, a URL, or: ours")]


@app.command()
def diff(old: Source, new: Source, as_json: AsJson = False) -> None:
    """Say what changed from OLD to NEW, and what of it breaks clients of OLD.

    Exit codes: 0 nothing breaks, 1 something does, 2 a document cannot be read.
    """
    from yottabench.conformance.diff import compare
    from yottabench.conformance.diff.changes import grouped, report
    from yottabench.conformance.diff.shapes import Unreadable

    try:
        changes = compare(_load(old), _load(new))
    except Unreadable as error:
        stop(str(error))
    if as_json:
        print_json([{**attrs.asdict(change), "where": places} for change, places in grouped(changes)])
    else:
        breaking = sum(change.breaking for change, _ in grouped(changes))
        others = len(grouped(changes)) - breaking
        typer.echo("\n".join(filter(None, [report(changes), f"{breaking} breaking changes, {others} others"])))
    if any(change.breaking for change in changes):
        raise typer.Exit(EXIT_BREAKING)


@app.command()
def digest(source: Source = "ours") -> None:
    """Print a short name for what the document demands; descriptions and examples have no part in it."""
    from yottabench.conformance.diff.shapes import Document, Unreadable
    from yottabench.conformance.diff.sources import digest as digest_of

    try:
        typer.echo(digest_of(Document(_load(source)).raw))
    except Unreadable as error:
        stop(str(error))


def _load(source: str) -> Any:
    from yottabench.conformance.diff.sources import load
    from yottabench.spec import SpecUnavailable

    try:
        return load(source)
    except ModuleNotFoundError as error:
        stop(f"`yottabench spec` needs the package {error.name}. Install: pip install 'yottabench[conformance]'")
    except SpecUnavailable as error:
        stop(str(error))
