"""A batch: many tasks in constant memory, with progress, and a journal by which it goes on after an interruption.

Run it as first_task.py. Press Ctrl-C in the middle and run it again: it goes on where it was.
"""

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yottabench.client import BatchProgress, Client
from yottabench.client.models import Endpoint

GPU = {"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}


def inputs(count: int) -> Iterator[dict[str, Any]]:
    """Made one by one, as they are needed; in a real batch, lines of a file or rows of a database."""
    for number in range(count):
        yield {"prompt": f"Describe the number {number}."}


def show(progress: BatchProgress) -> None:
    print(f"\r{progress.ended + progress.skipped} done, {progress.open} open", end="", file=sys.stderr)


def the_endpoint(client: Client) -> Endpoint:
    """That of an earlier run, if it is still there: its journal belongs to it."""
    for endpoint in client.endpoints.list():
        if endpoint.name == "batch":
            return endpoint
    return client.endpoints.create(
        name="batch", image="sim/echo", resources=[GPU], workers=4, container_volume_in_gb=20, service_mode="QUEUE"
    )


def main(count: int = 500, journal: Path = Path("batch.journal")) -> None:
    outcomes: Counter[str] = Counter()
    with Client() as client:
        endpoint = the_endpoint(client)
        results = client.tasks.submit_many(
            endpoint.id,
            inputs(count),
            worker_port=8000,
            process_uri="/describe",
            journal=journal,
            on_progress=show,
        )
        for result in results:
            outcomes[result.outcome] += 1
            if result.error is not None:
                print(f"\ntask {result.index} was refused: {result.error}")
        client.endpoints.delete(endpoint.id)
    journal.unlink()
    print("\noutcomes:", dict(outcomes))


if __name__ == "__main__":
    main()
