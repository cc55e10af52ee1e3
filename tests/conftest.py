"""What every test may use."""

import os
import signal

import pytest
from hypothesis import settings

# No deadline: how long an example takes says more about the machine than about the code.
settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=1_000)
# For `make mutation`, where each test runs a thousand times: the edges are all tried without it.
settings.register_profile("mutation", deadline=None, max_examples=10, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# A shell's background jobs ignore Ctrl-C, and so do all that they start: what is interrupted here would never end.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"
