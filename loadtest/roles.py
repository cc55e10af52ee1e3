"""The three roles of a Locust process: worker, master, or alone; each drives its part of a run by Locust's events."""

import logging
import time
from collections.abc import Callable
from typing import Any

import attrs
import gevent
from gevent.event import Event

from loadtest.conductor import PATIENCE_S, Choices, Conductor, Performer
from loadtest.engine import Done, Plan
from loadtest.meter import Tally
from loadtest.users import QueueUser
from yottabench.load.profile import ProfileError, parse_profile
from yottabench.load.rundir import RunDirError
from yottabench.load.summary import summary_text
from yottabench.load.target import TargetError

START, STOP, FINISHED, DONE = "yottabench-start", "yottabench-stop", "yottabench-finished", "yottabench-done"
PROGRESS_EVERY_S = 5.0
LOOK_EVERY_S = 0.1
GIVE_UP_AFTER_S = 1.0
EXIT_CANNOT_RUN = 2

logger = logging.getLogger("yottabench")


class RequestFailed(Exception):
    """What Locust shows for a request that was not answered as hoped."""


class Role:
    """What all roles share: the events that Locust counts, and this process's part of a run."""

    def __init__(self, environment: Any, runner: Any) -> None:
        self.environment = environment
        self.runner = runner
        self.performer = Performer(self._fire)

    def _on_test_stopping(self, **_: Any) -> None:
        self.performer.stop()

    def _fire(self, *, method: str, name: str, seconds: float, length: int, error: str | None) -> None:
        self.environment.events.request.fire(
            request_type=method,
            name=name,
            response_time=seconds * 1000,
            response_length=length,
            exception=RequestFailed(error) if error else None,
            context={},
        )


class WorkerRole(Role):
    """A Locust worker: told by the master when to begin and when to end."""

    def __init__(self, environment: Any, runner: Any) -> None:
        super().__init__(environment, runner)
        self._told: Done | None = None

    def listen(self) -> None:
        """Joins Locust's events."""
        QueueUser.on_count.append(self.performer.count_users)
        self.runner.register_message(START, self._on_start, concurrent=True)
        self.runner.register_message(STOP, self._on_stop, concurrent=True)
        events = self.environment.events
        events.test_stopping.add_listener(self._on_test_stopping)
        events.test_stop.add_listener(self._on_stop)
        events.quitting.add_listener(self._on_stop)
        events.report_to_master.add_listener(self._on_report)

    def _on_start(self, msg: Any, **_: Any) -> None:
        plan = Plan(**msg.data["plan"])
        try:
            profile = parse_profile(msg.data["profile"], name="run", where="the master's profile")
            self.performer.begin(plan, profile, msg.data["tasks_per_user"], lambda: self._tell(FINISHED, plan.process))
        except (ProfileError, TargetError, OSError) as error:
            logger.error("This worker cannot take part: %s", error)
            self._tell(DONE, attrs.asdict(Done(plan.process, 0, 0, 0.0, str(error))))

    def _on_stop(self, **_: Any) -> None:
        done = self.performer.end()
        if done is not None and done is not self._told:
            self._told = done
            data: dict[str, Any] = {"tally": self.performer.take_tally().to_json()}
            self._tell(DONE, attrs.asdict(done) | data)

    def _on_report(self, data: dict[str, Any], **_: Any) -> None:
        data["yottabench"] = self.performer.take_tally().to_json()

    def _tell(self, what: str, data: Any) -> None:
        self.runner.send_message(what, data)


class HeadRole(Role):
    """The process that a run has one of: it opens and closes the run and sets the exit code."""

    def __init__(self, environment: Any, runner: Any, choices: Callable[[], Choices]) -> None:
        super().__init__(environment, runner)
        self.conductor = Conductor()
        self._choices = choices
        self._closed = Event()
        self._closed.set()
        self._closing = False

    def listen(self) -> None:
        """Joins Locust's events."""
        events = self.environment.events
        events.test_start.add_listener(self._on_test_start)
        events.test_stop.add_listener(self._on_test_stop)
        events.quitting.add_listener(self._on_quitting)
        events.quit.add_listener(self._on_quit)
        gevent.spawn(self._show_progress)

    def processes(self) -> int:
        """How many processes will send."""
        raise NotImplementedError

    def begin(self, plans: list[Plan], choices: Choices) -> None:
        """Starts every process's part."""
        raise NotImplementedError

    def end(self) -> list[Done]:
        """Ends every process's part and waits for it."""
        raise NotImplementedError

    def update(self) -> None:
        """Brings the totals up to date."""

    def halt(self) -> None:
        """Ends the test as Locust would at its --run-time; not from inside one of Locust's own greenlets."""
        if self.environment.parsed_options.headless:
            self.runner.quit()
        else:
            self.runner.stop()

    def _on_test_start(self, **_: Any) -> None:
        self._closed.wait()
        self._closed.clear()
        # Until a run is judged: whatever ends it before is no pass.
        self.environment.process_exit_code = EXIT_CANNOT_RUN
        try:
            choices = self._choices()
            self.begin(self.conductor.open(choices, self.processes()), choices)
        except (TargetError, ProfileError, RunDirError, OSError) as error:
            logger.error("%s", error)
            # Locust begins the test all the same; it can only be stopped once it has.
            gevent.spawn_later(GIVE_UP_AFTER_S, self.halt)
        finally:
            if not self.conductor.running:
                self._closed.set()

    def _on_test_stop(self, **_: Any) -> None:
        if self._closing or not self.conductor.running:
            self._closed.wait()
            return
        self._closing = True
        try:
            logger.info("Sending has ended; waiting for the last tasks, then asking the server what it holds")
            result = self.conductor.close(self.end())
            self.environment.process_exit_code = result["exit_code"]
            if not self.environment.parsed_options.headless:
                logger.info("%s", summary_text(result, self.conductor.run))
        finally:
            self._closing = False
            self._closed.set()

    def _on_quitting(self, **_: Any) -> None:
        # After SIGTERM Locust fires `quitting` with the test still running, or even still being opened.
        self.conductor.cancel()
        while not self._closed.wait(LOOK_EVERY_S):
            if self.conductor.running and not self._closing:
                self.runner.stop()

    def _on_quit(self, **_: Any) -> None:
        if self.conductor.result is not None and self.conductor.run is not None:
            print(summary_text(self.conductor.result, self.conductor.run))  # noqa: T201  below Locust's own tables

    def _show_progress(self) -> None:
        shown_s = 0.0
        while True:
            gevent.sleep(1.0)
            self.update()
            shown_s += 1.0
            if self.conductor.running and self.environment.parsed_options.headless and shown_s >= PROGRESS_EVERY_S:
                shown_s = 0.0
                logger.info("%s", progress_line(self.conductor.total))


