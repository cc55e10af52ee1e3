"""Which drivers a server has, and in which order they are asked whether they take an image."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Protocol

from yottabench.emulator.drivers.base import Driver
from yottabench.emulator.drivers.command import CommandDriver
from yottabench.emulator.drivers.docker import DockerDriver, DockerUnavailable
from yottabench.emulator.drivers.external import ExternalDriver
from yottabench.emulator.drivers.images_file import Images, ImagesFileError, read_images_file
from yottabench.emulator.settings import Settings

ENTRY_POINTS = "yottabench.drivers"
DEFAULT_IMAGES_FILE = "images.toml"

DriverFactory = Callable[[Settings], Driver]
"""What an entry point of the group `yottabench.drivers` names: called once, on the event loop, when a server starts."""


class DriverError(Exception):
    """A driver that was asked for cannot be had; the message says why and what to do."""


class EntryPoint(Protocol):
    """What is used of importlib.metadata.EntryPoint."""

    @property
    def name(self) -> str: ...
    def load(self) -> DriverFactory: ...


def _installed() -> Iterable[EntryPoint]:
    return metadata.entry_points(group=ENTRY_POINTS)


def make_drivers(
    settings: Settings, last: Driver, installed: Callable[[], Iterable[EntryPoint]] = _installed
) -> tuple[Driver, ...]:
    """The images file first, then what `--driver` names in its order, then `last`, which takes everything.

    Raises DriverError.
    """
    try:
        images = _images(settings)
    except ImagesFileError as error:
        raise DriverError(str(error)) from None
    drivers: list[Driver] = [CommandDriver(images), ExternalDriver(images)] if images.entries else []
    drivers.extend(_named(name, settings, installed) for name in settings.drivers)
    return (*drivers, last)


def _images(settings: Settings) -> Images:
    if settings.images is not None:
        return read_images_file(settings.images)
    default = settings.data / DEFAULT_IMAGES_FILE
    return read_images_file(default) if default.exists() else Images()


def _named(name: str, settings: Settings, installed: Callable[[], Iterable[EntryPoint]]) -> Driver:
    if name == "docker":
        try:
            return DockerDriver.connect(settings)
        except DockerUnavailable as error:
            raise DriverError(str(error)) from error
    found: Mapping[str, EntryPoint] = {each.name: each for each in installed()}
    if name not in found:
        known = ", ".join(("docker", *sorted(found)))
        raise DriverError(
            f"--driver {name} names no driver. There are: {known}. Others come with packages that have an entry point"
            f" in the group {ENTRY_POINTS}; command and external come with an images file."
        )
    try:
        return found[name].load()(settings)
    except Exception as error:
        raise DriverError(
            f"The driver {name} of an installed package cannot be used: {type(error).__name__}: {error}. Repair the"
            f" package, or leave --driver {name} out."
        ) from error
