"""Starts servers and wrk for a benchmark, each on a core of its own, and ends them."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import attrs

SERVER_CORE, LOAD_CORE = "0", "1"


class CannotMeasure(Exception):
    """Something that the benchmark needs is not on this machine."""


@attrs.frozen
class Server:
    """A server that is ready."""

    url: str
    pid: int
    ready_s: float

    @property
    def cpu_s(self) -> float:
        """Processor time that it and its processes have used so far, in all their threads."""
        times = [
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13]
            for pid in (self.pid, *self._children())
        ]
        return sum(int(ticks) for both in times for ticks in both) / os.sysconf("SC_CLK_TCK")

    @property
    def memory_mb(self) -> float:
        """Resident memory in MB; of processes that it made of itself, what they have for themselves."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="utf-8")
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        if match is None:
            raise CannotMeasure("This system does not tell the memory of a process.")
        own_kb = [
            int(kb)
            for pid in self._children()
            for kb in re.findall(
                r"Private_\w+:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
            )
        ]
        return (int(match[1]) + sum(own_kb)) / 1024

    def _children(self) -> list[str]:
        return Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="utf-8").split()


@contextlib.contextmanager
def server(module: str, *options: str, core: str | None = SERVER_CORE) -> Generator[Server]:
    """`python -m module options`, pinned to `core` if any; it must print one JSON line with `url` and `pid`."""
    started = time.perf_counter()
    command = [*_pinned(core), sys.executable, "-m", module, *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise CannotMeasure(f"{module} did not start.")
        ready = json.loads(line)
        yield Server(ready["url"], ready["pid"], time.perf_counter() - started)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _pinned(core: str | None) -> list[str]:
    return [] if core is None else ["taskset", "-c", core]


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that was started in a session of its own, with all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)


@attrs.frozen
class Wrk:
    """What wrk measured."""

    per_s: float
    p99_ms: float
    requests: int


def wrk(url: str, connections: int, seconds: int, *, body: str | None = None, core: str | None = LOAD_CORE) -> Wrk:
    """Drive `url` with wrk from the other core: GET, or POST of `body`."""
    if shutil.which("wrk") is None:
        raise CannotMeasure("wrk is not installed. On Debian: apt-get install wrk.")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write('wrk.headers["X-Api-Key"] = "bench"\n')
        if body is not None:
            script.write(
                f'wrk.method = "POST"\nwrk.body = [[{body}]]\nwrk.headers["Content-Type"] = "application/json"\n'
            )
        script.flush()
        output = _run(
            [
                *_pinned(core),
                "wrk",
                "-t1",
                f"-c{connections}",
                f"-d{seconds}s",
                "-s",
                script.name,
                "--latency",
                url,
            ]
        )
    if "Non-2xx" in output:
        raise CannotMeasure(f"Some answers of {url} were no success:\n{output}")
    per_s = re.search(r"Requests/sec:\s+([\d.]+)", output)
    requests = re.search(r"(\d+) requests in", output)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if per_s is None or p99 is None or requests is None:
        raise CannotMeasure(f"wrk said what was not understood:\n{output}")
    return Wrk(float(per_s[1]), float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]], int(requests[1]))


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if done.returncode != 0:
        raise CannotMeasure(f"{command[0]} failed: {done.stderr or done.stdout}")
    return done.stdout
