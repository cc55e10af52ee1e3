"""What goes wrong on a connection: kinds of faults, in which direction, on which connections, from which byte on."""

import random
from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import attrs

Kind = Literal["latency", "slow", "garbage", "cut", "reset", "half-open"]
Towards = Literal["target", "client", "both"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DIRECTIONS: tuple[Towards, ...] = get_args(Towards)
ENDING: frozenset[Kind] = frozenset[Kind](["cut", "reset"])
FINAL: frozenset[Kind] = ENDING | frozenset[Kind](["half-open"])

BYTES_MAX = 2**40  # of a place in a stream; more than a connection carries
MS_MAX = 24 * 3600 * 1000
SPOILT_BYTES = 64


class RuleError(ValueError):
    """A rule that cannot be; the message says what of it, and what would do."""


@attrs.frozen(kw_only=True)
class Rule:
    """One fault. `after` is the byte, counted in each direction, from which on it strikes: drawn between two bounds."""

    kind: Kind
    towards: Towards = "both"
    probability: float = 1.0
    """The share of connections that get it."""
    count: int | None = None
    """How many connections get it at most."""
    after: tuple[int, int] = (0, 0)
    ms: int = 0
    """latency: how long each piece is held back."""
    jitter_ms: int = 0
    """latency: drawn anew for each piece and added to `ms`, or taken from it."""
    bytes_per_s: int = 0
    """slow: how many bytes pass in a second."""
    size: int = SPOILT_BYTES
    """garbage: how many bytes are replaced by random ones."""

    def __str__(self) -> str:
        said = [self.kind]
        fields = attrs.fields_dict(Rule)
        for key, name in _KEYS.items():
            value = getattr(self, name)
            if name != "towards" and value == fields[name].default:
                continue
            said.append(f"{key}={_shown(value)}")
        return " ".join(said)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        low, high = cast("tuple[int, int]", value)
        return str(low) if low == high else f"{low}..{high}"
    return f"{value:g}" if isinstance(value, float) else str(value)


_KEYS = {
    "towards": "towards",
    "probability": "probability",
    "count": "count",
    "after": "after",
    "ms": "ms",
    "jitter": "jitter_ms",
    "rate": "bytes_per_s",
    "size": "size",
}
_OF_KIND: dict[Kind, frozenset[str]] = {
    "latency": frozenset(["ms", "jitter"]),
    "slow": frozenset(["rate"]),
    "garbage": frozenset(["size"]),
    "cut": frozenset(),
    "reset": frozenset(),
    "half-open": frozenset(),
}
_OF_ALL = frozenset(["towards", "probability", "count", "after"])


def read_rule(text: str) -> Rule:
    """`kind key=value ...`, such as `latency ms=200 jitter=50 towards=client probability=0.3`. Raises RuleError."""
    words = text.split()
    if not words or words[0] not in KINDS:
        raise RuleError(f"{text!r} does not begin with a kind of fault. Begin with one of {', '.join(KINDS)}.")
    kind = words[0]
    known = _OF_ALL | _OF_KIND[kind]
    values: dict[str, Any] = {}
    for word in words[1:]:
        key, separator, value = word.partition("=")
        if not separator or key not in known:
            raise RuleError(f"{word!r} is nothing that {kind} has. It takes {', '.join(sorted(known))}, as key=value.")
        if _KEYS[key] in values:
            raise RuleError(f"{kind} has {key} twice. Say it once.")
        values[_KEYS[key]] = _READ[key](key, value)
    rule = Rule(kind=kind, **values)
    if kind == "latency" and not rule.ms and not rule.jitter_ms:
        raise RuleError("latency needs ms, jitter or both, such as ms=200.")
    if kind == "slow" and not rule.bytes_per_s:
        raise RuleError("slow needs rate, in bytes per second, such as rate=1000.")
    return rule


def _whole(low: int, high: int) -> Callable[[str, str], int]:
    def read(key: str, text: str) -> int:
        if not (text.isascii() and text.isdigit()) or not low <= int(text[:20]) <= high:
            raise RuleError(f"{key} must be a whole number from {low} to {high}, but is {text!r}.")
        return int(text)

    return read


def _share(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise RuleError(f"{key} must be a number from 0 to 1, but is {text!r}.")
    return value


def _direction(key: str, text: str) -> Towards:
    for direction in DIRECTIONS:
        if text == direction:
            return direction
    raise RuleError(f"{key} must be one of {', '.join(DIRECTIONS)}, but is {text!r}.")


def _span(key: str, text: str) -> tuple[int, int]:
    low_text, separator, high_text = text.partition("..")
    number = _whole(0, BYTES_MAX)
    low = number(key, low_text)
    high = number(key, high_text) if separator else low
    if high < low:
        raise RuleError(f"{key} must not end before it begins, but is {text!r}.")
    return low, high


_READ: dict[str, Callable[[str, str], Any]] = {
    "towards": _direction,
    "probability": _share,
    "count": _whole(0, BYTES_MAX),
    "after": _span,
    "ms": _whole(0, MS_MAX),
    "jitter": _whole(0, MS_MAX),
    "rate": _whole(1, BYTES_MAX),
    "size": _whole(1, 1_000_000),
}


@attrs.define(eq=False)
class Live:
    """A rule at work: to how many connections it was given, and on how many it struck."""

    id: str
    rule: Rule
    given: int = 0
    struck: int = 0


@attrs.define(eq=False)
class Fault:
    """A rule on one connection in one direction: strikes from byte `at` of that direction on."""

    live: Live
    at: int
    chance: random.Random
    struck: bool = False

    @property
    def rule(self) -> Rule:
        """What happens."""
        return self.live.rule

    def strike(self) -> None:
        """Count it, once."""
        if not self.struck:
            self.struck = True
            self.live.struck += 1


class Rules:
    """The rules of one proxy. Which connections get which is drawn from the seed, the rule and the connection alone.

    So the same seed gives the n-th connection the same faults, whatever else happens at that time.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._made = 0
        self.live: dict[str, Live] = {}

    def add(self, rule: Rule) -> Live:
        """Put a rule to work; its id is new."""
        self._made += 1
        live = Live(f"r{self._made}", rule)
        self.live[live.id] = live
        return live

    def remove(self, rule_id: str) -> bool:
        """Take a rule away; False when there is none of this id."""
        return self.live.pop(rule_id, None) is not None

    def draw(self, live: Live, connection: int) -> dict[Towards, Fault]:
        """What this rule does to this connection, by direction; nothing when it is spared."""
        rule = live.rule
        chance = random.Random(f"{self._seed}/{live.id}/{connection}")
        if chance.random() >= rule.probability or (rule.count is not None and live.given >= rule.count):
            return {}
        live.given += 1
        directions: tuple[Towards, ...] = ("target", "client") if rule.towards == "both" else (rule.towards,)
        return {
            direction: Fault(live, chance.randint(*rule.after), random.Random(chance.getrandbits(64)))
            for direction in directions
        }
