"""How many tasks there are: of each state, and of each state in each block of seqs, so that a page far in is found."""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from yottabench.emulator.store.base import TaskState
from yottabench.emulator.store.sqlite_connection import Connection

# A block holds 2**bits seqs, a large one 64 small ones. To find a page is to read the large blocks before it, the small
# ones before it in its large one, and to pass over what is left: with ten million tasks some 80, 64 and 2,048 at most.
BLOCK_BITS = (17, 11)  # what is in the tables was counted by these: another choice needs a migration
PASSED_OVER_MAX = 2 ** BLOCK_BITS[-1]
HIGHEST_SEQ = 2**63 - 1

_PUT_STATE = (
    "INSERT INTO task_count (endpoint_id, state, n) VALUES (?, ?, ?)"
    " ON CONFLICT (endpoint_id, state) DO UPDATE SET n = n + excluded.n"
)
_PUT_BLOCK = (
    "INSERT INTO task_block (endpoint_id, bits, block, state, n) VALUES (?, ?, ?, ?, ?)"
    " ON CONFLICT (endpoint_id, bits, block, state) DO UPDATE SET n = n + excluded.n"
)
# Tasks move on through the blocks for as long as the server lives: what is empty must not stay behind.
_DROP_EMPTY_BLOCK = "DELETE FROM task_block WHERE endpoint_id = ? AND bits = ? AND block = ? AND state = ? AND n = 0"


class CountChanges:
    """What one transaction adds to the counts and takes from them."""

    def __init__(self) -> None:
        self._small: defaultdict[tuple[int, int, int], int] = defaultdict(int)  # by endpoint, small block, state

    def add(self, endpoint_id: int, seq: int, state: int, tasks: int = 1) -> None:
        """A task came into the state, or with -1 left it."""
        self._small[endpoint_id, seq >> BLOCK_BITS[-1], state] += tasks

    def move(self, tasks: Iterable[tuple[int, int]], source: int | None, target: int) -> None:
        """Tasks, each by endpoint and seq, came into `target` from `source`; None: they are new."""
        blocks = Counter([(endpoint_id, seq >> BLOCK_BITS[-1]) for endpoint_id, seq in tasks])
        for (endpoint_id, block), count in blocks.items():
            self._small[endpoint_id, block, target] += count
            if source is not None:
                self._small[endpoint_id, block, source] -= count

    def forget(self, endpoint_ids: Collection[int]) -> None:
        """These endpoints were cleared, and their counts with them."""
        for key in [key for key in self._small if key[0] in endpoint_ids]:
            del self._small[key]

    def clear(self) -> None:
        """Begin anew."""
        self._small.clear()

    def write(self, connection: Connection) -> None:
        """Bring the tables up to date, within the transaction that moved the tasks."""
        states: defaultdict[tuple[int, int], int] = defaultdict(int)
        blocks: defaultdict[tuple[int, int, int, int], int] = defaultdict(int)
        for (endpoint_id, small, state), change in self._small.items():
            if change:
                states[endpoint_id, state] += change
                for bits in BLOCK_BITS:
                    blocks[endpoint_id, bits, small >> (bits - BLOCK_BITS[-1]), state] += change
        connection.executemany(_PUT_STATE, [(*key, change) for key, change in states.items() if change])
        connection.executemany(_PUT_BLOCK, [(*key, change) for key, change in blocks.items() if change])
        connection.executemany(_DROP_EMPTY_BLOCK, [key for key, change in blocks.items() if change < 0])


def start_of_page(
    rows: Callable[[str, Sequence[Any]], list[tuple[Any, ...]]],
    endpoint_id: int,
    states: Sequence[TaskState],
    order: str,
    offset: int,
) -> tuple[int, int]:
    """The seq from which to read on in `order` (DESC or ASC, the seq included), and how many to pass over from there.

    The endpoint must have more than `offset` tasks in these states. `rows` reads in the page's transaction.
    """
    low, high = 0, HIGHEST_SEQ
    if offset > PASSED_OVER_MAX:
        blocks = (
            "SELECT block, sum(n) FROM task_block WHERE endpoint_id = ? AND bits = ? AND block BETWEEN ? AND ?"  # noqa: S608 -- constants only
            f" AND state IN ({', '.join('?' * len(states))}) GROUP BY block ORDER BY block {order}"
        )
        for bits in BLOCK_BITS:
            for block, tasks in rows(blocks, (endpoint_id, bits, low >> bits, high >> bits, *states)):
                if offset < tasks:
                    low, high = block << bits, ((block + 1) << bits) - 1
                    break
                offset -= tasks
    return (high if order == "DESC" else low), offset
