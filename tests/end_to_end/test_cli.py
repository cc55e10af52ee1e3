"""The command line against a real emulator: what it prints, for people and for programs, and how it ends."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.client.emulator import emulator, make_endpoint
from tests.end_to_end.commands import COMMAND, Run, runner

KEY = "command-line"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with emulator() as made:
        yield made


@pytest.fixture(scope="module")
def endpoint(url: str) -> str:
    return make_endpoint(url, KEY)


@pytest.fixture(scope="module")
def queue_only(url: str) -> str:
    return make_endpoint(url, KEY, workers=0)


@pytest.fixture
def environment(url: str) -> dict[str, str]:
    return {"YOTTA_BASE_URL": url, "YOTTA_API_KEY": KEY, "NO_COLOR": "1", "COLUMNS": "200"}


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run a command in this process."""
    return runner(environment)


# ---- endpoints and workers


def test_the_life_of_an_endpoint(run: Run) -> None:
    made = run("endpoints", "create", "cli", "sim/echo", "--workers", "1", "--port", "8000", "--wait", "--json").json
    assert (made["name"], made["status"]) == ("cli", "RUNNING")
    assert made["id"] in run("endpoints", "list").out
    assert made["id"] in [one["id"] for one in run("endpoints", "list", "--status", "RUNNING", "--json").json]
    (worker,) = run("workers", "list", made["id"], "--json").json
    assert worker["id"] in run("workers", "list", made["id"]).out
    assert "1 running of 1" in run("endpoints", "get", made["id"]).out
    changed = run("endpoints", "update", made["id"], "--name", "cli2", "--env", "A=1", "--json").json
    assert (changed["name"], changed["environmentVars"]) == ("cli2", [{"key": "A", "value": "1"}])
    assert changed["resources"] == made["resources"]
    assert run("endpoints", "scale", made["id"], "0").code == 0
    assert run("endpoints", "stop", made["id"]).code == 0
    assert run("endpoints", "start", made["id"], "--json").json is True
    assert "Give --yes" in run("endpoints", "delete", made["id"]).err
    assert run("endpoints", "delete", made["id"], "--yes").code == 0
    assert run("endpoints", "get", made["id"]).code == 3


def test_an_empty_list_says_what_to_do(run: Run) -> None:
    done = run("endpoints", "list", YOTTA_API_KEY="nobody")
    assert done.out == "There are no endpoints. Make one with: yottabench endpoints create NAME IMAGE\n"
    assert run("endpoints", "list", "--json", YOTTA_API_KEY="nobody").json == []


# ---- tasks


@pytest.mark.parametrize("way", ["argument", "file", "stdin"])
def test_an_input_comes_from_an_argument_a_file_or_stdin(way: str, run: Run, endpoint: str, tmp_path: Path) -> None:
    text = '{"prompt": "é"}'
    (tmp_path / "input.json").write_text(text, encoding="utf-8")
    where = {"argument": [text], "file": ["--file", str(tmp_path / "input.json")], "stdin": ["-"]}[way]
    done = run("tasks", "submit", endpoint, *where, "--wait", stdin=text if way == "stdin" else None)
    assert (done.code, done.json) == (0, {"prompt": "é"})


def test_a_task_is_submitted_and_seen_again(run: Run, queue_only: str) -> None:
    done = run(
        "tasks", "submit", queue_only, "1", "--task-id", "mine", "--port", "9", "--uri", "/x", "-H", "X-Own: 1"
    )  # fmt: skip
    assert done.out == "mine\n"
    task = run("tasks", "get", queue_only, "mine", "--json").json
    assert (task["status"], task["headers"]) == ("PROCESSING", {"X-Own": "1"})
    assert "status    PROCESSING" in run("tasks", "get", queue_only, "mine").out
    assert run("tasks", "submit", queue_only, "1", "--json").json["taskId"]
    assert run("tasks", "count", queue_only).out == "2\n"
    assert run("tasks", "count", queue_only, "--json").json == {"processing": 2}
    assert "Page 1 of 1, 2 tasks in all." in run("tasks", "list", queue_only).out
    assert run("tasks", "list", queue_only, "--page-size", "1", "--json").json["pages"] == 2
    assert len(run("tasks", "list", queue_only, "--all", "--json").lines) == 2
    assert run("tasks", "list", queue_only, "--status", "FAILED").out == "There are no such tasks here.\n"


