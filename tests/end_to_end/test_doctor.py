"""`yottabench doctor` finds what is wrong, and says what to do about it."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.emulator import emulator, make_endpoint
from tests.end_to_end.commands import Run, runner
from yottabench.cli import doctor, doctor_installation
from yottabench.cli.doctor_installation import Finding

KEY = "doctor"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"{KEY}\n")
    with emulator("--keys-file", str(keys)) as made:
        yield made


@pytest.fixture
def run(url: str) -> Run:
    return runner({"YOTTA_BASE_URL": url, "YOTTA_API_KEY": KEY, "NO_COLOR": "1"})


@pytest.fixture
def target_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """The installation is looked at by a test of its own: it takes seconds."""
    monkeypatch.setattr(doctor, "installation", lambda: iter(()))


def test_a_good_installation_and_a_good_deployment_are_found_good(run: Run, url: str) -> None:
    done = run("doctor", "--endpoint-id", make_endpoint(url, KEY), "--json")
    states = {finding["check"]: finding["state"] for finding in done.json}
    assert done.code == 0, done.out
    good = ("document", "generated code", "data directory", "this folder", "target", "api key", "clock", "endpoint")
    assert {check: states[check] for check in good} == dict.fromkeys(good, "ok")
    assert set(states) >= {f"extra {extra}" for extra in doctor_installation.EXTRAS} | {"python", "port 8080"}


@pytest.mark.usefixtures("target_only")
def test_a_deployment_that_does_not_work_is_told_with_the_next_step(run: Run, url: str) -> None:
    queue_only = make_endpoint(url, KEY, workers=0)
    cases: list[tuple[list[str], dict[str, str], str]] = [
        (["--base-url", "http://127.0.0.1:1"], {}, "Start an emulator with: yottabench serve"),
        (["--base-url", f"{url}/elsewhere"], {}, "does not answer as the Serverless API"),
        (["--base-url", "nowhere"], {}, "The base URL must be like"),
        (["--base-url", "https://example.test"], {"YOTTA_API_KEY": ""}, "Set the environment variable YOTTA_API_KEY"),
        ([], {"YOTTA_API_KEY": "another"}, "Check the api_key argument or the environment variable YOTTA_API_KEY."),
        (["--endpoint-id", queue_only], {}, "has no running worker; tasks only wait. Look at its workers' logs"),
        (["--endpoint-id", "1"], {}, "List endpoints to find the id."),
    ]
    for options, variables, said in cases:
        done = run("doctor", *options, **variables)
        assert (done.code, said in done.out) == (1, True), (options, done)


@pytest.mark.usefixtures("target_only")
@pytest.mark.parametrize(("seconds", "said"), [(1000, "ahead of"), (-1000, "behind")])
def test_a_wrong_clock_is_told(seconds: float, said: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr("yottabench.cli.doctor.time.time", lambda: real() + seconds)
    done = run("doctor")
    assert (done.code, f" s {said} the service's" in done.out) == (1, True)


@pytest.mark.parametrize("date", [None, "soon", "Mon, 01 Jan 99999999999 00:00:00 GMT"])
def test_a_service_whose_time_nobody_can_read_is_no_failure(date: str | None) -> None:
    assert doctor._clock(date).state == "note"


# ---- the installation


def test_an_extra_that_is_missing_is_a_note_and_one_that_is_broken_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "breaks_at_import.py").write_text("raise OSError('no such library')")
    (tmp_path / "lacks_another.py").write_text("import nowhere_to_be_found")
    extras = {"a": ("json",), "b": ("json", "not_there"), "c": ("breaks_at_import",), "d": ("lacks_another",)}
    monkeypatch.setattr(doctor_installation, "EXTRAS", extras)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = {finding.check[6:]: finding for finding in doctor_installation.extras()}
    assert {extra: finding.state for extra, finding in found.items()} == {
        "a": "ok",
        "b": "note",
        "c": "fail",
        "d": "fail",
    }
    assert found["b"].detail == "not_there not installed; if you want it: pip install 'yottabench[b]'"
    assert "OSError: no such library. Install it anew: pip install 'yottabench[c]'" in found["c"].detail
    assert "nowhere_to_be_found" in found["d"].detail


def test_a_document_that_lost_an_operation_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from yottabench import spec

    text = spec.spec_text().replace("operationId: createEndpoint", "operationId: somethingNew", 1)
    monkeypatch.setattr(spec, "spec_text", lambda: text)
    assert doctor_installation.document().endswith("14 operations")
    found = doctor_installation.generated()
    assert (found.state, found.detail) == ("fail", "it lacks somethingNew. In a checkout: make generate")
    monkeypatch.setattr(spec, "spec_text", lambda: "openapi: 3.1.0\n")
    finding = doctor_installation.looked("document", doctor_installation.document)
    assert (finding.state, "has 0 operations" in finding.detail) == ("fail", True)


@pytest.mark.parametrize(
    ("returncode", "stderr", "state"),
    [(0, "", "ok"), (1, "serverless.yaml gives another", "fail"), (1, "No module named openapi_python_client", "ok")],
)
def test_generated_code_is_compared_where_the_generator_is(
    returncode: int, stderr: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ran(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert command[0] == sys.executable
        assert command[1:] == [str(Path(__file__).parents[2] / "openapi" / "generate.py"), "--check"]
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(doctor_installation.subprocess, "run", ran)
    assert doctor_installation.generated().state == state


def test_a_place_that_cannot_be_written_is_told_with_another(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(**options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor_installation.tempfile, "TemporaryFile", refused)
    for look, hint in (
        (doctor_installation.data_directory, "yottabench serve --data FOLDER"),
        (doctor_installation.this_folder, "--out FOLDER"),
    ):
        finding = doctor_installation.looked("place", look)
        assert (finding.state, "cannot be written: Permission denied" in finding.detail) == ("fail", True)
        assert hint in finding.detail


def test_a_port_that_is_taken_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(doctor_installation, "EMULATOR_PORT", taken.getsockname()[1])
        found: Finding = doctor_installation.emulator_port()
    assert (found.state, "yottabench serve --port 0" in found.detail) == ("note", True)
