"""Real servers in processes of their own, for tests that go through real ports."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path


@contextlib.contextmanager
def emulator(data: Path, *options: str) -> Generator[str]:
    """`yottabench serve` on a free port and the folder `data`; gives its URL, and ends it politely."""
    command = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", "--data", str(data), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        process.stdout.close()