def test_tasks_are_waited_for(run: Run, endpoint: str) -> None:
    ids = [run("tasks", "submit", endpoint, "1").out.strip() for _ in range(5)]
    done = run("tasks", "wait", endpoint, *ids)
    assert (done.code, len(done.out.splitlines())) == (0, 5)
    assert {task["taskId"] for task in run("tasks", "wait", endpoint, *ids, "--json").lines} == set(ids)


# ---- exit codes and errors


def test_each_kind_of_end_has_its_exit_code(run: Run, url: str, queue_only: str) -> None:
    flaky = make_endpoint(url, KEY, image="sim/flaky")
    fails = '{"simulate": {"status": 500}}'
    expected = {
        ("tasks", "get", queue_only, "nobody"): 3,
        ("workers", "list", "1"): 3,
        ("endpoints", "list", "--base-url", "http://127.0.0.1:1"): 5,
        ("tasks", "submit", flaky, fails, "--wait"): 6,
        ("tasks", "wait", flaky, run("tasks", "submit", flaky, fails).out.strip()): 6,
        ("tasks", "submit", queue_only, "1", "--wait", "--timeout", "0"): 7,
        ("tasks", "submit", queue_only, "{"): 2,
        ("tasks", "submit", queue_only): 2,
        ("tasks", "submit", queue_only, "1", "--file", "x"): 2,
        ("tasks", "submit", queue_only, "--file", "/nowhere/input.json"): 2,
        ("tasks", "submit", queue_only, "1", "--port", "0"): 2,
        ("tasks", "submit", queue_only, "1", "-H", "no colon"): 2,
        ("endpoints", "create", "1st", "sim/echo"): 2,
        ("endpoints", "create", "a", "sim/echo", "--resource", "x"): 2,
        ("endpoints", "create", "a", "sim/echo", "--env", "A"): 2,
        ("endpoints", "list", "--base-url", "nowhere"): 2,
        ("tasks", "nothing"): 2,
    }
    for arguments, code in expected.items():
        done = run(*arguments)
        assert done.code == code, (arguments, done)
        assert done.err.strip() or "FAILED" in done.out, arguments


def test_a_missing_key_and_a_wrong_one_are_told_apart(run: Run, tmp_path: Path) -> None:
    done = run("endpoints", "list", "--base-url", "http://example.test", YOTTA_API_KEY="")
    assert (done.code, done.err.startswith("No API key. Set the environment variable YOTTA_API_KEY")) == (2, True)
    keys = tmp_path / "keys"
    keys.write_text("the-right-key\n")
    with emulator("--keys-file", str(keys)) as url:
        assert run("endpoints", "list", "--base-url", url).code == 4
        assert run("endpoints", "list", "--base-url", url, YOTTA_API_KEY="the-right-key").code == 0


def test_an_emulator_on_this_machine_needs_no_key(run: Run) -> None:
    assert run("endpoints", "list", YOTTA_API_KEY="").code == 0


def test_an_error_is_one_line_that_says_what_next(run: Run, queue_only: str) -> None:
    done = run("tasks", "get", queue_only, "nobody")
    assert done.out == ""
    said = f"Endpoint {queue_only} has no task nobody. List its tasks to find the id."
    assert done.err == f"getTaskById: {said} (code 24011, HTTP 404)\n"


