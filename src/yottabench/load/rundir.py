"""The folder of a run: the files through which its stages speak, so that an old run can be judged again."""

import json
import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import attrs
import orjson

from yottabench.load.journal import Journal, JournalError, read_journal
from yottabench.load.profile import Profile, parse_profile


class RunDirError(ValueError):
    """A folder that is no run, or one that cannot be written; the text says what next."""


@attrs.frozen
class RunDir:
    """The paths in a run's folder, and how its small files are read and written."""

    path: Path

    @classmethod
    def create(cls, root: Path, name: str, started: datetime) -> "RunDir":
        """Makes a new folder `root`/<start>-<name>; a number is added while that name is taken."""
        stem = f"{started:%Y%m%d-%H%M%S}-{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
        for suffix in ("", *(f"-{n}" for n in range(2, 1000))):
            path = root / f"{stem}{suffix}"
            try:
                path.mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise RunDirError(f"Cannot make the run's folder {path}: {error}. Choose another with --out.") from None
            return cls(path)
        raise RunDirError(f"{root} already holds a thousand runs named {stem}.")

    @classmethod
    def open(cls, path: Path) -> "RunDir":
        """An existing run's folder. Raises RunDirError when there is none."""
        if not (path / "meta.json").is_file():
            raise RunDirError(f"{path} is not the folder of a run: it has no meta.json. Runs are written to runs/.")
        return cls(path)

    @property
    def meta_file(self) -> Path:
        """What was run, against what, when."""
        return self.path / "meta.json"

    @property
    def profile_file(self) -> Path:
        """The profile with every override applied."""
        return self.path / "profile.toml"

    @property
    def server_file(self) -> Path:
        """What the server said it holds when the run was over: one line per task."""
        return self.path / "server.jsonl"

    @property
    def executions_file(self) -> Path:
        """What the workers' logs said they executed: one line per execution."""
        return self.path / "executions.jsonl"

    @property
    def receipts_file(self) -> Path:
        """What webhooks told: one line per send that the run's receiver got."""
        return self.path / "receipts.jsonl"

    @property
    def endpoint_file(self) -> Path:
        """The endpoint that is being made for the run, so that whoever outlives a killed run can remove it."""
        return self.path / "endpoint.json"

    @property
    def result_file(self) -> Path:
        """Every figure and the verdict, for machines."""
        return self.path / "result.json"

    @property
    def html_file(self) -> Path:
        """The report, for people."""
        return self.path / "report.html"

    @property
    def markdown_file(self) -> Path:
        """The summary, as Markdown."""
        return self.path / "report.md"

    def journal_file(self, process: int) -> Path:
        """The journal of one process."""
        return self.path / f"journal-{process}.jsonl"

    def metrics_file(self, process: int) -> Path:
        """The figures of one process, a line per second, for progress while the run goes on."""
        return self.path / f"metrics-{process}.jsonl"

    def note_endpoint(self, host: str, name: str) -> None:
        """Writes down the name of an endpoint before it is made; meta.json takes over once it is."""
        _write_whole(self.endpoint_file, json.dumps({"host": host, "name": name}).encode())

    def forget_endpoint_note(self) -> None:
        """The endpoint is in meta.json now, or was removed again."""
        self.endpoint_file.unlink(missing_ok=True)

    def noted_endpoint(self) -> tuple[str, str] | None:
        """Host and name of an endpoint that a run was making when it ended; None when there is none."""
        if not self.endpoint_file.exists():
            return None
        note: dict[str, str] = json.loads(self.endpoint_file.read_bytes())
        return note["host"], note["name"]

    def journals(self) -> tuple[list[Journal], list[str]]:
        """Every journal here that can be read, in order of process, and what is wrong with the others."""
        found: list[Journal] = []
        problems: list[str] = []
        for path in sorted(self.path.glob("journal-*.jsonl"), key=_process_number):
            try:
                found.append(read_journal(path))
            except JournalError as error:
                problems.append(str(error))
        return found, problems

    def write_profile(self, profile: Profile) -> None:
        """Keeps the profile with the run."""
        _write_whole(self.profile_file, profile.to_toml().encode())

    def read_profile(self) -> Profile:
        """The profile as the run used it."""
        return parse_profile(self.profile_file.read_text("utf-8"), name=self.path.name, where=str(self.profile_file))

    def update_meta(self, **entries: Any) -> None:
        """Adds or replaces entries of meta.json; a reader sees the old or the new file, never half of one."""
        meta = (self.read_meta() if self.meta_file.exists() else {}) | entries
        _write_whole(self.meta_file, (json.dumps(meta, indent=2) + "\n").encode())

    def read_meta(self) -> dict[str, Any]:
        """The entries of meta.json. Raises RunDirError when it is damaged."""
        try:
            return cast("dict[str, Any]", json.loads(self.meta_file.read_bytes()))
        except (OSError, ValueError) as error:
            raise RunDirError(f"{self.meta_file} cannot be read: {error}.") from None

    def write_result(self, result: dict[str, Any]) -> None:
        """Keeps the figures and the verdict."""
        _write_whole(self.result_file, (json.dumps(result, indent=2) + "\n").encode())

    def read_result(self) -> dict[str, Any] | None:
        """The figures and the verdict, None when the run was not judged yet."""
        if not self.result_file.exists():
            return None
        return cast("dict[str, Any]", json.loads(self.result_file.read_bytes()))

    def write_text(self, path: Path, text: str) -> None:
        """Writes a report, whole or not at all."""
        _write_whole(path, text.encode())


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> None:
    """Writes JSON lines, whole or not at all."""
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        for line in lines:
            file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    temporary.replace(path)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON lines of a file, or none when there is no such file; a last line that a kill cut off is left out."""
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield orjson.loads(line)


def _process_number(path: Path) -> int:
    digits = re.sub(r"\D", "", path.stem)
    return int(digits) if digits else -1


def _write_whole(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