class AloneRole(HeadRole):
    """One process that does everything."""

    def listen(self) -> None:
        """See HeadRole."""
        super().listen()
        QueueUser.on_count.append(self.performer.count_users)
        self.environment.events.test_stopping.add_listener(self._on_test_stopping)

    def processes(self) -> int:
        """See HeadRole."""
        return 1

    def begin(self, plans: list[Plan], choices: Choices) -> None:
        """See HeadRole."""
        self.performer.begin(plans[0], choices.profile, choices.tasks_per_user, self.halt)

    def end(self) -> list[Done]:
        """See HeadRole."""
        done = self.performer.end()
        self.update()
        return [done] if done is not None else []

    def update(self) -> None:
        """See HeadRole."""
        self.conductor.total.add(self.performer.take_tally())


class MasterRole(HeadRole):
    """Sends each worker its plan, and waits for those that live to say that they are done."""

    def __init__(self, environment: Any, runner: Any, choices: Callable[[], Choices]) -> None:
        super().__init__(environment, runner, choices)
        self._process_of: dict[str, int] = {}
        self._finished: set[str] = set()
        self._done: dict[str, Done] = {}
        self._halting = False
        self._workers: list[str] = []

    def listen(self) -> None:
        """See HeadRole."""
        super().listen()
        self.runner.register_message(FINISHED, self._on_finished)
        self.runner.register_message(DONE, self._on_done)
        self.environment.events.worker_report.add_listener(self._on_worker_report)
        gevent.spawn(self._watch_workers)

    def processes(self) -> int:
        """See HeadRole."""
        clients = self.runner.clients
        self._workers = [client.id for client in (*clients.ready, *clients.spawning, *clients.running)]
        return len(self._workers)

    def begin(self, plans: list[Plan], choices: Choices) -> None:
        """See HeadRole."""
        self._finished, self._done, self._halting = set(), {}, False
        self._process_of = {client_id: process for process, client_id in enumerate(self._workers)}
        profile = choices.profile.to_toml()
        for client_id, process in self._process_of.items():
            message = {
                "plan": attrs.asdict(plans[process]),
                "profile": profile,
                "tasks_per_user": choices.tasks_per_user,
            }
            self.runner.send_message(START, message, client_id=client_id)

    def end(self) -> list[Done]:
        """See HeadRole."""
        for client_id in self._waited_for():
            try:
                self.runner.send_message(STOP, None, client_id=client_id)
            except Exception as error:  # Locust raises many kinds when a worker has gone, and each means just that
                logger.debug("The worker %s cannot be told to stop: %s", client_id, error)
        until_s = time.monotonic() + self.conductor.drain_timeout_s + PATIENCE_S
        while self._waited_for() and time.monotonic() < until_s:
            gevent.sleep(LOOK_EVERY_S)
        for client_id in self._waited_for():
            logger.warning("Process %d did not say that it is done", self._process_of[client_id])
        return list(self._done.values())

    def _waited_for(self) -> list[str]:
        present = {client.id for client in self.runner.clients.all if client.state != "missing"}
        return [client_id for client_id in self._process_of if client_id not in self._done and client_id in present]

    def _on_finished(self, msg: Any, **_: Any) -> None:
        self._finished.add(msg.node_id)

    def _on_done(self, msg: Any, **_: Any) -> None:
        tally = msg.data.pop("tally", None)
        if tally:
            self.conductor.total.add(Tally.from_json(tally))
        self._done[msg.node_id] = Done(**msg.data)

    def _on_worker_report(self, data: dict[str, Any], **_: Any) -> None:
        if "yottabench" in data and self.conductor.running:
            self.conductor.total.add(Tally.from_json(data["yottabench"]))

    def _watch_workers(self) -> None:
        """Ends the test when every worker that still lives has sent its part."""
        while True:
            gevent.sleep(LOOK_EVERY_S)
            if not self.conductor.running or self._halting or not self._process_of:
                continue
            if all(client_id in self._finished for client_id in self._waited_for()):
                self._halting = True
                gevent.spawn(self.halt)


def progress_line(total: Tally) -> str:
    """Where a run is, in one line."""
    counts, e2e = total.counts, total.latencies["e2e"]
    percentiles = e2e.percentiles_ms((50, 95, 99))
    latency = " / ".join("-" if value is None else f"{value:.0f}" for value in percentiles)
    extra = "".join(
        f", {counts[name]} {name}" for name in ("throttled", "refused", "unknown", "failed") if counts[name]
    )
    return f"{counts['sent']} sent, {counts['ended']} ended, end to end p50/p95/p99 {latency} ms{extra}"
