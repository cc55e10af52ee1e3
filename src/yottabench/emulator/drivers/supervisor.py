"""A small program between the server and one command: it ends the command whole, also when the server is killed.

It imports nothing of yottabench and runs as `python -I -S supervisor.py`. The first line of standard input is a JSON
object with `argv`, `env` and `cwd`; after it standard input says nothing more, and its end means: kill everything now.
SIGTERM is passed on to the command's process group. When the command ends, what it has left behind is killed, and the
supervisor ends in the way the command did: with the same code, or by the same signal.

On Linux it adopts every descendant that loses its parent (also one that became a daemon), so none is missed; and a
command whose supervisor is killed dies with it. Elsewhere the command's process group is what is killed.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CANNOT_START = 127  # as shells have it


class Supervisor:
    """Runs one command to its end."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: str) -> None:
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, _do_nothing)
        self._prctl = _prctl()
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self._status: int | None = None
        self._pid = self._spawn(argv, env, cwd)

    def _spawn(self, argv: list[str], env: dict[str, str], cwd: str) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGPIPE, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() == parent:  # else it died before the line above
                os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
                os.chdir(cwd)
                os.execvpe(argv[0], argv, env)  # noqa: S606 -- that there is no shell is the point
        except BaseException as error:  # whatever it is, this copy of the process must not go on
            what = error.strerror if isinstance(error, OSError) else repr(error)
            with contextlib.suppress(OSError):
                os.write(2, f"cannot start {argv[0]}: {what}\n".encode())
        os._exit(_CANNOT_START)

    def run(self) -> int:
        """Return the wait status of the command once nothing of it is left."""
        watched = [0, self._woken]
        while self._status is None:
            ready, _, _ = select.select(watched, [], [])
            if 0 in ready and not os.read(0, 4096):
                watched = [self._woken]
                self._kill_all()
            if self._woken in ready:
                for number in os.read(self._woken, 4096):
                    if number == signal.SIGTERM:
                        self._signal_group(signal.SIGTERM)
                self._reap()
        self._kill_all()
        return self._status

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    return
                self._note(pid, status)

    def _note(self, pid: int, status: int) -> None:
        if pid == self._pid:
            self._status = status

    def _signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    def _kill_all(self) -> None:
        self._signal_group(signal.SIGKILL)
        # A killed child leaves its own children to us, so this goes on until there are none.
        with contextlib.suppress(ChildProcessError):
            while children := _children():
                for pid in children:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
                self._note(*os.waitpid(-1, 0))
        while self._status is None:  # where children cannot be listed
            self._note(*os.waitpid(self._pid, 0))


def _children() -> list[int]:
    try:
        with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as listing:  # noqa: PTH123 -- no pathlib: this program starts with every worker
            return [int(pid) for pid in listing.read().split()]
    except OSError:
        return []


def _prctl() -> Callable[[int, int], object]:
    if not sys.platform.startswith("linux"):
        return lambda option, value: 0
    call = ctypes.CDLL(None).prctl
    return lambda option, value: call(option, ctypes.c_ulong(value), 0, 0, 0)


def _do_nothing(number: int, frame: object) -> None:
    pass


def _first_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        # One byte at a time would be slow and more than the line is never sent, so nothing behind it is lost.
        piece = os.read(0, 65536)
        if not piece:
            sys.exit(1)
        line += piece
    return line


def main() -> None:
    """Run the command that standard input describes and end as it did."""
    config = json.loads(_first_line())
    status = Supervisor(config["argv"], config["env"], config["cwd"]).run()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1)


if __name__ == "__main__":
    main()
