"""Redis, PostgreSQL and the environment of the other queues, each on a port and in a folder of its own."""

import contextlib
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from bench.processes import CannotMeasure, end

_REQUIREMENTS = Path(__file__).parent / "peers" / "requirements.txt"
_READY_S = 30


def environment() -> Path:
    """The bin folder of an environment with what bench/peers/requirements.txt pins; made when it is not there."""
    digest = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()[:12]
    folder = Path(".cache").resolve() / f"bench-peers-{digest}"
    if not (folder / "whole").exists():
        install = [folder / "bin/python", "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
        for command in (
            [sys.executable, "-m", "venv", "--clear", folder],
            [*install, "--require-hashes", "--requirement", _REQUIREMENTS],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise CannotMeasure(f"The environment of the other queues cannot be made:\n{done.stderr[-2000:]}")
        (folder / "whole").touch()
    return folder / "bin"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    until_s = time.monotonic() + _READY_S
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise CannotMeasure(f"{process.args} did not start.")


@contextlib.contextmanager
def _service(command: Sequence[str], port: int) -> Generator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _wait_for(port, process)
        yield
    finally:
        end(process)


@contextlib.contextmanager
def redis() -> Generator[str]:
    """A Redis without persistence, the quickest that it can be; gives its URL."""
    program = shutil.which("redis-server")
    if program is None:
        raise CannotMeasure("redis-server is not installed. On Debian: apt-get install redis-server.")
    port = _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"]
    with tempfile.TemporaryDirectory() as folder, _service([program, *options, "--dir", folder], port):
        yield f"redis://127.0.0.1:{port}/0"


def _postgres_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    where = shutil.which("initdb") or (found[-1] if found else None)
    if where is None:
        raise CannotMeasure("PostgreSQL is not installed. On Debian: apt-get install postgresql.")
    return Path(where).resolve().parent


@contextlib.contextmanager
def postgres() -> Generator[str]:
    """A PostgreSQL as it comes, in a new folder; gives its URL."""
    programs = _postgres_programs()
    port = _free_port()
    # It refuses to run as root; its package brings a user.
    as_user: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        if os.geteuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            as_user = ["setpriv", "--reuid", "postgres", "--regid", str(user.pw_gid), "--clear-groups"]
        data = f"{folder}/data"
        make = [*as_user, f"{programs}/initdb", "-D", data, "-U", "bench", "-A", "trust"]
        done = subprocess.run(make, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode != 0:
            raise CannotMeasure(f"PostgreSQL cannot be set up here: {done.stderr[-500:]}")
        serve = [*as_user, f"{programs}/postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        with _service(serve, port):
            time.sleep(1)  # it listens a moment before it lets anybody in
            yield f"postgresql://bench@127.0.0.1:{port}/postgres"
