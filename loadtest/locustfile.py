"""The locustfile: `locust -f loadtest/locustfile.py`, or plain `locust` in a checkout."""

import sys
from pathlib import Path

# Locust puts the locustfile's own folder on the path; `loadtest` is importable from the folder above it.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import locust

from loadtest.plugin import install
from loadtest.users import QueueUser

__all__ = ["QueueUser"]

install(locust.events)
