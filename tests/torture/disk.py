"""A disk that remembers every write and sync, and what a crash or a loss of power leaves of them.

SQLite runs on it through a VFS. The store's own code, statements and pragmas run unchanged: `on_disk` only names the
VFS when the store opens a connection.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import apsw
import attrs

from yottabench.emulator.store import sqlite_reads

SECTOR = 512
_JOURNALS = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL


@attrs.frozen
class Op:
    """One thing that the disk was asked for; `mark` is ours: what the store had answered by then."""

    kind: str  # open, write, truncate, sync, delete, sync folder, mark
    file: str = ""
    offset: int = 0
    data: bytes = b""


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, filename: Any, flags: Any) -> None:
        super().__init__("unix", filename, flags)
        self._disk = disk
        self._name = Path(filename if isinstance(filename, str) else filename.filename()).name
        wanted = flags[0] if isinstance(flags, list) else flags
        # As SQLite's own files do: the first sync of a new journal or WAL syncs its folder too.
        self._syncs_folder = bool(wanted & apsw.SQLITE_OPEN_CREATE and wanted & _JOURNALS)
        disk.ops.append(Op("open", self._name))

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self._disk.ops.append(Op("write", self._name, offset, bytes(data)))

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self._disk.ops.append(Op("truncate", self._name, newsize))

    def xSync(self, flags: int) -> None:
        self._disk.ops.append(Op("sync", self._name))
        if self._syncs_folder:
            self._disk.ops.append(Op("sync folder"))
            self._syncs_folder = False


class Disk(apsw.VFS):
    """Passes everything on to the system's files, and keeps `ops`. A sync is only noted: nothing needs a real one."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "unix")
        self.name = name
        self.ops: list[Op] = []

    def xOpen(self, name: Any, flags: Any) -> _File:
        return _File(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        self.ops.append(Op("delete", Path(filename).name, int(syncdir)))

    def mark(self, number: int) -> None:
        """The store has answered `number` calls."""
        self.ops.append(Op("mark", offset=number))


@contextlib.contextmanager
def on_disk(disk: Disk) -> Iterator[None]:
    """Stores that are opened in here are on that disk."""

    def connect(path: Path) -> apsw.Connection:
        return apsw.Connection(str(path), vfs=disk.name)

    with mock.patch.object(sqlite_reads, "connect", connect):
        yield


# ---- what is left


@attrs.define
class _Kept:
    """One file: what was synced of it, what was asked for since, and what it would be if all of that survived."""

    synced: bytearray | None = None
    since: list[Op] = attrs.field(factory=list)
    whole: bytearray | None = None

    def settle_name(self) -> None:
        """Whether there is such a file is certain from here on; what is in it is not."""
        deleted = max((place for place, op in enumerate(self.since) if op.kind == "delete"), default=-1)
        if deleted >= 0:
            self.synced = None
            del self.since[: deleted + 1]
        if self.whole is not None and self.synced is None:
            self.synced = bytearray()
        self.since = [op for op in self.since if op.kind != "open"]


def _apply(content: bytearray | None, op: Op, chance: random.Random | None, survives: float) -> bytearray | None:
    """The content after an operation; with `chance`, of each sector of a write, and of all else, only maybe."""

    def lost() -> bool:
        return chance is not None and chance.random() >= survives

    if op.kind == "delete":
        return content if lost() else None
    if op.kind == "open":
        return content if content is not None or lost() else bytearray()
    if content is None:
        content = bytearray()
    if op.kind == "truncate":
        if not lost():
            del content[op.offset :]
        return content
    step = SECTOR - op.offset % SECTOR
    start = 0
    while start < len(op.data):
        piece = op.data[start : start + step]
        if not lost():
            at = op.offset + start
            content.extend(bytes(max(0, at - len(content))))
            content[at : at + len(piece)] = piece
        start += step
        step = SECTOR
    return content


class Platter:
    """Follows the operations one by one, and says what would be found if all ended after the last of them."""

    def __init__(self) -> None:
        self._files: dict[str, _Kept] = {}
        self.answered = 0

    def holds(self, name: str, content: bytes) -> None:
        """A file that was there, and durable, before the first operation."""
        self._files[name] = _Kept(synced=bytearray(content), whole=bytearray(content))

    def follow(self, op: Op) -> None:
        """One more operation has taken place."""
        if op.kind == "mark":
            self.answered = op.offset
            return
        if op.kind == "sync folder":
            for file in self._files.values():
                file.settle_name()
            return
        file = self._files.setdefault(op.file, _Kept())
        if op.kind == "sync":
            file.synced = None if file.whole is None else bytearray(file.whole)
            file.since.clear()
            return
        file.whole = _apply(file.whole, op, None, 1)
        file.since.append(op)
        if op.kind == "delete" and op.offset:  # with its folder synced
            file.settle_name()

    def after_a_crash(self) -> dict[str, bytes]:
        """The process ended: the system still has all that was written."""
        return {name: bytes(file.whole) for name, file in self._files.items() if file.whole is not None}

    def after_a_power_loss(self, chance: random.Random) -> dict[str, bytes]:
        """What was synced is there; of all that came after, any part, in pieces of a sector."""
        survives = chance.choice([0.0, 0.0, 0.2, 0.5, 0.9, 1.0])
        left: dict[str, bytes] = {}
        for name, file in self._files.items():
            content = None if file.synced is None else bytearray(file.synced)
            for op in file.since:
                content = _apply(content, op, chance, survives)
            if content is not None:
                left[name] = bytes(content)
        return left


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """Files of a disk, in a folder of their own."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
