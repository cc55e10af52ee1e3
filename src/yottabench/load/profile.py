"""Profiles: what a run sends, to what, how it looks for results, and what makes it valid and good."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import attrs

from yottabench.load.detection import Detection
from yottabench.load.gates import Gate, parse_gate
from yottabench.load.synthetic import FITTED
from yottabench.load.tables import ProfileError, change, read_table, setting, write_table

__all__ = [
    "Action",
    "Arrivals",
    "Detection",
    "EmulatorSettings",
    "EndpointSettings",
    "Limits",
    "Mix",
    "Profile",
    "ProfileError",
    "Stage",
    "TaskSettings",
    "Validity",
    "change",
    "find_profile",
    "list_profiles",
    "loadtest_dir",
    "parse_profile",
    "read_profile",
]

ARRIVAL_KINDS = ("constant", "poisson", "gamma", "trace")
SYNTHETIC_TRACES = tuple(FITTED)
READS = ("get", "list", "count")
ACTIONS = ("scale", "kill-worker")
DAY_S = 86_400.0
DEFAULT_DURATION_S = 30.0


@attrs.frozen
class Stage:
    """A stretch of the run whose rate goes in a straight line from `rate` to `rate_to` (tasks per second)."""

    duration_s: float = setting(low=0.001, high=30 * DAY_S)
    rate: float = setting(low=0, high=1_000_000)
    rate_to: float | None = setting(None, low=0, high=1_000_000)


@attrs.frozen
class Arrivals:
    """When tasks are due: a renewal process over a rate in time, or a trace.

    Without `duration_s` a trace runs to its end, stages to theirs, and anything else for DEFAULT_DURATION_S seconds.
    `tick_s` is the tick within which a trace's times are drawn anew: without it, the one to which they were rounded.
    """

    kind: str = setting("poisson", choices=ARRIVAL_KINDS)
    rate: float = setting(100.0, low=0.001, high=1_000_000)
    duration_s: float | None = setting(None, low=0.1, high=30 * DAY_S)
    stages: tuple[Stage, ...] = setting(())
    gap_cv: float = setting(1.0, low=0.05, high=50)
    trace: str | None = setting(None)
    synthetic: str | None = setting(None, choices=SYNTHETIC_TRACES)
    time_scale: float = setting(1.0, low=0.001, high=100_000)
    tick_s: float | None = setting(None, low=0, high=3600)

    def at_rate(self, rate: float) -> "Arrivals":
        """The same at another rate; stages keep their shape, and their highest rate becomes `rate`."""
        peak = max((max(stage.rate, stage.rate_to or 0.0) for stage in self.stages), default=0.0)
        scale = rate / peak if peak else 1.0
        stages = tuple(
            attrs.evolve(
                stage, rate=stage.rate * scale, rate_to=None if stage.rate_to is None else stage.rate_to * scale
            )
            for stage in self.stages
        )
        return attrs.evolve(self, rate=rate, stages=stages)

    def lasting(self, duration_s: float) -> "Arrivals":
        """The same for another time; stages keep their shape, while a trace is cut off."""
        whole_s = sum(stage.duration_s for stage in self.stages)
        stages = tuple(attrs.evolve(stage, duration_s=stage.duration_s * duration_s / whole_s) for stage in self.stages)
        return attrs.evolve(self, duration_s=duration_s, stages=stages)


@attrs.frozen
class Mix:
    """Of all arrivals, which share is of which operation, by weight; reads come in the same open loop as submits."""

    submit: float = setting(1.0, low=0.001, high=1_000_000)
    get: float = setting(0.0, low=0, high=1_000_000)
    list: float = setting(0.0, low=0, high=1_000_000)
    count: float = setting(0.0, low=0, high=1_000_000)

    @property
    def reads(self) -> dict[str, float]:
        """The weights of the reads that there are, by operation."""
        return {name: weight for name in READS if (weight := float(getattr(self, name))) > 0}


@attrs.frozen
class Action:
    """Something done to the endpoint while tasks come, at a share of the run's time.

    `scale` asks for another number of `workers`; `kill-worker` ends one worker's process without a warning.
    """

    do: str = setting(choices=ACTIONS)
    at: float = setting(low=0, high=1)
    workers: int | None = setting(None, low=0, high=1000)


@attrs.frozen
class EmulatorSettings:
    """How an emulator that is started for the run differs from one that is started without options."""

    limits: str = setting("off", choices=("off", "documented"))

    @property
    def options(self) -> list[str]:
        """The options of `yottabench serve` that say so."""
        return [] if self.limits == "off" else ["--limits", self.limits]


@attrs.frozen
class EndpointSettings:
    """The QUEUE endpoint that is made for a run when none is given.

    Tasks come once all workers run, or, without `wait`, while they start.

    `scale_env` names a variable of the workers that is set to 1 / arrivals.time_scale, so that simulated work shrinks
    with the time between arrivals.
    """

    image: str = setting("sim/echo")
    workers: int = setting(2, low=0, high=1000)
    env: dict[str, str] = attrs.field(factory=dict)
    scale_env: str | None = setting(None)
    region: str = setting("us-east-1")
    gpu_type: str = setting("NVIDIA_RTX_4090_24G")
    gpu_count: int = setting(1, low=1, high=64)
    container_volume_gb: int = setting(20, low=20, high=1_048_576)
    wait: bool = setting(True)
    ready_timeout_s: float = setting(600.0, low=1, high=7200)


@attrs.frozen
class TaskSettings:
    """What each task carries and where on the worker it goes.

    `mark` adds the task's id to its input; a worker that echoes it shows then whether a result is the task's own.
    `sized` bodies have exactly as many bytes as `sizes` says, one after the other, or as their trace's row does. The
    share `bad` of the submits breaks a rule of the API, each rule in turn, and is to be refused.
    """

    body: str = setting("json", choices=("json", "chat", "sized"))
    sizes: tuple[int, ...] = setting((), low=64, high=11_000_000)
    bad: float = setting(0.0, low=0, high=1)
    input: dict[str, Any] = attrs.field(factory=lambda: {"prompt": "Hello, queue!"})
    model: str = setting("sim")
    prompts: str | None = setting(None)
    chars_per_token: float = setting(4.0, low=0.1, high=100)
    worker_port: int = setting(8000, low=1, high=65535)
    process_uri: str = setting("/run")
    mark: bool = setting(False)


@attrs.frozen
class Limits:
    """How long to wait for one request and for the end of the last task, and how many submits may be open at once."""

    request_timeout_s: float = setting(10.0, low=0.05, high=600)
    drain_timeout_s: float = setting(60.0, low=0, high=86_400)
    senders: int = setting(2000, low=1, high=20_000)


@attrs.frozen
class Validity:
    """What the generator must keep so that the figures count at all.

    `cpu` is the share of a core that a process may use: more than that in over a tenth of the seconds is too busy.
    """

    lateness_p99_ms: float = setting(50.0, low=0.01, high=60_000)
    offered_share: float = setting(0.99, low=0, high=1)
    cpu: float = setting(0.95, low=0.01, high=100)


@attrs.frozen
class Profile:
    """One kind of run. `name` is the file's stem; all else has a default, so that a file says only what matters.

    With `abort` a run ends early once a gate is sure to be broken.
    """

    name: str
    about: str = setting("")
    gates: tuple[str, ...] = setting(())
    abort: bool = setting(True)
    actions: tuple[Action, ...] = setting(())
    emulator: EmulatorSettings = attrs.field(factory=EmulatorSettings)
    mix: Mix = attrs.field(factory=Mix)
    arrivals: Arrivals = attrs.field(factory=Arrivals)
    endpoint: EndpointSettings = attrs.field(factory=EndpointSettings)
    task: TaskSettings = attrs.field(factory=TaskSettings)
    detection: Detection = attrs.field(factory=Detection)
    limits: Limits = attrs.field(factory=Limits)
    validity: Validity = attrs.field(factory=Validity)

    def parsed_gates(self) -> tuple[Gate, ...]:
        """The gates, each as metric, comparison and bound."""
        return tuple(parse_gate(text) for text in self.gates)

    def to_toml(self) -> str:
        """The profile with every setting written out; `parse_profile` reads it back to an equal one."""
        return write_table(self)


def parse_profile(text: str, *, name: str, where: str) -> Profile:
    """Reads a profile from TOML text; `where` names the source in errors. Raises ProfileError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{where} is not valid TOML: {error}.") from None
    table.setdefault("name", name)
    profile = read_table(Profile, table, where)
    _check(profile, where)
    return profile


