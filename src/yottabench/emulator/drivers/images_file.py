"""The images file (`images.toml`): which images run as a command of this machine or are servers elsewhere."""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import attrs

from yottabench.emulator.drivers.readiness import DEFAULT_TIMEOUT_S, Check, Readiness

_HEADER = re.compile(r"^\s*\[\[\s*image\s*\]\]", re.MULTILINE)
_URL = re.compile(r"(https?)://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}|\{port\}))?/?")
_WORKERS_PER_URL_MAX = 1000
_TIMEOUT_MAX_S = 86_400.0
_PORT_MAX = 65_535


class ImagesFileError(Exception):
    """The images file cannot be used; the message says where, what, and what to do."""


@attrs.frozen
class Url:
    """Where a server elsewhere is; `port` None: each task's own `workerPort`."""

    text: str
    tls: bool
    host: str
    port: int | None


@attrs.frozen
class CommandImage:
    """An image that is a command of this machine."""

    pattern: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = attrs.field(repr=False)
    inherit: tuple[str, ...]
    working_directory: Path
    port: int | None
    initialization_shell: str
    ready: Readiness


@attrs.frozen
class ExternalImage:
    """An image that is servers elsewhere, which this program neither starts nor stops."""

    pattern: str
    urls: tuple[Url, ...]
    workers_per_url: int
    port: int | None
    ready: Readiness


@attrs.frozen
class Images:
    """What the images file says, in its order."""

    entries: tuple[CommandImage | ExternalImage, ...] = ()

    def find(self, image: str) -> CommandImage | ExternalImage | None:
        """The first entry whose pattern fits `image`; a pattern without tag or digest fits every one of them."""
        bare = without_tag(image)
        for entry in self.entries:
            names = (image, bare) if without_tag(entry.pattern) == entry.pattern else (image,)
            if any(fnmatch.fnmatchcase(name, entry.pattern) for name in names):
                return entry
        return None


def without_tag(image: str) -> str:
    """`registry:5000/name` of `registry:5000/name:tag@digest`."""
    folder, slash, name = image.partition("@")[0].rpartition("/")
    return folder + slash + name.partition(":")[0]


