"""The images that are no language model, and the choice among all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from . import simulate
from .llm import Llm
from .model import CLOSE, EXIT, HANG, Plan, Request, SettingError, Settings, generator, json_bytes, log_normal


class Image(Protocol):
    """What answers requests."""

    def plan(self, request: Request, key: str) -> Plan:
        """Decide about `request`; whatever is drawn comes from `key` (and the attempt) alone."""
        ...

    def error_body(self, status: int, message: str) -> bytes:
        """The body of an error answer in the words of this image."""
        ...


class Echo:
    """Answers with the bytes it got."""

    def __init__(self, settings: Settings) -> None:
        pass

    def plan(self, request: Request, key: str) -> Plan:
        """See Image."""
        return Plan(200, request.body)

    def error_body(self, status: int, message: str) -> bytes:
        """See Image."""
        return json_bytes({"error": message})


class Sleep(Echo):
    """Takes a log-normal time."""

    def __init__(self, settings: Settings) -> None:
        self._mean_ms = settings.number("SIM_MEAN_MS", 50)
        self._cv = settings.number("SIM_CV", 0.5, maximum=10)
        self._scale = settings.number("SIM_TIME_SCALE", 1)

    def plan(self, request: Request, key: str) -> Plan:
        """See Image."""
        slept_ms = log_normal(generator(key), self._mean_ms, self._cv) * self._scale
        return Plan(200, json_bytes({"slept_ms": round(slept_ms, 3)}), slept_ms / 1000)


class Flaky(Echo):
    """Echoes, but for the share of requests that it was told to spoil."""

    def __init__(self, settings: Settings) -> None:
        self._spoil: list[tuple[float, Callable[[Plan], None]]] = []
        below = 0.0
        for name, spoil in _SPOIL.items():
            below += settings.number(name, 0, maximum=1)
            self._spoil.append((below, spoil))
        if below > 1 + 1e-9:
            raise SettingError(f"{', '.join(_SPOIL)} add up to {below:g}; they must not exceed 1. Update the endpoint.")

    def plan(self, request: Request, key: str) -> Plan:
        """See Image."""
        plan = Plan(200, request.body)
        drawn = generator(f"{key}/{request.attempt}").random()
        for below, spoil in self._spoil:
            if drawn < below:
                spoil(plan)
                break
        return plan


def _spoil_fail(plan: Plan) -> None:
    plan.status, plan.body = 500, json_bytes({"error": "sim/flaky failed, as SIM_FAIL_RATE asks for"})


def _spoil_hang(plan: Plan) -> None:
    plan.ending = HANG


def _spoil_close(plan: Plan) -> None:
    plan.ending = CLOSE


def _spoil_exit(plan: Plan) -> None:
    plan.ending, plan.exit_code = EXIT, 1


_SPOIL: dict[str, Callable[[Plan], None]] = {
    "SIM_FAIL_RATE": _spoil_fail,
    "SIM_HANG_RATE": _spoil_hang,
    "SIM_CLOSE_RATE": _spoil_close,
    "SIM_EXIT_RATE": _spoil_exit,
}

IMAGES: dict[str, Callable[[Settings], Image]] = {
    "sim/echo": Echo,
    "sim/sleep": Sleep,
    "sim/llm": Llm,
    "sim/flaky": Flaky,
}


def known_image(image: str) -> str | None:
    """The simulated image that `image` means, or None: registry, tag and digest do not matter."""
    path = image.partition("@")[0].split("/")
    path[-1] = path[-1].partition(":")[0]
    name = "/".join(path[-2:])
    return name if name in IMAGES else None


class Simulator:
    """Decides about every request of one worker."""

    def __init__(self, image: str, settings: Settings, seed: int) -> None:
        self._image = IMAGES[image](settings)
        self._seed = seed
        self._anonymous = 0

    def plan(self, request: Request) -> Plan:
        """What happens with `request`, the task's own wishes included."""
        if request.method == b"GET" and request.path == "/health":
            return Plan(200, b'{"status":"ok"}', counted=False)
        if request.task == "-":
            self._anonymous += 1
            key = f"{self._seed}/#{self._anonymous}"
        else:
            key = f"{self._seed}/{request.task}"
        plan = self._image.plan(request, key)
        # Looked for as bytes first: parsing every body would cost more than all the rest of an echo.
        if b'"simulate"' in request.body:
            plan = simulate.apply(plan, request.body, self._image.error_body)
        return plan
