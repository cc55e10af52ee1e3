"""An emulator as a user starts it: a process of its own, found by the one JSON line that it prints."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

STOP_WITHIN_S = 10.0


@contextlib.contextmanager
def emulator(*options: str) -> Iterator[str]:
    """The URL of a new emulator with a store of its own, which is gone afterwards."""
    command = [sys.executable, "-m", "yottabench", "serve", "--port", "0", "--json", "--ephemeral", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert ready, "The emulator did not start; its standard error above says why."
            yield json.loads(ready)["url"]
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
