"""The rate limits that version 1 of the API documents; enforced with `--limits documented`."""

import math
from collections.abc import Collection, Mapping

from yottabench.clock import Clock
from yottabench.emulator.codes import ApiError, Code

# Requests per second: to one endpoint, and of one API key over all its endpoints. The sources say "global" for the
# second without saying of what; a key is what this server can tell apart.
PER_SECOND: Mapping[str, tuple[int, int]] = {
    "submitTask": (40, 200),
    "getTaskById": (60, 400),
    "listTasks": (60, 400),
    "getTaskCount": (60, 400),
}
OPEN_TASKS_MAX = 1_000
_BUCKETS_MAX = 10_000  # then those are dropped that are like new: of endpoints and keys that are gone, most of all


class Bucket:
    """Lets `rate` requests per second pass, and as many at once after a second of silence."""

    __slots__ = ("_filled_ms", "_rate", "_tokens")

    def __init__(self, rate: int, now_ms: int) -> None:
        self._rate = rate
        self._tokens = float(rate)
        self._filled_ms = now_ms

    def wait_s(self, now_ms: int) -> float:
        """Seconds until the next request may pass; 0 when it may now."""
        self._tokens = min(self._rate, self._tokens + (now_ms - self._filled_ms) * self._rate / 1000)
        self._filled_ms = now_ms
        return max(0.0, (1 - self._tokens) / self._rate)

    def take(self) -> None:
        """Count a request that passed."""
        self._tokens -= 1

    def is_full(self, now_ms: int) -> bool:
        """Whether it is like new."""
        return self._tokens + (now_ms - self._filled_ms) * self._rate / 1000 >= self._rate


class Rates:
    """Every bucket of the server; a refused request takes from none."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[tuple[str, str], Bucket] = {}

    def check(self, operation: str, endpoint_id: int, namespace: str) -> None:
        """Raises ApiError (429) when the endpoint or the key has had its share of this second."""
        if operation not in PER_SECOND:
            return
        now_ms = self._clock.now_ms()
        of_endpoint, of_key = PER_SECOND[operation]
        owners = ((f"endpoint {endpoint_id}", of_endpoint), (f"key {namespace}", of_key))
        buckets = [self._bucket(operation, owner, rate, now_ms) for owner, rate in owners]
        for (owner, rate), bucket in zip(owners, buckets, strict=True):
            wait_s = bucket.wait_s(now_ms)
            if wait_s > 0:
                whose = "your API key" if owner.startswith("key") else owner
                raise too_many(f"More than {rate} {operation} requests per second for {whose}.", wait_s)
        for bucket in buckets:
            bucket.take()

    def forget(self, endpoint_ids: Collection[int], namespace: str | None) -> None:
        """Nothing was asked yet by this key (None: by any), nor of these endpoints."""
        owners = {f"endpoint {endpoint_id}" for endpoint_id in endpoint_ids} | {f"key {namespace}"}
        self._buckets = {
            key: bucket for key, bucket in self._buckets.items() if namespace is not None and key[1] not in owners
        }

    def _bucket(self, operation: str, owner: str, rate: int, now_ms: int) -> Bucket:
        key = (operation, owner)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _BUCKETS_MAX:
                self._buckets = {key: each for key, each in self._buckets.items() if not each.is_full(now_ms)}
            bucket = self._buckets[key] = Bucket(rate, now_ms)
        return bucket


def too_many(why: str, wait_s: float) -> ApiError:
    """429, with the whole seconds after which a try makes sense."""
    seconds = max(1, math.ceil(wait_s))
    unit = "second" if seconds == 1 else "seconds"
    return ApiError(Code.TOO_MANY_REQUESTS, f"{why} Try again in {seconds} {unit}.", retry_after_s=seconds)


def check_open_tasks(open_tasks: int, endpoint_id: int) -> None:
    """Raises ApiError (429) when the endpoint has as many open tasks as version 1 lets it have."""
    if open_tasks >= OPEN_TASKS_MAX:
        raise too_many(f"Endpoint {endpoint_id} has {open_tasks} open tasks; at most {OPEN_TASKS_MAX} may be.", 1)