def read_images_file(path: Path) -> Images:
    """Read `path`. Raises ImagesFileError for the first thing that is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except OSError as error:
        raise ImagesFileError(
            f"{path} cannot be read: {error.strerror}. Name another file with --images, or create this one."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImagesFileError(f"{path} is no TOML: {error}. Correct it there.") from None
    top = _Table(str(path), document)
    entries = top.tables("image")
    top.nothing_else()
    lines = [text.count("\n", 0, found.end()) + 1 for found in _HEADER.finditer(text)]
    if len(lines) != len(entries):
        lines = []  # written as an inline array
    return Images(
        tuple(_entry(path, index, lines[index] if lines else None, values) for index, values in enumerate(entries))
    )


def _entry(path: Path, index: int, line: int | None, values: dict[str, Any]) -> CommandImage | ExternalImage:
    name = values.get("pattern")
    shown = f' ("{name}")' if isinstance(name, str) else ""
    where = f"{path}{f', line {line}' if line else ''}, [[image]] no. {index + 1}{shown}"
    table = _Table(where, values)
    if ("command" in values) == ("urls" in values):
        raise table.wrong(
            None,
            "has both command and urls" if "command" in values else "has neither command nor urls",
            "Give command (a list of arguments) for a program to start, or urls (a list) for servers that run already",
        )
    entry = _command(path, table) if "command" in values else _external(table)
    table.nothing_else()
    return entry


def _command(path: Path, table: _Table) -> CommandImage:
    folder = path.resolve().parent / table.text("working_directory", ".")
    if not folder.is_dir():
        raise table.wrong("working_directory", f"is no folder: {folder}", "Create it or name another")
    entry = CommandImage(
        pattern=table.text("pattern"),
        command=table.texts("command"),
        environment=table.text_table("environment"),
        inherit=table.texts("inherit", ()),
        working_directory=folder,
        port=table.integer("port", None, 1, _PORT_MAX),
        initialization_shell=table.text("initialization_shell", "/bin/sh", empty=True),
        ready=_readiness(table, with_log=True),
    )
    if not entry.command or not entry.command[0]:
        raise table.wrong("command", "names no program", 'Write command = ["program", "argument", ...]')
    return entry


def _external(table: _Table) -> ExternalImage:
    urls = tuple(_url(table, text) for text in table.texts("urls"))
    if not urls:
        raise table.wrong("urls", "is empty", 'Write urls = ["http://127.0.0.1:8000", ...]')
    return ExternalImage(
        pattern=table.text("pattern"),
        urls=urls,
        workers_per_url=cast("int", table.integer("workers_per_url", 1, 1, _WORKERS_PER_URL_MAX)),
        port=table.integer("port", None, 1, _PORT_MAX),
        ready=_readiness(table, with_log=False),
    )


def _url(table: _Table, text: str) -> Url:
    found = _URL.fullmatch(text)
    shown = re.sub("//.*@", "//***@", text)
    if found is None:
        raise table.wrong(
            "urls",
            f"holds {shown!r}, which is no server's address",
            "Write http://host:port or https://host:port, without a path (a task's processUri is the path); with"
            " {port} for the port, each task's workerPort is used",
        )
    scheme, host, port = found.groups()
    default = 443 if scheme == "https" else 80
    number = None if port == "{port}" else int(port or default)
    if number is not None and not 1 <= number <= _PORT_MAX:
        raise table.wrong("urls", f"holds {text!r}, whose port does not exist", "Ports are 1 to 65535")
    return Url(text.rstrip("/"), scheme == "https", host.strip("[]"), number)


def _readiness(table: _Table, *, with_log: bool) -> Readiness:
    ready = table.table("ready")
    checks = [name for name in ("tcp", "http", "log", "none") if name in ready.values]
    known = 'tcp = true, http = "/path", log = "regular expression" or none = true'
    if len(checks) > 1:
        raise ready.wrong(checks[1], f"comes besides {checks[0]}", f"Give one of {known}")
    if checks == ["log"] and not with_log:
        raise ready.wrong("log", "cannot be looked at: the output of servers elsewhere is not seen", "Use http or tcp")
    check = cast("Check", checks[0]) if checks else "auto"
    if check in {"tcp", "none"} and ready.values[check] is not True:
        raise ready.wrong(check, "must be true", f"Give one of {known}")
    readiness = Readiness(
        check=check,
        path=ready.text("http", "/"),
        line=_pattern(ready) if check == "log" else None,
        port=ready.integer("port", None, 1, _PORT_MAX),
        timeout_s=ready.number("timeout_s", DEFAULT_TIMEOUT_S, _TIMEOUT_MAX_S),
    )
    if not re.fullmatch(r"/[!-~]*", readiness.path):
        raise ready.wrong("http", f"must be a path, not {readiness.path!r}", 'Begin it with a slash: http = "/health"')
    ready.nothing_else(besides=("tcp", "none"))
    return readiness


def _pattern(ready: _Table) -> re.Pattern[str]:
    text = ready.text("log")
    try:
        return re.compile(text)
    except re.error as error:
        raise ready.wrong("log", f"is no regular expression: {error}", "See Python's re for how to write one") from None


class _Table:
    """One table of the file; whatever is asked of it twice or never is an error that says where."""

    def __init__(self, where: str, values: dict[str, Any]) -> None:
        self.values = values
        self._where = where
        self._asked: set[str] = set()

    def wrong(self, name: str | None, what: str, hint: str) -> ImagesFileError:
        """The error that says so of `name`, or of the whole table."""
        return ImagesFileError(f"{self._where}: {f'{name} ' if name else ''}{what}. {hint}.")

    def _get(self, name: str, default: Any) -> Any:
        self._asked.add(name)
        return self.values.get(name, default)

    def text(self, name: str, default: str | None = None, *, empty: bool = False) -> str:
        """A text; `empty` says whether it may be."""
        value = self._get(name, default)
        if not isinstance(value, str) or "\0" in value or not (value or empty):
            hint = f'Write {name} = "..."'
            raise self.wrong(name, "is missing" if value is None else "must be a text", hint)
        return value

    def texts(self, name: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of texts."""
        value = self._get(name, default)
        if not isinstance(value, (list, tuple)) or not all(
            isinstance(each, str) and "\0" not in each for each in cast("list[Any]", value)
        ):
            raise self.wrong(name, "must be a list of texts", f'Write {name} = ["...", "..."]')
        return tuple(cast("list[str]", value))

    def text_table(self, name: str) -> dict[str, str]:
        """A table of texts."""
        value = self._get(name, {})
        valid = isinstance(value, dict) and all(
            isinstance(each, str) and "\0" not in each + key and key and "=" not in key
            for key, each in cast("dict[str, Any]", value).items()
        )
        if not valid:
            raise self.wrong(name, "must be a table of texts", f'Write {name} = {{ NAME = "value" }}')
        return cast("dict[str, str]", value)

    def integer(self, name: str, default: int | None, lowest: int, highest: int) -> int | None:
        """A whole number in these bounds."""
        value = self._get(name, default)
        if value is not default and (type(value) is not int or not lowest <= value <= highest):
            raise self.wrong(name, f"must be a whole number from {lowest} to {highest}", "Change it")
        return value

    def number(self, name: str, default: float, highest: float) -> float:
        """A number above 0."""
        value = self._get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= highest:
            raise self.wrong(name, f"must be a number of seconds above 0, at most {highest:g}", "Change it")
        return float(value)

    def table(self, name: str) -> _Table:
        """A table; empty when it is missing."""
        value = self._get(name, {})
        if not isinstance(value, dict):
            raise self.wrong(name, "must be a table", f'Write {name} = {{ http = "/health" }}')
        return _Table(f"{self._where}, {name}", cast("dict[str, Any]", value))

    def tables(self, name: str) -> list[dict[str, Any]]:
        """A list of tables; empty when it is missing."""
        value = self._get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in cast("list[Any]", value)):
            raise self.wrong(name, "must be a list of tables", f"Begin each with a line [[{name}]]")
        return cast("list[dict[str, Any]]", value)

    def nothing_else(self, besides: tuple[str, ...] = ()) -> None:
        """Refuse what nobody asked for: most likely a slip of the pen."""
        known = sorted({*self._asked, *besides})
        for name in self.values:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                hint = f"Did you mean {close[0]}" if close else f"Known are {', '.join(known)}"
                raise self.wrong(name, "is not known here", hint)
