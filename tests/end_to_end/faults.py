"""What is done to a running server from outside: its disk, its files, its memory, its time to run."""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.processes import until


@contextlib.contextmanager
def limited(pid: int, kind: int, soft: int) -> Iterator[None]:
    """The process has a limit of the system for a while, such as on the size of its files."""
    before, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (soft, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(pid, kind, (before, hard))


@contextlib.contextmanager
def failing(pid: int, path: Path, calls: str, error: str) -> Iterator[Path]:
    """System calls of the process that touch `path` fail for a while; gives the file that says which. Needs strace."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "strace.txt"
        command = ["strace", "-f", "-p", str(pid), "-P", str(path), "-e", f"trace={calls}"]
        with said.open("w") as output:
            tracer = subprocess.Popen([*command, "-e", f"inject={calls}:error={error}"], stderr=output)
        try:
            until(lambda: "attached" in said.read_text() or tracer.poll() is not None)
            if tracer.poll() is not None:
                pytest.skip(f"strace may not look into processes here: {said.read_text()}")
            yield said
        finally:
            with contextlib.suppress(ProcessLookupError):
                tracer.send_signal(signal.SIGINT)
            tracer.wait(20)


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process stands still for a while, and does not know it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def forks(pid: int) -> list[int]:
    """The processes that a server made of itself: the one that writes its store, where there is one."""
    program = Path(f"/proc/{pid}/cmdline").read_bytes()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children if Path(f"/proc/{child}/cmdline").read_bytes() == program]


def runs(pid: int) -> bool:
    """Whether there is such a process, and not only what its parent has not asked for yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def writer_of(pid: int) -> int:
    """The process that writes the store of a server: a fork of the server, or the server itself."""
    return [*forks(pid), pid][0]


def memory_mb(pid: int) -> float:
    """The resident memory of a server, and what its forks have for themselves."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    own_kb = [
        int(line.split()[1])
        for fork in forks(pid)
        for line in Path(f"/proc/{fork}/smaps_rollup").read_text().splitlines()
        if line.startswith("Private_")
    ]
    return (pages * os.sysconf("SC_PAGE_SIZE") + 1024 * sum(own_kb)) / 1e6
