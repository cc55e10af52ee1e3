"""What the server counts of its own doing."""

from collections import Counter


class Stats:
    """Counters since the server started; names are those of the metrics that show them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def add(self, name: str, n: int = 1) -> None:
        """Count `n` more of `name`."""
        self.counts[name] += n
