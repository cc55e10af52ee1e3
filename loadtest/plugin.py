"""Ties the engine into Locust: its command-line arguments, its web form and tables, and a role for each process."""

import json
import logging
from pathlib import Path
from typing import Any

import attrs

from loadtest.conductor import Choices
from loadtest.meter import Tally
from loadtest.roles import AloneRole, HeadRole, MasterRole, WorkerRole
from loadtest.wire import CLIENT_KINDS
from yottabench.load.detection import MODES, parse_api_qps
from yottabench.load.profile import Profile, change, find_profile, list_profiles, read_profile
from yottabench.load.target import LOCAL_HOST

USERS = "users"  # the choice of profile that leaves the rate to Locust's users
TABLE = "queue"


def install(events: Any) -> None:
    """Adds the listeners; Locust calls them in every process."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request would bury the run's own
    events.init_command_line_parser.add_listener(add_arguments)
    events.init.add_listener(_on_init)


def add_arguments(parser: Any, **_: Any) -> None:
    """Locust's own way of adding options: they appear in --help and in the web form."""
    add = parser.add_argument  # Locust shows in its form only what the parser itself was given
    shipped = [profile.name for profile in list_profiles()]
    add(
        "--load-profile",
        choices=[USERS, *shipped],
        default=USERS,
        help="Whose schedule sets the rate: a profile's, or `users`: the number of users times --tasks-per-user",
    )
    add("--tasks-per-user", type=float, default=1.0, help="Tasks per second that one user stands for (profile `users`)")
    add("--endpoint-id", default="", help="A QUEUE endpoint to use; without one, one is made and removed")
    add("--seed", type=int, default=1, help="Seed of the schedule; the same seed gives the same one")
    add(
        "--task-client",
        choices=list(CLIENT_KINDS),
        default="light",
        help="light, or httpx as the client comes (slower)",
    )
    add("--detection", choices=["", *MODES], default="", help="How ends are found, instead of the profile's way")
    add("--api-qps", default="", help="Requests per second that may look for ends, in all: a number, or v1 (60)")
    add("--runs-dir", default="runs", help="Folder in which each run's own folder is made")
    hidden: dict[str, Any] = {"default": "", "include_in_web_ui": False}
    add("--load-profile-file", help="A profile's file, instead of --load-profile", **hidden)
    add("--load-run-dir", help="An existing folder for this run, instead of a new one", **hidden)


def choices_of(environment: Any) -> Choices:
    """What the command line or the web form asks for now. Raises ProfileError."""
    options = environment.parsed_options
    live = not options.load_profile_file and options.load_profile == USERS
    if options.load_profile_file:
        profile = read_profile(Path(options.load_profile_file))
    else:
        profile = Profile(USERS, about="The users set the rate.") if live else find_profile(options.load_profile)
    looking = profile.detection
    if options.api_qps:
        looking = change(looking, "the command line", api_qps=parse_api_qps(options.api_qps))
    if options.detection:
        looking = change(looking, "the command line", mode=options.detection)
    profile = attrs.evolve(profile, detection=looking)
    return Choices(
        profile=profile,
        live=live,
        host=(environment.host or LOCAL_HOST).rstrip("/"),
        endpoint_id=options.endpoint_id,
        seed=options.seed,
        client=options.task_client,
        tasks_per_user=options.tasks_per_user,
        run_dir=options.load_run_dir,
        runs_dir=options.runs_dir,
        run_time_s=float(options.run_time) if options.run_time else None,
    )


def _on_init(environment: Any, runner: Any, web_ui: Any, **_: Any) -> None:
    from locust.runners import MasterRunner, WorkerRunner

    if isinstance(runner, WorkerRunner):
        WorkerRole(environment, runner).listen()
        return
    head = MasterRole if isinstance(runner, MasterRunner) else AloneRole
    role = head(environment, runner, lambda: choices_of(environment))
    role.listen()
    if web_ui is not None:
        _add_tab(web_ui, role)


def _add_tab(web_ui: Any, role: HeadRole) -> None:
    """A tab beside Locust's own: tasks are not requests, so they have no place in its table."""
    columns = [
        ("name", "Measured"),
        ("count", "Tasks"),
        ("p50", "p50 (ms)"),
        ("p95", "p95 (ms)"),
        ("p99", "p99 (ms)"),
        ("max", "Max (ms)"),
    ]
    web_ui.template_args["extended_tabs"] = [{"title": "Queue", "key": TABLE}]
    web_ui.template_args["extended_tables"] = [
        {"key": TABLE, "structure": [{"key": key, "title": title} for key, title in columns]}
    ]

    def add_rows(response: Any) -> Any:
        from flask import request

        if request.path.endswith("/stats/requests") and response.is_json:
            body = json.loads(response.get_data())
            body["extended_stats"] = [{"key": TABLE, "data": table_rows(role.conductor.total)}]
            response.set_data(json.dumps(body))
        return response

    web_ui.app.after_request(add_rows)


def table_rows(total: Tally) -> list[dict[str, str | int]]:
    """The rows of the tab; the page sorts them by name."""
    names = {
        "e2e": "End to end: from due until seen to have ended",
        "submit": "Submit: from due until acknowledged",
        "lateness": "Generator: from due until sent",
    }
    rows: list[dict[str, str | int]] = []
    for key, name in names.items():
        found = total.latencies[key]
        values = [*found.percentiles_ms((50, 95, 99)), found.max_ms]
        figures = dict(zip(("p50", "p95", "p99", "max"), values, strict=True))
        rows.append(
            {"name": name, "count": found.count}
            | {key: "" if value is None else f"{value:.1f}" for key, value in figures.items()}
        )
    outcomes = {
        "accepted": "Tasks acknowledged",
        "throttled": "Tasks answered 429",
        "refused": "Tasks refused",
        "unknown": "Tasks without an answer",
        "ended": "Tasks ended",
        "failed": "Tasks ended as FAILED",
        "looks": "Requests that looked for ends",
    }
    rows.extend({"name": name, "count": total.counts[key]} for key, name in outcomes.items())
    return rows
