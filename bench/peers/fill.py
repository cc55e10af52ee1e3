"""`python -m bench.peers.fill QUEUE COUNT`: puts tasks into a queue; `--commands`: prints those of its workers."""

import asyncio
import importlib
import inspect
import json
import sys

queue = importlib.import_module(f"bench.peers.{sys.argv[1]}")
if sys.argv[2] == "--commands":
    print(json.dumps({"worker": queue.WORKER, "schema": getattr(queue, "SCHEMA", None)}))  # noqa: T201 -- the line is its interface
elif inspect.iscoroutinefunction(queue.fill):
    asyncio.run(queue.fill(int(sys.argv[2])))
else:
    queue.fill(int(sys.argv[2]))