def test_an_error_is_json_for_programs(run: Run, queue_only: str) -> None:
    done = run("tasks", "get", queue_only, "nobody", "--json")
    error = json.loads(done.err)["error"]
    assert (error["kind"], error["code"], error["http_status"]) == ("TaskNotFound", 24011, 404)
    assert done.out == ""


# ---- logs


def test_logs_of_one_and_of_all_workers(run: Run, endpoint: str) -> None:
    run("tasks", "submit", endpoint, "1", "--wait", "--task-id", "in_the_log")
    worker = run("workers", "list", endpoint, "--json").json[0]["id"]
    until_s = time.monotonic() + 30
    while "task=in_the_log" not in run("logs", endpoint).out:
        assert time.monotonic() < until_s
    assert "task=in_the_log" in run("logs", endpoint, worker, "--keyword", "in_the_log").out
    (line,) = run("logs", endpoint, worker, "--keyword", "task=in_the_log", "--json").lines
    assert set(line) == {"timestamp", "log", "offset"}
    assert run("logs", endpoint, "1").code == 3


def test_logs_of_an_endpoint_without_workers_say_so(run: Run, queue_only: str) -> None:
    done = run("logs", queue_only)
    assert (done.code, "has no workers now" in done.err) == (3, True)


def read_line(process: "subprocess.Popen[str]", timeout_s: float = 30) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], timeout_s)
    assert ready, "nothing was printed"
    return process.stdout.readline()


@pytest.mark.parametrize("all_workers", [False, True])
def test_logs_are_followed_until_interrupted(
    all_workers: bool, environment: dict[str, str], run: Run, endpoint: str
) -> None:
    worker = run("workers", "list", endpoint, "--json").json[0]["id"]
    name = f"followed_{all_workers}"
    arguments = [endpoint] if all_workers else [endpoint, worker]
    command = [*COMMAND, "logs", *arguments, "-f", "--keyword", f"task={name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}) as process:
        try:
            run("tasks", "submit", endpoint, "1", "--task-id", name)
            line = read_line(process)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
    assert f"task={name} " in line
    assert line.startswith(worker) == all_workers


# ---- batches


def written(path: Path, values: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(value) for value in values) + "\n\n", encoding="utf-8")
    return str(path)


def test_a_file_becomes_tasks_and_their_results(run: Run, endpoint: str, tmp_path: Path) -> None:
    file = written(tmp_path / "in.jsonl", [{"n": number} for number in range(40)])
    done = run("batch", endpoint, file, "--out", str(tmp_path / "out.jsonl"), "--json")
    assert done.json == {"submitted": 40, "succeeded": 40, "failed": 0, "refused": 0, "open": 0, "skipped": 0}
    results = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert {result["index"]: result["output"] for result in results} == {n: {"n": n} for n in range(40)}
    assert {tuple(sorted(result)) for result in results} == {("index", "outcome", "output", "taskId")}


def test_results_go_to_stdout_and_the_summary_does_not(run: Run, endpoint: str) -> None:
    done = run("batch", endpoint, "-", "--no-outputs", stdin="1\n2\n3\n")
    assert {line["outcome"] for line in done.lines} == {"SUCCESS"}
    assert done.err == "3 submitted, 3 succeeded\n"


def test_lines_may_have_fields_of_their_own(run: Run, queue_only: str, tmp_path: Path) -> None:
    file = written(tmp_path / "in.jsonl", [{"input": 1, "taskId": "own_1", "headers": {"X-A": "b"}}, {"input": 2}])
    done = run("batch", queue_only, file, "--fields", "--no-wait")
    assert {line["outcome"] for line in done.lines} == {"SUBMITTED"}
    assert run("tasks", "get", queue_only, "own_1", "--json").json["headers"] == {"X-A": "b"}


