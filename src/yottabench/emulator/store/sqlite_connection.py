"""Connections to SQLite, through APSW: it brings an SQLite of its own, the same on every machine."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import apsw

_STATEMENTS = 512  # kept prepared; the store has some 300, most of them one statement with 1 to 64 rows

Error = apsw.Error
Values = Sequence[Any] | Mapping[str, Any]

_FLUSH_FAILED = frozenset([apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_DIR_FSYNC])


class Cursor(Protocol):
    """The rows of a statement."""

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All that are left."""
        ...

    def fetchone(self) -> Any:
        """The next one, a tuple; None when there is none."""
        ...

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...


class Connection(Protocol):
    """What the store uses of apsw.Connection, whose own types are incomplete before Python 3.12."""

    @property
    def in_transaction(self) -> bool:
        """Whether BEGIN had no end yet."""
        ...

    def execute(self, statements: str, bindings: Values = (), /) -> Cursor:
        """Run one or more statements. Raises Error."""
        ...

    def executemany(self, statements: str, sequenceofbindings: Iterable[Values], /) -> Cursor:
        """Run them once for each. Raises Error."""
        ...

    def changes(self) -> int:
        """How many rows the last statement inserted, changed or deleted."""
        ...

    def close(self) -> None:
        """Let go of the file; harmless when called twice."""
        ...


def connect(path: Path) -> Connection:
    """A connection to that file. Raises Error."""
    return cast(Connection, apsw.Connection(str(path), statementcachesize=_STATEMENTS))


def is_failed_flush(error: BaseException) -> bool:
    """Whether the system could not bring what was written to the disk. It then forgets that it was asked to."""
    return isinstance(error, Error) and getattr(error, "extendedresult", 0) in _FLUSH_FAILED
