"""What `yottabench doctor` looks at on this machine: Python, the extras, the document, the generated code, places."""

import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Literal

import attrs

import yottabench

# What each extra brings, by the names that Python imports.
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "emulator": ("httptools", "msgspec", "prometheus_client", "uvicorn", "yaml"),
    "aio": ("aiohttp", "httpx_aiohttp"),
    "otel": ("opentelemetry.trace",),
    "conformance": ("h11", "jsonschema_rs", "yaml"),
    "docker": ("docker",),
    "load": ("httptools", "orjson", "hdrh.histogram", "locust"),
}
OPERATIONS = 14
EMULATOR_PORT = 8080
LOOK_S = 60.0

State = Literal["ok", "fail", "note"]

# In a process of its own: importing locust patches the one that it happens in.
_IMPORT_ALL = """
import importlib, json, sys
found = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        found[name] = ["missing", str(error.name)] if error.name in name else ["broken", str(error)]
    except Exception as error:
        found[name] = ["broken", f"{type(error).__name__}: {error}"]
print(json.dumps(found))
"""


@attrs.frozen
class Finding:
    """One thing that was looked at."""

    check: str
    state: State
    detail: str


class Wrong(Exception):
    """What a look found wrong, and what to do about it."""


def installation() -> Iterator[Finding]:
    """All of it, in turn."""
    text = f"yottabench {yottabench.__version__} on Python {platform.python_version()}, {platform.system()}"
    yield Finding("python", "ok", text)
    yield from extras()
    yield looked("document", document)
    yield generated()
    yield looked("data directory", data_directory)
    yield looked("this folder", this_folder)
    yield loopback()
    yield emulator_port()


def looked(check: str, look: Callable[[], str]) -> Finding:
    """What a look finds: its text, or what it found wrong."""
    try:
        return Finding(check, "ok", look())
    except Exception as error:
        return Finding(check, "fail", " ".join(str(error).split()) or type(error).__name__)


def extras() -> Iterator[Finding]:
    """Import what the extras bring; what is not installed may not be wanted, what cannot be imported is broken."""
    # locust first: it patches ssl, and must be there before it is used.
    names = sorted({name for modules in EXTRAS.values() for name in modules}, key="locust".__ne__)
    command = [sys.executable, "-P", "-c", _IMPORT_ALL, json.dumps(names)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LOOK_S)  # noqa: S603 - fixed
    problems: dict[str, tuple[str, str]] = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    for extra, modules in EXTRAS.items():
        wrong = {name: problems[name] for name in modules if name in problems}
        broken = [f"{name}: {what}" for name, (how, what) in wrong.items() if how == "broken"]
        install = f"pip install 'yottabench[{extra}]'"
        if broken or done.returncode != 0:
            why = "; ".join(broken) or " ".join(done.stderr.split())[-300:]
            yield Finding(f"extra {extra}", "fail", f"cannot be imported: {why}. Install it anew: {install}")
        elif wrong:
            yield Finding(f"extra {extra}", "note", f"{', '.join(wrong)} not installed; if you want it: {install}")
        else:
            yield Finding(f"extra {extra}", "ok", ", ".join(modules))


def document() -> str:
    """The OpenAPI document is there, and has its operations."""
    from yottabench.spec import spec_text

    found = _operations(spec_text())
    if len(found) != OPERATIONS:
        raise Wrong(f"openapi/serverless.yaml has {len(found)} operations, not {OPERATIONS}. Install yottabench anew.")
    return f"openapi/serverless.yaml, {len(found)} operations"


def generated() -> Finding:
    """The generated code is that of the document: exactly, where the generator is at hand, else by its operations."""
    from importlib.resources import files

    from yottabench.spec import spec_text

    try:
        api = files("yotta_serverless_api").joinpath("api")
        there = {file.name.removesuffix(".py") for group in api.iterdir() if group.is_dir() for file in group.iterdir()}
        lacking = sorted(name for name in _operations(spec_text()) if _in_snake_case(name) not in there)
    except Exception as error:
        return Finding("generated code", "fail", f"{error}. Install yottabench anew.")
    if lacking:
        return Finding("generated code", "fail", f"it lacks {', '.join(lacking)}. In a checkout: make generate")
    script = Path(yottabench.__file__).parents[2] / "openapi" / "generate.py"
    if not script.exists():
        return Finding("generated code", "ok", "has every operation of the document")
    return _regenerated(script)


def _regenerated(script: Path) -> Finding:
    command = [sys.executable, str(script), "--check"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LOOK_S)  # noqa: S603 - ours
    except subprocess.TimeoutExpired:
        return Finding("generated code", "note", "has every operation; generating it anew took too long to compare")
    if done.returncode == 0:
        return Finding("generated code", "ok", "is exactly what the document gives")
    if "No module named" in done.stderr:
        return Finding("generated code", "ok", "has every operation of the document; the generator is not installed")
    return Finding("generated code", "fail", "is not what openapi/serverless.yaml gives. Run: make generate")


def _operations(text: str) -> list[str]:
    # PyYAML comes with an extra; what the operations are called can be seen without it.
    paths = re.split(r"^(?=\w)", text.partition("\npaths:\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(r"^ {6}operationId: (\w+)$", paths, re.MULTILINE)


def _in_snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])([A-Z])", r"_\1", name).lower()


def data_directory() -> str:
    """The emulator's store can be written."""
    import platformdirs

    folder = platformdirs.user_data_path("yottabench", appauthor=False)
    return _writable(folder, "Choose another: yottabench serve --data FOLDER")


def this_folder() -> str:
    """Load tests write their runs here."""
    return _writable(Path.cwd() / "runs", "Run load tests elsewhere, or with --out FOLDER")


def _writable(folder: Path, hint: str) -> str:
    existing = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"yottabench")
    except OSError as error:
        raise Wrong(f"{folder} cannot be written: {error.strerror}. {hint}") from error
    return f"{folder} can be written"


def loopback() -> Finding:
    """Each worker of the emulator wants an address of its own."""
    try:
        socket.create_server(("127.0.0.2", 0)).close()
    except OSError:
        return Finding("loopback addresses", "note", "only 127.0.0.1: the emulator maps workers' ports to free ones")
    return Finding("loopback addresses", "ok", "127.x.y.z: the emulator's workers have addresses of their own")


def emulator_port() -> Finding:
    """The port that the emulator takes unless told otherwise."""
    check = f"port {EMULATOR_PORT}"
    try:
        socket.create_server(("127.0.0.1", EMULATOR_PORT), reuse_port=False).close()
    except OSError as error:
        hint = "if it is no emulator of yours, choose another: yottabench serve --port 0"
        return Finding(check, "note", f"{os.strerror(error.errno or 0).lower()}; {hint}")
    return Finding(check, "ok", "is free for `yottabench serve`")