def test_a_bad_line_is_named_before_anything_is_sent(run: Run, queue_only: str, tmp_path: Path) -> None:
    before = run("tasks", "count", queue_only).out
    (tmp_path / "in.jsonl").write_text('1\n{"a":\n', encoding="utf-8")
    done = run("batch", queue_only, str(tmp_path / "in.jsonl"), "--no-wait")
    assert (done.code, f"Line 2 of {tmp_path / 'in.jsonl'} is no JSON" in done.err) == (2, True)
    file = written(tmp_path / "fields.jsonl", [{"input": 1}, {"inputs": 1}])
    assert "Line 2" in run("batch", queue_only, file, "--fields").err
    assert run("batch", queue_only, str(tmp_path / "none.jsonl")).code == 2
    assert run("batch", queue_only, file, "--out", str(tmp_path / "no" / "out")).code == 2
    assert run("tasks", "count", queue_only).out == before


def test_a_batch_in_which_a_task_fails_ends_so(run: Run, url: str, tmp_path: Path) -> None:
    flaky = make_endpoint(url, KEY, image="sim/flaky")
    file = written(tmp_path / "in.jsonl", [{"a": 1}, {"simulate": {"status": 500}}, ""])
    done = run("batch", flaky, file)
    outcomes = {line["index"]: line["outcome"] for line in done.lines}
    assert (done.code, outcomes) == (6, {0: "SUCCESS", 1: "FAILED", 2: "REFUSED"})
    assert "input must not be" in next(line["error"] for line in done.lines if line["index"] == 2)


def test_an_interrupted_batch_goes_on_with_the_same_command(
    environment: dict[str, str], run: Run, endpoint: str, tmp_path: Path
) -> None:
    file = written(tmp_path / "in.jsonl", list(range(1, 401)))
    options = [file, "--journal", str(tmp_path / "journal"), "--max-open", "20", "--concurrency", "4"]
    command = [*COMMAND, "batch", endpoint, *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **environment}) as process:
        first = [json.loads(read_line(process)) for _ in range(20)]
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        # `communicate` would pass over what `read_line` has already taken from the pipe.
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "It goes on with the same command." in err
    first += [json.loads(line) for line in out.splitlines()]
    assert len(first) < 400
    done = run("batch", endpoint, *options)
    assert done.code == 0
    assert {result["index"] for result in [*first, *done.lines]} == set(range(400))
    assert len(first) + len(done.lines) <= 401
    ids = {result["index"]: result["taskId"] for result in first}
    assert all(ids.get(result["index"], result["taskId"]) == result["taskId"] for result in done.lines)


# ---- the rest


def test_output_that_nobody_reads_any_more_is_no_error(environment: dict[str, str], run: Run, url: str) -> None:
    queue = make_endpoint(url, KEY, workers=0)
    for _ in range(3):
        run("batch", queue, "-", "--no-wait", stdin="1\n" * 400)
    command = f"{sys.executable} -m yottabench tasks list {queue} --all --json | head -n 1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)


def test_colours_are_for_terminals_only(environment: dict[str, str], queue_only: str) -> None:
    env = {**os.environ, **environment}
    del env["NO_COLOR"]
    for arguments in (["tasks", "get", queue_only, "nobody"], ["endpoints", "list"]):
        done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env=env, check=False)
        assert "\x1b" not in done.stdout + done.stderr


def test_a_shell_can_complete_commands() -> None:
    env = {**os.environ, "_YOTTABENCH_COMPLETE": "complete_bash", "COMP_WORDS": "yottabench ta", "COMP_CWORD": "1"}
    code = "from yottabench.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)
    assert done.stdout.split() == ["tasks"]


def test_starting_the_command_imports_little() -> None:
    code = "import sys; from yottabench.cli.app import build; build(); print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"httpx", "yotta_serverless_api", "yottabench.client", "uvicorn", "locust", "msgspec", "yaml", "rich.table"}
    assert not heavy & set(found)


def test_without_its_extra_the_command_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from yottabench.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "The command needs the package typer. Install it with: pip install 'yottabench[cli]'\n"
