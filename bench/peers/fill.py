"""`python -m bench.peers.fill QUEUE COUNT`: puts tasks into a queue; `--commands`: prints those of its workers.

A queue that can take many tasks in one go has them so (`fill`); with `--submit` each comes by itself.
"""

import asyncio
import importlib
import inspect
import json
import sys

queue = importlib.import_module(f"bench.peers.{sys.argv[1]}")
if sys.argv[2] == "--commands":
    print(json.dumps({"worker": queue.WORKER, "schema": getattr(queue, "SCHEMA", None)}))  # noqa: T201 -- the line is its interface
else:
    fill = getattr(queue, "submit", queue.fill) if "--submit" in sys.argv else queue.fill
    filled = fill(int(sys.argv[2]))
    if inspect.iscoroutine(filled):
        asyncio.run(filled)
