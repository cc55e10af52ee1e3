"""What can be asked of a worker's log, and how the documented parameters say it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import attrs

from yottabench.emulator import limits

_KEYWORD_MAX_CHARS = 1_024  # nobody types more, and every line is searched for it
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_MS = re.compile(r"[0-9]{1,15}")
# The basic forms without hyphens are left out: 20240115 is also a number of milliseconds.
_ISO_8601 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ]([01][0-9]|2[0-3]):[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?",
)
_LOST_PLUS = re.compile(r":[0-9.]+ [0-9]{2}:?[0-9]{2}$")
_INTEGER = re.compile(r"[0-9]{1,19}")


class InvalidLogQuery(ValueError):
    """A parameter of a log query breaks its rule; `field` is its documented name, `message` says rule and next step."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field} {message}")
        self.field = field
        self.message = message


@attrs.frozen
class LogQuery:
    """One page to read.

    `after` is the (time in ms, offset) of the last line the reader has seen, in its direction; `start_ms` and `end_ms`
    are inclusive; `keyword` is a part of the line, case and all, in which no character is special.
    """

    page_size: int = 100
    keyword: str | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    after: tuple[int, int] | None = None
    backward: bool = False


def parse_time(text: str) -> int:
    """Milliseconds since 1970 of `text`: epoch milliseconds, or ISO 8601 with hyphens and colons.

    A time without a zone is UTC, a date is its midnight, and what is finer than a millisecond is cut off. ValueError
    says what would be right.
    """
    if _EPOCH_MS.fullmatch(text):
        return int(text)
    try:
        moment = datetime.fromisoformat(text if _ISO_8601.fullmatch(text) else "")
    except ValueError:
        hint = " (in a URL, write + as %2B)" if _LOST_PLUS.search(text) else ""
        raise ValueError(
            f"{text[:64]!r} is no time; give milliseconds since 1970, such as 1705306215123, or ISO 8601, such as "
            f"2024-01-15T08:10:15.123Z{hint}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def parse_log_query(params: Mapping[str, str]) -> LogQuery:
    """The query that the documented parameters ask for, or InvalidLogQuery; what is not documented is ignored."""
    start_ms, end_ms = _time(params, "startTime"), _time(params, "endTime")
    if start_ms is not None and end_ms is not None and start_ms > end_ms:
        raise InvalidLogQuery("startTime", "must not lie after endTime. Swap the two.")
    keyword = params.get("keyword")
    if keyword is not None and not 1 <= len(keyword) <= _KEYWORD_MAX_CHARS:
        rule = f"must have 1 to {_KEYWORD_MAX_CHARS} characters. Leave it out to see every line."
        raise InvalidLogQuery("keyword", rule)
    direction = params.get("direction", "Forward")
    if direction not in {"Forward", "Backward"}:
        raise InvalidLogQuery("direction", "must be Forward (towards newer lines) or Backward (towards older ones).")
    return LogQuery(
        page_size=_integer(params, "pageSize", "100", 1, limits.LOG_PAGE_MAX),
        keyword=keyword,
        start_ms=start_ms,
        end_ms=end_ms,
        after=_after(params),
        backward=direction == "Backward",
    )


def _after(params: Mapping[str, str]) -> tuple[int, int] | None:
    names = ("searchAfterTime", "searchAfterOffset")
    for name, other in (names, names[::-1]):
        if name not in params and other in params:
            raise InvalidLogQuery(name, f"must come together with {other}. Send both tokens of the page before.")
    after_ms = _time(params, "searchAfterTime")
    if after_ms is None:
        return None
    return after_ms, _integer(params, "searchAfterOffset", "0", 0, limits.INT64_MAX)


def _time(params: Mapping[str, str], name: str) -> int | None:
    text = params.get(name)
    if text is None:
        return None
    try:
        return parse_time(text)
    except ValueError as error:
        raise InvalidLogQuery(name, f"{error}.") from None


def _integer(params: Mapping[str, str], name: str, default: str, least: int, most: int) -> int:
    text = params.get(name, default)
    if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
        raise InvalidLogQuery(
            name, f"must be an integer from {least} to {most}; got {text[:32]!r}. Leave it out or correct it."
        )
    return int(text)
