"""A folder for thousands of small files that come and go: in memory where that is possible."""

import contextlib
import os
import tempfile
from collections.abc import Generator
from pathlib import Path

_MEMORY = Path("/dev/shm")


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """Gone when the block ends."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if os.access(_MEMORY, os.W_OK) else None) as folder:
        yield Path(folder)
