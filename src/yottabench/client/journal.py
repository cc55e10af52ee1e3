"""The journal of a batch: which tasks may have been sent and which are done with, so that it can go on later."""

import json
import os
import uuid
from io import BufferedRandom
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from yottabench.client.errors import JournalError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None

FORMAT = "yottabench batch"
VERSION = 1
RESERVED = 500  # tasks marked as "maybe sent" at a time: one flush to the disk serves so many


class Marks:
    """A set of small integers, one bit each."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self.count = 0

    def add(self, index: int) -> None:
        """Put it in."""
        if index in self:
            return
        missing = index // 8 + 1 - len(self._bits)
        if missing > 0:
            self._bits.extend(bytes(max(missing, len(self._bits))))
        self._bits[index // 8] |= 1 << index % 8
        self.count += 1

    def __contains__(self, index: int) -> bool:
        return index // 8 < len(self._bits) and bool(self._bits[index // 8] >> index % 8 & 1)


class Journal:
    """What is known of a batch, in memory only or in a file of JSON lines that outlives the process.

    Before tasks are sent, the file says up to which number they may have been (`started`, on the disk before the
    first of them goes out); of each task that its reader has been given, it says so (`ended`). Task ids follow from the
    batch's own id and the task's number, so a later run finds what an earlier one sent. Raises JournalError.
    """

    def __init__(self, path: str | os.PathLike[str] | None, endpoint_id: str) -> None:
        self.batch_id = uuid.uuid4().hex
        self.ended = Marks()
        self.started = 0
        self._sent_before = 0
        self._file: BufferedRandom | None = None
        if path is not None:
            self._open(Path(path), endpoint_id)

    def task_id(self, index: int) -> str:
        """The id of the task with this number, counted from 0."""
        return f"{self.batch_id}_{index}"

    def start(self, index: int) -> bool:
        """Called before this run sends a task for the first time; gives whether an earlier run may have sent it."""
        if index < self._sent_before:
            return True
        if index >= self.started:
            self.started = index + RESERVED
            self._write({"started": self.started}, on_disk=True)
        return False

    def end(self, index: int, status: str) -> None:
        """The reader has been given the task's result."""
        self.ended.add(index)
        self._write({"ended": index, "status": status})

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, path: Path, endpoint_id: str) -> None:
        try:
            path.touch(mode=0o600)
            self._file = path.open("r+b")
        except OSError as error:
            raise JournalError(
                f"The journal {path} cannot be opened: {error.strerror}. Choose another place."
            ) from error
        try:
            self._lock(path)
            if os.fstat(self._file.fileno()).st_size == 0:
                head = {"journal": FORMAT, "version": VERSION, "batch": self.batch_id, "endpoint": endpoint_id}
                self._write(head, on_disk=True)
            else:
                self._read(path, endpoint_id)
        except BaseException:
            self.close()
            raise

    def _lock(self, path: Path) -> None:
        if fcntl is None or self._file is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise JournalError(
                f"The journal {path} is in use by another batch. Wait for that one, or choose another journal."
            ) from None

    def _read(self, path: Path, endpoint_id: str) -> None:
        assert self._file is not None
        whole = 0
        for number, line in enumerate(self._file):
            if not line.endswith(b"\n"):
                break  # the process ended while it wrote this
            entry = _entry(line)
            if number == 0:
                self._check_head(path, entry, endpoint_id)
            elif isinstance(entry.get("started"), int):
                self.started = max(self.started, entry["started"])
            elif isinstance(entry.get("ended"), int):
                self.ended.add(entry["ended"])
            else:
                raise JournalError(f"Line {number + 1} of the journal {path} is damaged. Begin with a new journal.")
            whole += len(line)
        if not whole:
            raise JournalError(f"{path} is no journal of a batch. Choose another journal.")
        self._file.truncate(whole)
        self._file.seek(whole)
        self._sent_before = self.started

    def _check_head(self, path: Path, head: dict[str, Any], endpoint_id: str) -> None:
        if head.get("journal") != FORMAT or not isinstance(head.get("batch"), str):
            raise JournalError(f"{path} is no journal of a batch. Choose another journal.")
        if head.get("version") != VERSION:
            raise JournalError(f"The journal {path} is of another version of yottabench. Begin with a new journal.")
        if head.get("endpoint") != endpoint_id:
            raise JournalError(
                f"The journal {path} belongs to a batch for endpoint {head.get('endpoint')}, not {endpoint_id}. "
                "Give that endpoint, or another journal."
            )
        self.batch_id = str(head["batch"])

    def _write(self, entry: dict[str, Any], *, on_disk: bool = False) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(entry, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            if on_disk:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise JournalError(
                f"The journal cannot be written: {error.strerror}. The batch stopped; start it again once it can."
            ) from error


def _entry(line: bytes) -> dict[str, Any]:
    try:
        found: Any = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
