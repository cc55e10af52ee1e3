"""A process that writes to a store and says on its standard output what was answered, until somebody kills it."""

import itertools
import sys
from pathlib import Path

from yottabench.emulator.store import base
from yottabench.emulator.store.base import TaskState
from yottabench.emulator.store.sqlite import SqliteStore

NOW_MS = 1_800_000_000_000


def submit(name: str) -> base.SubmitTask:
    return base.SubmitTask(
        endpoint_id=1,
        task_id=name,
        input=b'"%s"' % name.encode(),
        worker_port=1,
        process_uri="/",
        webhook="http://127.0.0.1:9/",
        webhook_auth_key=None,
        headers=None,
        now_ms=NOW_MS,
    )


def main(folder: Path, first: int) -> None:
    store = SqliteStore(folder)
    store.recover(NOW_MS)
    for number in itertools.count(first):
        names = [f"n{number}_{each}" for each in range(number % 5 + 1)]
        submitted = store.apply([submit(name) for name in names])
        tell(f"submitted {' '.join(names)}")
        one = submitted[0].seq
        store.apply([base.LeaseTask(seq=one, fence=0, worker_id=1, worker_url="", deadline_ms=NOW_MS, now_ms=NOW_MS)])
        store.apply(
            [base.FinishTask(seq=one, fence=1, state=TaskState.SUCCEEDED, output=b'"done"', error=None, now_ms=NOW_MS)]
        )
        tell(f"finished {names[0]}")


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
