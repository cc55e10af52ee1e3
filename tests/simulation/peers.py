"""Whoever the server calls: workers and receivers that are slow, lie and die, and what they were sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from tests.emulator.harness import Call, FakeDriver, FakeWorker, Peer
from tests.simulation.watch import TERMINAL, need
from yottabench.emulator.limits import DELIVERIES_PER_DESTINATION
from yottabench.emulator.store.base import DeliveryState as D
from yottabench.emulator.store.base import LeaseTask, Moved, PutWorker, WorkerStatus
from yottabench.emulator.store.base import TaskState as T

if TYPE_CHECKING:
    from tests.simulation.world import World

Option = tuple[float, Callable[[], None]]
Key = tuple[int, str]
RECEIVERS = {9000: "http://127.0.0.1:9000/hook", 9001: "http://localhost:9001/other?a=b"}


class Workers:
    """Every worker of every server that was; `adopt` those of the next one."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = 0
        self._open: list[Call] = []
        # By seq: once retention has let a task go, its taskId may be another task's.
        self._seqs: dict[Call, int] = {}
        self._attempts: dict[int, list[int]] = {}
        self._answers: dict[tuple[int, int], tuple[str, bytes]] = {}
        self._status: dict[int, WorkerStatus] = {}
        self._driver: FakeDriver

    def adopt(self, driver: FakeDriver) -> None:
        self._driver = driver
        self._seen = 0
        self._open = []
        driver.by_hand = self._world.plan.has("slow starts") and not self._world.draining

    @property
    def _calls(self) -> list[Call]:
        """Tasks in the hands of workers."""
        self._open = [call for call in self._open if call.is_open]
        return self._open

    # ---- what may happen

    def may(self) -> Iterator[Option]:
        plan = self._world.plan
        if self._calls:
            yield 4, self._answer
        if plan.has("worker deaths") and self._driver.alive:
            yield 1, self._die
        if any(not worker.ready.done() for worker in self._driver.alive):
            yield 3, self._become_ready
        if plan.has("start failures"):
            yield 1, self._break_starts

    def _pick(self, found: list[Any]) -> Any:
        return self._world.chance.choice(found)

    def _answer(self) -> None:
        ways = ["ok"] * 6
        if self._world.plan.has("lying workers"):
            ways += ["error", "busy", "refuse", "lose", "time_out", "garbage", "flood", "text"]
        self._reply(self._pick(self._calls), self._pick(ways))

    def _reply(self, call: Call, way: str) -> None:
        endpoint_id = int(call.headers["x-endpoint-id"])
        self._world.note("answer", way, endpoint_id, call.task_id, call.attempt)
        body = b'{"task":"%s","attempt":%d}' % (call.task_id.encode(), call.attempt)
        key = (self._seqs[call], call.attempt)
        match way:
            case "ok":
                self._answers[key] = ("ok", body)
                call.ok(body)
            case "text":
                self._answers[key] = ("ok", b'{"raw":"%s %d"}' % (call.task_id.encode(), call.attempt))
                call.ok(b"%s %d" % (call.task_id.encode(), call.attempt))
            case "error":
                self._answers[key] = ("failed", b"HTTP 500: attempt %d" % call.attempt)
                call.reply(500, b"attempt %d" % call.attempt)
            case "busy":
                self._answers[key] = ("failed", b"HTTP 503: attempt %d" % call.attempt)
                call.reply(503, b"attempt %d" % call.attempt)
            case "garbage" | "flood":
                self._answers[key] = ("failed", b"Worker")
                getattr(call, way)()
            case _:
                getattr(call, way)()

    def _die(self) -> None:
        worker: FakeWorker = self._pick(self._driver.alive)
        self._world.note("die", worker.id)
        worker.die()

    def _become_ready(self) -> None:
        worker: FakeWorker = self._pick([each for each in self._driver.alive if not each.ready.done()])
        self._world.note("ready", worker.id)
        worker.become_ready()

    def _break_starts(self) -> None:
        self._driver.break_next = self._pick([1, 2])

    def serve(self) -> bool:
        """Good from here on. False: nobody waits for a worker."""
        self._driver.by_hand = False
        self._driver.break_next = 0
        for worker in self._driver.alive:
            if not worker.ready.done():
                worker.become_ready()
                return True
        for call in self._calls:
            self._reply(call, "ok")
            return True
        return False

    # ---- what must hold

    def check_leases(self, commands: list[Any], outcomes: list[Any]) -> None:
        """A commit gives tasks only to workers that take them."""
        for command, outcome in zip(commands, outcomes, strict=True):
            if isinstance(command, PutWorker):
                self._status[command.worker.id] = command.worker.status
            elif isinstance(command, LeaseTask) and outcome is Moved.DONE:
                status = self._status[command.worker_id]
                need(status is WorkerStatus.RUNNING, "Only a worker that serves is given a task.", command, status)

    def look(self) -> None:
        """Every call that came in since the last look, and all that are in somebody's hands."""
        new = self._driver.all_calls[self._seen :]
        self._seen += len(new)
        self._open += new
        for call in new:
            self._take(call)
        if new:
            open_calls = [(call.headers["x-endpoint-id"], call.task_id) for call in self._calls]
            need(len(set(open_calls)) == len(open_calls), "At most one worker has a task.", open_calls)
            most = self._world.plan.settings["concurrency"]
            full = [worker.id for worker in self._driver.workers if len(worker.calls) > most]
            need(not full, "No worker has more tasks than it may.", full)

    def _take(self, call: Call) -> None:
        world = self._world
        key = (int(call.headers["x-endpoint-id"]), call.task_id)
        world.note("call", *key, call.attempt)
        row = world.watch.tasks[world.watch.by_name[key]]
        need(row.state == T.LEASED or row.state == T.FAILED, "A lease is durable before its worker is called.", row)
        need(row.fence == call.attempt, "Only the newest lease is called.", row, call.attempt)
        world.clients.check_call(key, call)
        self._seqs[call] = row.seq
        attempts = self._attempts.setdefault(row.seq, [])
        need(all(call.attempt > each for each in attempts), "The fence of a task rises with each call.", attempts, row)
        attempts.append(call.attempt)
        world.clock.call_at(world.clock.ms + int(world.plan.settings["worker_timeout_s"] * 1000), call.time_out)

    def check_all(self) -> None:
        """Every result is the answer to its last attempt."""
        for row in self._world.watch.tasks.values():
            if row.state not in TERMINAL:
                continue
            answer = self._answers.get((row.seq, row.fence))
            if row.state != T.FAILED:
                need(answer == ("ok", row.output), "A result is what the newest lease was answered.", row, answer)
            else:
                assert row.error is not None
                said = answer is not None and answer[0] == "failed" and row.error.encode().startswith(answer[1])
                ours = row.error.startswith(("No worker ended this task", "The endpoint was deleted"))
                need(said or ours, "A failure is what the newest lease was answered, or ours.", row, answer)


