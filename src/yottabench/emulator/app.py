"""The fourteen documented operations: which path is which, and what each does."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote

import msgspec

from yottabench.clock import Clock
from yottabench.emulator import queries, requests, views
from yottabench.emulator.codes import ApiError, Code
from yottabench.emulator.endpoints import Endpoint
from yottabench.emulator.fields import invalid, shown
from yottabench.emulator.limits import (
    INT32_MAX,
    READY_INPUT_MAX_BYTES,
    TASK_ID_MAX_CHARS,
    TASK_PAGE_MAX,
    WORKERS_MAX,
)
from yottabench.emulator.logs import InvalidLogQuery, parse_log_query
from yottabench.emulator.rates import Rates, check_open_tasks
from yottabench.emulator.services import Services
from yottabench.emulator.store.base import (
    OPEN_STATES,
    EndpointRecord,
    EndpointStatus,
    PutEndpoint,
    ReadyTask,
    StoreError,
    SubmitTask,
    Submitted,
    WorkerRecord,
)
from yottabench.emulator.wire import Request

_ROOT = "/v2/serverless"
# TERMINATED of an endpoint and most worker states are names that other sources know: asked for, never shown here.
ENDPOINT_STATUSES = ("INITIALIZING", "RUNNING", "STOPPING", "STOPPED", "FAILED", "TERMINATED")
WORKER_STATUSES = (
    "INITIALIZE",
    "INITIALIZING",
    "RUNNING",
    "STOPPING",
    "STOPPED",
    "TERMINATING",
    "TERMINATED",
    "FAILED",
)

Operation = Callable[..., Awaitable[Any]]

# Paths come again and again, above all that of one endpoint's tasks; what they mean is worked out once.
_KNOWN_PATHS = 1024
_KNOWN_PATH_MAX_CHARS = 512


class _Route(msgspec.Struct, frozen=True):
    """What a path names: an endpoint (as it was sent, and decoded), what is done there by method, the ids below it."""

    operations: dict[str, tuple[str, Operation]]
    segment: str
    endpoint_id: str
    ids: tuple[str, ...]


class Api:
    """Routes requests to operations. `endpoints` holds what is not deleted, by id."""

    def __init__(self, services: Services) -> None:
        self._on = services
        self._clock: Clock = services.clock
        self.endpoints: dict[int, Endpoint] = {}
        self.ending: set[Endpoint] = set()
        self._clearings: Counter[str | None] = Counter()
        # By what follows the endpoint's id, "*" for another id; then by method.
        self._routes: dict[tuple[str, ...], dict[str, tuple[str, Operation]]] = {
            (): {
                "GET": ("getEndpointById", self._get),
                "PATCH": ("updateEndpoint", self._update),
                "DELETE": ("deleteEndpoint", self._delete),
            },
            ("stop",): {"POST": ("stopEndpoint", self._stop)},
            ("start",): {"POST": ("startEndpoint", self._start)},
            ("workers",): {"GET": ("listWorkers", self._list_workers), "PUT": ("scaleWorkers", self._scale)},
            ("workers", "*", "logs"): {"GET": ("getWorkerLogs", self._logs)},
            ("tasks",): {"GET": ("listTasks", self._list_tasks), "POST": ("submitTask", self._submit)},
            ("tasks", "count"): {"GET": ("getTaskCount", self._count)},
            ("tasks", "*"): {"GET": ("getTaskById", self._get_task)},
        }
        self._reads_at_once: dict[str, Callable[..., Any]] = {
            "getTaskById": self._task,
            "getTaskCount": self._task_count,
        }
        self.operations = frozenset(
            ("createEndpoint", "listEndpoints", *(name for each in self._routes.values() for name, _ in each.values()))
        )
        self._known_route = lru_cache(maxsize=_KNOWN_PATHS)(self._route)
        self._rates = Rates(services.clock) if services.settings.limits == "documented" else None

    def handle(self, request: Request) -> Awaitable[Any]:
        """See wire.Handler."""
        path = request.path
        if path == _ROOT:
            return self._collection(request)
        route = self._known_route(path) if len(path) <= _KNOWN_PATH_MAX_CHARS else self._route(path)
        if route is None:
            raise _no_such_path(request)
        found = route.operations.get(request.method)
        if found is None:
            raise _no_such_method(request, route.operations)
        if not self._on.faults.armed:
            return self._operate(route, *found, request)
        operate = partial(self._operate, route, *found, request)
        return self._on.faults.answer(found[0], route.segment, request.namespace, operate)

    def _operate(self, route: _Route, name: str, operation: Operation, request: Request) -> Awaitable[Any]:
        # The endpoint is looked up in here: after a fault that made the request wait, it may be gone.
        endpoint = self._endpoint(route.endpoint_id, request.namespace)
        if self._rates is not None:
            self._rates.check(name, endpoint.record.id, request.namespace)
        return operation(endpoint, request, *route.ids)

    def _past_faults(self, name: str, request: Request, operate: Callable[[], Awaitable[Any]]) -> Awaitable[Any]:
        if not self._on.faults.armed:
            return operate()
        return self._on.faults.answer(name, "", request.namespace, operate)

    def _route(self, path: str) -> _Route | None:
        root, *segments = path.removeprefix(_ROOT).split("/") if path.startswith(_ROOT) else ("none",)
        if root or not 1 <= len(segments) <= 4:
            return None
        segment, *rest = segments
        shape, ids = self._shape(tuple(rest))
        operations = self._routes.get(shape)
        if operations is None:
            return None
        return _Route(operations, segment, _decoded(segment), tuple(map(_decoded, ids)))

    def _shape(self, rest: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if rest in self._routes and "*" not in rest:
            return rest, ()
        return (*rest[:1], "*", *rest[2:]), rest[1:2]

    def _endpoint(self, segment: str, namespace: str) -> Endpoint:
        endpoint = self.endpoints.get(queries.endpoint_id(segment))
        # Whose an endpoint is, is nobody else's business: another key's does not exist.
        if endpoint is None or endpoint.record.namespace != namespace:
            raise ApiError(
                Code.ENDPOINT_NOT_FOUND,
                f"Endpoint {segment} does not exist for this API key. List endpoints to find the id.",
            )
        return endpoint

    # ---- endpoints

    async def _collection(self, request: Request) -> Any:
        if request.method == "POST":
            return await self._past_faults("createEndpoint", request, lambda: self._create(request))
        if request.method == "GET":
            return await self._past_faults("listEndpoints", request, lambda: self._list(request))
        raise _no_such_method(request, ("GET", "POST"))

    async def _create(self, request: Request) -> Any:
        spec = requests.read_create(request.body, strict=self._on.settings.strict_validation)
        now_ms = self._clock.now_ms()
        clearings = self._clearings_of(request.namespace)
        record = EndpointRecord(
            id=self._on.ids.number(),
            namespace=request.namespace,
            spec=spec,
            should_run=True,
            status=EndpointStatus.RUNNING if spec.workers == 0 else EndpointStatus.INITIALIZING,
            created_ms=now_ms,
            updated_ms=now_ms,
        )
        await self._on.writer.commit(PutEndpoint(msgspec.structs.replace(record)))
        if self._clearings_of(request.namespace) != clearings:
            raise ApiError(
                Code.SYSTEM_ERROR,
                "The emulator was reset while this endpoint was made. Create it again if it is wanted.",
                http_status=503,
                retry_after_s=1,
            )
        return views.endpoint_view(self.open(record))

    def take_out(self, namespace: str | None) -> list[Endpoint]:
        """Remove the endpoints of a namespace, or all, also those that are ending: none of them is found any more."""

        def is_theirs(endpoint: Endpoint) -> bool:
            return namespace is None or endpoint.record.namespace == namespace

        found = [endpoint for endpoint in (*self.endpoints.values(), *self.ending) if is_theirs(endpoint)]
        for endpoint in found:
            self.endpoints.pop(endpoint.record.id, None)
            self.ending.discard(endpoint)
        return found

    def forget_rates(self, endpoint_ids: Collection[int], namespace: str | None) -> None:
        """What was asked so far counts no more against the limits of these endpoints and of this key, or of all."""
        if self._rates is not None:
            self._rates.forget(endpoint_ids, namespace)

    def note_clearing(self, namespace: str | None) -> None:
        """What is being created in this namespace, or in any, will be removed before its creation is answered."""
        self._clearings[namespace] += 1

    def _clearings_of(self, namespace: str) -> int:
        return self._clearings[namespace] + self._clearings[None]

    def open(self, record: EndpointRecord) -> Endpoint:
        """Put an endpoint of the store to work."""
        endpoint = self.endpoints[record.id] = Endpoint(record, self._on)
        endpoint.start()
        return endpoint

    async def _list(self, request: Request) -> Any:
        wanted = queries.query_statuses(queries.read_query(request.query), ENDPOINT_STATUSES)
        return [
            views.endpoint_view(endpoint)
            for endpoint in reversed(self.endpoints.values())
            if endpoint.record.namespace == request.namespace and (not wanted or endpoint.record.status.name in wanted)
        ]

    async def _get(self, endpoint: Endpoint, request: Request) -> Any:
        return views.endpoint_view(endpoint)

    async def _update(self, endpoint: Endpoint, request: Request) -> Any:
        edit = partial(requests.read_update, request.body, strict=self._on.settings.strict_validation)
        edit(endpoint.record.spec)  # what is wrong with the request is said before what is wrong with the state
        self._check_state(endpoint, "changed", EndpointStatus.STOPPED)
        await endpoint.change(edit)
        return views.endpoint_view(endpoint)

    async def _delete(self, endpoint: Endpoint, request: Request) -> Any:
        self._check_state(endpoint, "deleted", EndpointStatus.STOPPED, EndpointStatus.FAILED)
        self.ending.add(endpoint)
        try:
            await endpoint.delete(lambda: self.ending.discard(endpoint))
        except BaseException:
            self.ending.discard(endpoint)
            raise
        self.endpoints.pop(endpoint.record.id, None)
        return True

    async def _stop(self, endpoint: Endpoint, request: Request) -> Any:
        self._check_state(
            endpoint, "stopped", EndpointStatus.INITIALIZING, EndpointStatus.RUNNING, EndpointStatus.FAILED
        )
        await endpoint.change(should_run=False)
        return True

    async def _start(self, endpoint: Endpoint, request: Request) -> Any:
        self._check_state(endpoint, "started", EndpointStatus.STOPPED, EndpointStatus.FAILED)
        await endpoint.change(should_run=True)
        return True

    def _check_state(self, endpoint: Endpoint, verb: str, *allowed: EndpointStatus) -> None:
        """Only with --strict-lifecycle: by default start and stop are idempotent, and all else is always allowed."""
        record = endpoint.record
        if not self._on.settings.strict_lifecycle or record.status in allowed:
            return
        states = " or ".join(status.name for status in allowed)
        raise ApiError(
            Code.WRONG_STATE,
            f"Endpoint {record.id} is {record.status.name} and cannot be {verb}; that takes one that is {states}."
            " Wait for that state, or bring it about with start or stop.",
        )

    async def _scale(self, endpoint: Endpoint, request: Request) -> Any:
        count = queries.query_integer(queries.read_query(request.query), "count", 0, WORKERS_MAX, None)
        await endpoint.change(lambda spec: msgspec.structs.replace(spec, workers=count))
        return True

    # ---- workers

    async def _list_workers(self, endpoint: Endpoint, request: Request) -> Any:
        wanted = queries.query_statuses(queries.read_query(request.query), WORKER_STATUSES)
        if "TERMINATED" in wanted:
            workers = self._on.store.workers(endpoint.record.id)
        else:
            workers = [worker.record for worker in endpoint.live_workers]
        workers = workers[::-1]
        now_ms = self._clock.now_ms()
        return [
            views.worker_view(worker, endpoint.record.spec, now_ms)
            for worker in workers
            if not wanted or worker.status.name in wanted
        ]

    async def _logs(self, endpoint: Endpoint, request: Request, worker_id: str) -> Any:
        worker = self._worker(endpoint, queries.path_id(worker_id, "workerId", 64))
        query = queries.read_query(request.query)
        try:
            wanted = parse_log_query({name: queries.single(query, name) or "" for name in query})
        except InvalidLogQuery as error:
            raise ApiError(Code.INVALID, f"{error.field} {error.message}") from None
        page = await asyncio.to_thread(self._on.logs.query, str(worker.id), wanted)  # may wait for its writer
        after = page.next
        return {
            "logs": [
                {"timestamp": views.iso(entry.timestamp_ms), "log": entry.line, "offset": entry.offset}
                for entry in page.entries
            ],
            "hasMore": page.has_more,
            "nextSearchAfterTime": None if after is None else str(after[0]),
            "nextSearchAfterOffset": None if after is None else str(after[1]),
        }

    def _worker(self, endpoint: Endpoint, worker_id: str) -> WorkerRecord:
        number = int(worker_id) if worker_id.isascii() and worker_id.isdigit() and len(worker_id) <= 19 else 0
        worker = self._on.store.worker(min(number, 2**63 - 1))
        if worker is None or worker.endpoint_id != endpoint.record.id:
            raise ApiError(
                Code.NO_RECORD,
                f"Endpoint {endpoint.record.id} has no worker {worker_id}. List its workers to find the id;"
                " workers that ended are listed with statusList=TERMINATED.",
            )
        return worker

    # ---- tasks

    def submit_to(self, path: str, namespace: str) -> Endpoint | None:
        """The endpoint whose tasks `path` names, if a submit to it need not wait for anything but its commit.

        Raises ApiError when there is no such endpoint.
        """
        route = self._direct_route(path)
        if route is None or route.operations is not self._routes["tasks",]:
            return None
        return self._endpoint(route.endpoint_id, namespace)

    def read_at_once(self, path: str, namespace: str) -> Any:
        """The `data` of a GET that waits for nothing; None when that is not sure. Raises ApiError."""
        route = self._direct_route(path)
        if route is None:
            return None
        name, _ = route.operations.get("GET", ("", None))
        read = self._reads_at_once.get(name)
        return None if read is None else read(self._endpoint(route.endpoint_id, namespace), *route.ids)

    def _direct_route(self, path: str) -> _Route | None:
        """What a path names, unless something may hold the request up."""
        if self._on.faults.armed or self._rates is not None or len(path) > _KNOWN_PATH_MAX_CHARS:
            return None
        return self._known_route(path)

    async def _submit(self, endpoint: Endpoint, request: Request) -> Any:
        command = self.read_submit(endpoint, request.body)
        answered: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

        # In the turn of the commit, as direct submits do it: the queue takes tasks in the order of their seqs.
        def end(submitted: Submitted | StoreError) -> None:
            try:
                data = self.end_submit(endpoint, command, submitted)
            except Exception as error:
                if not answered.done():
                    answered.set_exception(error)
            else:
                if not answered.done():
                    answered.set_result(data)

        self.commit_then(command, end)
        return await answered

    def read_submit(self, endpoint: Endpoint, body: bytes) -> SubmitTask:
        """What a submit asks of the store. Raises ApiError."""
        submission = requests.read_submit(body, strict=self._on.settings.strict_validation)
        record = endpoint.record
        if record.spec.service_mode != "QUEUE":
            raise ApiError(
                Code.INVALID,
                f"Endpoint {record.id} is in {record.spec.service_mode} mode; only QUEUE endpoints take tasks."
                " Create one with serviceMode=QUEUE.",
            )
        if not endpoint.takes_tasks:
            raise ApiError(
                Code.NOT_ACCEPTING_TASKS,
                f"Endpoint {record.id} is {record.status.name} and takes no tasks. Start it first.",
            )
        if self._rates is not None:
            check_open_tasks(self._open_tasks(record.id), record.id)
        return SubmitTask(
            endpoint_id=record.id,
            task_id=submission.task_id or self._on.ids.task_id(),
            input=submission.input,
            worker_port=submission.worker_port,
            process_uri=submission.process_uri,
            webhook=submission.webhook,
            webhook_auth_key=submission.webhook_auth_key,
            headers=submission.headers,
            now_ms=self._clock.now_ms(),
        )

    def commit_then(self, command: SubmitTask, then: Callable[[Submitted | StoreError], None]) -> None:
        """See Writer.commit_then."""
        self._on.writer.commit_then(command, then)

    def end_submit(self, endpoint: Endpoint, command: SubmitTask, submitted: Submitted | StoreError) -> dict[str, str]:
        """The `data` of a submit, its task in the queue; to be called in the turn of the commit.

        Raises ApiError, or why it is not kept.
        """
        if isinstance(submitted, StoreError):
            raise submitted
        if submitted.known:
            self._check_repeat(command.task_id, submitted.same)
        else:
            endpoint.dispatcher.add_task(
                ReadyTask(
                    seq=submitted.seq,
                    endpoint_id=command.endpoint_id,
                    task_id=command.task_id,
                    fence=0,
                    strikes=0,
                    worker_port=command.worker_port,
                    process_uri=command.process_uri,
                    input=command.input if len(command.input) <= READY_INPUT_MAX_BYTES else None,
                    headers=command.headers,
                )
            )
        return {"taskId": command.task_id}

    def _check_repeat(self, task_id: str, same: bool) -> None:
        if not same and self._on.settings.duplicate_task == "reject":
            raise invalid(
                "taskId",
                f"{task_id} belongs to a task with another payload",
                "Choose another taskId, or send the same payload to be told of the same task.",
            )

    async def _list_tasks(self, endpoint: Endpoint, request: Request) -> Any:
        query = queries.read_query(request.query)
        status = queries.single(query, "status")
        if status is not None and status not in views.TASK_STATUSES:
            choices = ", ".join(views.TASK_STATUSES)
            raise invalid("status", f"must not be {shown(status)}", f"Choose one of {choices}.")
        page = queries.query_integer(query, "pageNumber", 1, INT32_MAX, 1)
        size = queries.query_integer(query, "pageSize", 1, TASK_PAGE_MAX, 10)
        states = views.states_shown_as(status, self._on.settings.delivered_status)
        total, tasks = self._on.store.task_page(endpoint.record.id, states, (page - 1) * size, size)
        name = endpoint.record.spec.name
        return {
            "items": [views.task_summary_view(task, name, self._on.settings.delivered_status) for task in tasks],
            "page": page,
            "size": size,
            "total": total,
            "pages": -(-total // size),
        }

    async def _count(self, endpoint: Endpoint, request: Request) -> Any:
        return self._task_count(endpoint)

    def _task_count(self, endpoint: Endpoint) -> dict[str, int]:
        return {"processing": self._open_tasks(endpoint.record.id)}

    def _open_tasks(self, endpoint_id: int) -> int:
        counts = self._on.store.counts(endpoint_id)
        return sum(counts.get(state, 0) for state in OPEN_STATES)

    async def _get_task(self, endpoint: Endpoint, request: Request, task_id: str) -> Any:
        return self._task(endpoint, task_id)

    def _task(self, endpoint: Endpoint, task_id: str) -> dict[str, Any]:
        task_id = queries.path_id(task_id, "taskId", TASK_ID_MAX_CHARS)
        task = self._on.store.task(endpoint.record.id, task_id)
        if task is None:
            raise ApiError(
                Code.TASK_NOT_FOUND,
                f"Endpoint {endpoint.record.id} has no task {task_id}. List its tasks to find the id.",
            )
        return views.task_view(task, endpoint.record.spec.name, self._on.settings.delivered_status)


def _decoded(segment: str) -> str:
    return unquote(segment, errors="replace")


def _no_such_path(request: Request) -> ApiError:
    return ApiError(
        Code.NO_SUCH_PATH,
        f"There is no {shown(request.path)} here. Paths start with {_ROOT}; see openapi/serverless.yaml.",
    )


def _no_such_method(request: Request, methods: Any) -> ApiError:
    return ApiError(
        Code.INVALID,
        f"{request.method} is no method of this path. Use {' or '.join(methods)}.",
        http_status=405,
        allow=", ".join(methods),
    )
