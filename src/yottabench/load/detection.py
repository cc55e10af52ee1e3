"""How a run learns that a task has ended: the ways there are, their settings, and when a task is looked at next."""

import bisect
from collections import deque

import attrs

from yottabench.load.tables import ProfileError, setting

MODES = ("hybrid", "get-fixed", "get-backoff", "get-quantile", "list-sweep", "webhook")
# Looks are reads, of which the v1 service takes 60 a second for each endpoint.
API_QPS_PRESETS = {"v1": 60.0}
LEAST_SAMPLES = 20  # ended tasks before their times say when the next one may end
MOST_SAMPLES = 1000  # the newest ended tasks are remembered; older ones may stem from another load


@attrs.frozen
class Detection:
    """How the run learns that a task has ended.

    `get-fixed` asks for each task by itself every `interval_ms`. `get-backoff` asks first after `first_ms`, then at
    intervals that grow by `factor` to `longest_ms`. `get-quantile` asks when the share `quantile` of the tasks that
    took at least as long had ended, as the newest ended tasks tell; before there are enough of them as `get-backoff`.
    `list-sweep` lists the ended tasks every `sweep_every_ms`, newest first, as far as there is news. `hybrid` asks for
    each task `gets` times and leaves what is still open then to the sweeps; while tasks typically take longer than the
    time between two sweeps, it leaves them all to the sweeps. `webhook` submits every task with the address of a
    receiver that the run starts (at `receiver_host`, or behind `receiver_url` where the service cannot reach that),
    and lists every `reconcile_every_ms` for what no webhook told.

    In every mode all processes together make at most `api_qps` of these requests per second: looking must not become
    the load.
    """

    mode: str = setting("hybrid", choices=MODES)
    interval_ms: float = setting(500.0, low=1, high=3_600_000)
    first_ms: float = setting(10.0, low=0, high=3_600_000)
    factor: float = setting(1.6, low=1, high=10)
    longest_ms: float = setting(2000.0, low=1, high=3_600_000)
    quantile: float = setting(0.5, low=0.01, high=0.99)
    gets: int = setting(2, low=1, high=1000)
    sweep_every_ms: float = setting(500.0, low=10, high=3_600_000)
    sweep_pages: int = setting(50, low=1, high=10_000)
    reconcile_every_ms: float = setting(5000.0, low=10, high=3_600_000)
    api_qps: float = setting(2000.0, low=0.1, high=1_000_000)
    pollers: int = setting(64, low=1, high=10_000)
    receiver_host: str = setting("127.0.0.1")
    receiver_port: int = setting(0, low=0, high=65535)
    receiver_url: str | None = setting(None)

    @property
    def gets_tasks(self) -> bool:
        """Whether tasks are asked for one by one as a rule."""
        return self.mode == "hybrid" or self.mode.startswith("get-")

    @property
    def sweeps(self) -> bool:
        """Whether ended tasks are listed."""
        return not self.mode.startswith("get-")

    @property
    def sweep_every_s(self) -> float:
        """The time from one sweep to the next."""
        return (self.reconcile_every_ms if self.mode == "webhook" else self.sweep_every_ms) / 1000


def parse_api_qps(text: str) -> float:
    """Requests per second from a number, or from the name of a preset. Raises ProfileError."""
    try:
        return API_QPS_PRESETS[text] if text in API_QPS_PRESETS else float(text)
    except ValueError:
        names = ", ".join(f"{name} ({rate:g})" for name, rate in API_QPS_PRESETS.items())
        raise ProfileError(
            f"--api-qps must be a number of requests per second or one of {names}, not {text!r}."
        ) from None


class Intervals:
    """When a task is looked at next, from how long it has been open and how often it was looked at."""

    def __init__(self, how: Detection) -> None:
        self._how = how
        self._newest_s: deque[float] = deque()
        self._sorted_s: list[float] = []

    def took(self, seconds: float) -> None:
        """A task has ended that long after it was taken."""
        if len(self._newest_s) == MOST_SAMPLES:
            del self._sorted_s[bisect.bisect_left(self._sorted_s, self._newest_s.popleft())]
        self._newest_s.append(seconds)
        bisect.insort(self._sorted_s, seconds)

    def next_s(self, open_s: float, looks: int) -> float:
        """Seconds from now to the next look at a task, open for `open_s` and looked at `looks` times so far."""
        how = self._how
        if how.mode == "get-fixed":
            return how.interval_ms / 1000
        if how.mode == "get-quantile" and len(self._sorted_s) >= LEAST_SAMPLES:
            found_s = self._quantile_of_longer_s(open_s)
            if found_s is not None:
                return min(max(found_s - open_s, how.first_ms / 1000, 0.001), how.longest_ms / 1000)
        # The exponent is bounded only so that the power stays a float.
        grown_ms = max(how.first_ms, 1.0 if looks else 0.0) * how.factor ** min(looks, 300)
        return min(grown_ms, how.longest_ms) / 1000

    def _quantile_of_longer_s(self, open_s: float) -> float | None:
        """The time by which the share `quantile` of the tasks that took longer had ended; None when none did."""
        first = bisect.bisect_right(self._sorted_s, open_s)
        longer = len(self._sorted_s) - first
        return self._sorted_s[first + min(longer - 1, int(longer * self._how.quantile))] if longer else None