@attrs.define
class _Story:
    """The sends of one delivery so far, and which server made the last."""

    sends: list[int] = attrs.field(factory=list)
    boot: int = 0


class Receivers:
    """Two addresses that take webhooks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._peers: dict[int, Peer] = {port: world.network.receiver(port) for port in RECEIVERS}
        self._seen = dict.fromkeys(RECEIVERS, 0)
        self._open: dict[int, list[Call]] = {port: [] for port in RECEIVERS}
        self._full_ms = dict.fromkeys(RECEIVERS, 0)  # when all its places were taken last
        self._stories: dict[int, _Story] = {}  # by the seq of the task

    @property
    def _calls(self) -> list[Call]:
        """Webhooks in the hands of receivers."""
        self._open = {port: [call for call in calls if call.is_open] for port, calls in self._open.items()}
        return [call for calls in self._open.values() for call in calls]

    def may(self) -> Iterator[Option]:
        if self._calls:
            yield 4 if not self._world.plan.has("receivers hang") else 1, self._answer

    def _answer(self) -> None:
        ways = ["ok"]
        if self._world.plan.has("receivers fail"):
            ways += ["ok", "no", "no", "refuse", "lose", "garbage"]
        self._reply(self._world.chance.choice(self._calls), self._world.chance.choice(ways))

    def _reply(self, call: Call, way: str) -> None:
        self._world.note("receive", way, call.peer is self._peers[9000])
        match way:
            case "ok":
                call.reply(204)
            case "no":
                call.reply(500)
            case _:
                getattr(call, way)()

    def serve(self) -> bool:
        """Answer at once, and, if they are to recover, well. False: nobody waits for a receiver."""
        plan = self._world.plan
        ways = ["ok"] if plan.healing or not plan.has("receivers fail") else ["ok", "no", "no", "no", "refuse"]
        for call in self._calls:
            self._reply(call, self._world.chance.choice(ways))
            return True
        return False

    def look(self) -> None:
        """Every send that came in since the last look."""
        for port, peer in self._peers.items():
            new = peer.all_calls[self._seen[port] :]
            self._seen[port] += len(new)
            self._open[port] += new
            for call in new:
                self._take(call, port)
            if len(self._open[port]) >= DELIVERIES_PER_DESTINATION and len(peer.calls) >= DELIVERIES_PER_DESTINATION:
                self._full_ms[port] = self._world.clock.ms

    def _take(self, call: Call, port: int) -> None:
        world = self._world
        world.clock.call_at(world.clock.ms + 10_000, call.time_out)
        body = call.json
        if "user_task_id" not in body:
            world.note("send", body["worker_id"], body["status"])
            return
        key = (int(body["endpoint_id"]), body["user_task_id"])
        number = body["retry_count"]
        world.note("send", *key, number)
        row = world.watch.tasks[world.watch.by_name[key]]
        need(row.state in TERMINAL, "A webhook tells only of a durable end.", row)
        need(body["success"] == (row.state != T.FAILED), "A webhook tells how its task ended.", row, body)
        its = next(each for each in world.watch.deliveries.values() if each.task_seq == row.seq)
        need(its.state == D.INFLIGHT, "A send is written down before it goes out.", its)
        need(number == its.attempts + 1, "A webhook counts its sends.", its, number)
        self._timed(row.seq, number, its.next_ms, port)

    def _timed(self, seq: int, number: int, due_ms: int, port: int) -> None:
        """`due_ms` is the store's; that it follows the ladder is checked with each commit (see watch.py)."""
        world = self._world
        story = self._stories.setdefault(seq, _Story())
        again = bool(story.sends) and story.sends[-1] == number
        need(not again or story.boot < world.boots, "Only a crash makes a send go out twice.", seq, number)
        expected_ms = max(due_ms, world.booted_ms)
        need(world.clock.ms >= due_ms, "No webhook goes out before it is due.", seq, number, due_ms)
        if world.plan.prompt and self._full_ms[port] < due_ms:
            need(world.clock.ms == expected_ms, "A webhook goes out when it is due.", seq, number, expected_ms)
        story.sends.append(number)
        story.boot = world.boots

    def check_all(self) -> None:
        """Every ended task with a webhook was told, as often as its delivery says."""
        for each in self._world.watch.deliveries.values():
            if each.task_seq is None:
                continue
            row = self._world.watch.tasks[each.task_seq]
            sends = self._stories[row.seq].sends
            counted = list(range(1, each.attempts + 1))
            need(sorted(set(sends)) == counted, "Every send that counts went out.", row, sends)
            need(sends == sorted(sends), "Sends come in their order.", row, sends)
