"""Waits for an exact time under gevent: by a kernel timer where there is one, else by sleeping short and spinning."""

import ctypes
import os
import time
from typing import Any, Protocol

import gevent
from gevent.hub import get_hub

# gevent's loop rounds its sleeps up to whole milliseconds; below this distance only spinning is exact.
SPIN_BELOW_S = 0.0012
_READABLE = 1


class Waiter(Protocol):
    """Waits until a time of `time.monotonic`."""

    def until(self, when_s: float) -> None:
        """Returns at `when_s` or as soon after as it can; at once when that is past."""
        ...

    def close(self) -> None:
        """Gives back what it holds."""
        ...


class SpinWaiter:
    """Sleeps until shortly before, then runs other greenlets until the time is there. Costs a core at high rates."""

    def until(self, when_s: float) -> None:
        """See Waiter."""
        while (left_s := when_s - time.monotonic()) > 0:
            gevent.sleep(left_s - SPIN_BELOW_S if left_s > SPIN_BELOW_S else 0)

    def close(self) -> None:
        """See Waiter."""


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class TimerWaiter:
    """A Linux timerfd in gevent's loop: some 0.05 ms exact at the cost of an ordinary sleep."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        clock_monotonic, non_blocking = 1, os.O_NONBLOCK | os.O_CLOEXEC
        self._timer = int(self._libc.timerfd_create(clock_monotonic, non_blocking))
        if self._timer < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._spec = _TimerSpec()
        hub: Any = get_hub()
        self._hub = hub
        self._watcher: Any = hub.loop.io(self._timer, _READABLE)

    def until(self, when_s: float) -> None:
        """See Waiter."""
        if when_s <= time.monotonic():
            return
        self._spec.value.seconds = int(when_s)
        self._spec.value.nanoseconds = max(1, int((when_s - int(when_s)) * 1e9))
        absolute = 1
        if self._libc.timerfd_settime(self._timer, absolute, ctypes.byref(self._spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")
        self._hub.wait(self._watcher)
        os.read(self._timer, 8)

    def close(self) -> None:
        """See Waiter."""
        self._watcher.close()
        os.close(self._timer)


def make_waiter() -> Waiter:
    """The most exact waiter that this system has."""
    try:
        return TimerWaiter()
    except (AttributeError, OSError, TypeError):
        return SpinWaiter()