def read_profile(path: Path) -> Profile:
    """Reads the profile in a file. Raises ProfileError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProfileError(f"Cannot read the profile {path}: {error}.") from None
    return parse_profile(text, name=path.stem, where=str(path))


def loadtest_dir() -> Path:
    """The locustfile and the shipped profiles: beside src/ in a checkout, inside the package in a wheel."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "_shipped" / "loadtest"
    folder = shipped if shipped.is_dir() else package.parents[1] / "loadtest"
    if not (folder / "locustfile.py").is_file():
        raise ProfileError(f"The locustfile is missing: looked in {shipped} and {folder}. Install yottabench again.")
    return folder


def list_profiles() -> list[Profile]:
    """The shipped profiles, by name."""
    return [read_profile(path) for path in sorted((loadtest_dir() / "profiles").glob("*.toml"))]


def find_profile(name_or_path: str) -> Profile:
    """A shipped profile by its name, or any profile by the path of its file. Raises ProfileError."""
    shipped = loadtest_dir() / "profiles"
    if re.fullmatch(r"[A-Za-z0-9_-]+", name_or_path):
        path = shipped / f"{name_or_path}.toml"
        if path.is_file():
            return read_profile(path)
    path = Path(name_or_path)
    if path.is_file():
        return read_profile(path)
    names = ", ".join(sorted(path.stem for path in shipped.glob("*.toml")))
    raise ProfileError(f"There is no profile {name_or_path!r}. Shipped: {names}. Or give the path of a .toml file.")


def _check(profile: Profile, where: str) -> None:
    arrivals, task = profile.arrivals, profile.task
    if arrivals.kind == "trace" and not (arrivals.trace or arrivals.synthetic):
        raise ProfileError(
            f"{where}: arrivals.kind is trace, but no trace is named. Set trace = FILE or synthetic = NAME."
        )
    if arrivals.kind != "trace" and (arrivals.trace or arrivals.synthetic):
        raise ProfileError(f'{where}: a trace is named, but arrivals.kind is {arrivals.kind!r}. Set kind = "trace".')
    if task.body == "json" and not task.input:
        raise ProfileError(f"{where}: task.input is empty, and the API refuses empty inputs. Put something in it.")
    try:
        json.dumps(task.input, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ProfileError(f"{where}: task.input cannot be sent as JSON: {error}.") from None
    for action in profile.actions:
        if (action.do == "scale") != (action.workers is not None):
            raise ProfileError(f"{where}: actions: scale, and only scale, has a number of workers.")
    for text in profile.gates:
        try:
            parse_gate(text)
        except ValueError as error:
            raise ProfileError(f"{where}: gates: {error}") from None
