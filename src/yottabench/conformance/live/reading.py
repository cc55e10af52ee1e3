"""The checks that only read: lists, single things and their pages, and what must be refused of each."""

import json
from collections.abc import Iterator
from typing import Any

from yottabench.conformance.document import follow, operations
from yottabench.conformance.live.findings import Findings
from yottabench.conformance.live.service import KeyRefused, Seen, Service
from yottabench.conformance.values import values

NOBODY = "1"  # an id that no service gives away
NO_TASK = "yottabench_no_such_task"
UNAUTHENTICATED, NO_ENDPOINT, NO_WORKER, NO_TASK_CODE = 40101, {14000, 24001}, {10007}, {24011}


def read(service: Service, findings: Findings, endpoint_id: str | None, endpoints_max: int) -> None:
    """Check everything that can be checked without changing anything. Raises OutOfBudget, Unreachable, KeyRefused."""
    first = service.call("listEndpoints", "anything")
    if first is not None and first.code == UNAUTHENTICATED:
        raise KeyRefused
    listed: list[Any] = first.data if first is not None and first.ok else []
    by_id = {str(one["id"]): one for one in listed}
    chosen = [endpoint_id] if endpoint_id is not None else _chosen(listed, endpoints_max)
    if not chosen and not findings.writes:
        of_endpoints = [name for name, one in operations().items() if "{id}" in one.path and one.method == "GET"]
        findings.skip(of_endpoints, "there is no endpoint to read; name one with --endpoint-id, or make one")
    for one in chosen:
        read_endpoint(service, findings, one, by_id.get(one))
    missing(service, chosen[0] if chosen else None)
    keys(service, chosen[0] if chosen else NOBODY)
    filters(service, listed)
    parameters(service, "listEndpoints", {})
    if chosen:
        _parameters_of(service, findings, chosen[0])


def _chosen(listed: list[Any], at_most: int) -> list[str]:
    """Those that have most to show first: queues that run."""
    ranked = sorted(listed, key=lambda one: (one["serviceMode"] != "QUEUE", one["status"] != "RUNNING"))
    return [str(one["id"]) for one in ranked[:at_most]]


def read_endpoint(service: Service, findings: Findings, endpoint_id: str, listed: Any) -> None:
    """Check one endpoint, its workers and its tasks."""
    whole = service.call("getEndpointById", ids={"id": endpoint_id})
    if whole is None or not whole.ok:
        return
    for name in ("id", "name", "image", "serviceMode"):
        if listed is not None and listed[name] != whole.data[name]:
            service.deviates("getEndpointById", f"{name} is not the same in listEndpoints and getEndpointById")
    if whole.data["id"] != endpoint_id:
        service.deviates("getEndpointById", "answered another endpoint than the one asked for")
    workers = service.call("listWorkers", ids={"id": endpoint_id})
    if workers is not None and workers.ok and workers.data:
        worker_id = workers.data[0].get("workerId") or workers.data[0].get("id")
        service.call("getWorkerLogs", ids={"id": endpoint_id, "workerId": str(worker_id)})
    else:
        findings.skip(["getWorkerLogs"], "the endpoint has no worker")
    if whole.data["serviceMode"] == "QUEUE":
        read_tasks(service, findings, endpoint_id)
    else:
        findings.skip(["listTasks", "getTaskCount", "getTaskById"], "only QUEUE endpoints have tasks")


def read_tasks(service: Service, findings: Findings, endpoint_id: str) -> None:
    """Check the pages of tasks, their count, and single tasks against the pages."""
    before = service.call("getTaskCount", ids={"id": endpoint_id})
    listed = service.call("listTasks", ids={"id": endpoint_id}, query={"status": "PROCESSING", "pageSize": 1})
    after = service.call("getTaskCount", ids={"id": endpoint_id})
    counts = [one.data["processing"] for one in (before, after) if one is not None and one.ok]
    # Only while nothing changes must the two agree.
    if len(counts) == 2 and counts[0] == counts[1] and listed is not None and listed.ok:
        total = listed.data["total"]
        if total != counts[0]:
            service.deviates("getTaskCount", f"counts {counts[0]} open tasks where listTasks has {total}")
    pages(service, endpoint_id)
    page = service.call("listTasks", ids={"id": endpoint_id}, query={"pageSize": 2})
    items: list[Any] = page.data["items"] if page is not None and page.ok else []
    if not items:
        findings.skip(["getTaskById"], "the endpoint has no task")
    for summary in items:
        whole = service.call("getTaskById", ids={"id": endpoint_id, "taskId": summary["taskId"]})
        for name in ("taskId", "endpointId", "endpointName", "createdAt"):
            if whole is not None and whole.ok and whole.data[name] != summary[name]:
                service.deviates("getTaskById", f"{name} is not the same in listTasks and getTaskById")


def pages(service: Service, endpoint_id: str) -> None:
    """Check that the pages of tasks fit together, and that filters select."""
    seen: dict[int, Any] = {}
    for number, size in ((1, 10), (1, 3), (2, 3), (10_000, 100)):
        page = service.call("listTasks", ids={"id": endpoint_id}, query={"pageNumber": number, "pageSize": size})
        if page is not None and page.ok:
            seen |= {number: page.data} if size == 3 else {}
            for text in page_faults(page.data, number, size):
                service.deviates("listTasks", text)
    # Only while nothing changes do pages fit together.
    if len(seen) == 2 and seen[1]["total"] == seen[2]["total"]:
        ids = [item["taskId"] for page in seen.values() for item in page["items"]]
        if len(set(ids)) != len(ids):
            service.deviates("listTasks", "a task is on two pages")
    for status in follow(operations()["listTasks"].parameter("status").schema)["enum"]:
        page = service.call("listTasks", ids={"id": endpoint_id}, query={"status": status})
        if page is not None and page.ok and any(item["status"] != status for item in page.data["items"]):
            service.deviates("listTasks", f"shows other tasks when asked for those that are {status}")


def page_faults(page: Any, number: int, size: int) -> Iterator[str]:
    """Where the numbers of a page do not fit together."""
    if (page["page"], page["size"]) != (number, size):
        yield f"asked for page {number} of size {size}, answered page {page['page']} of size {page['size']}"
    if page["pages"] != -(-page["total"] // size):
        yield f"{page['total']} tasks in pages of {size} are not {page['pages']} pages"
    expected = min(size, max(0, page["total"] - (number - 1) * size))
    if len(page["items"]) != expected:
        yield f"page {number} of size {size} has {len(page['items'])} items of {page['total']} tasks, not {expected}"
    ids = [item["taskId"] for item in page["items"]]
    if len(set(ids)) != len(ids):
        yield "a task is twice on one page"
    times = [item["createdAt"] for item in page["items"]]
    if times != sorted(times, reverse=True):
        yield "the newest task is not the first"


def missing(service: Service, endpoint_id: str | None) -> None:
    """What is not there is answered as such."""
    for name in ("getEndpointById", "listWorkers", "listTasks", "getTaskCount"):
        _refused_as(service, name, service.call(name, "refusal", "no such endpoint", ids={"id": NOBODY}), NO_ENDPOINT)
    if endpoint_id is not None:
        ids = {"id": endpoint_id, "workerId": NOBODY}
        seen = service.call("getWorkerLogs", "refusal", "no such worker", ids=ids)
        _refused_as(service, "getWorkerLogs", seen, NO_WORKER)
        seen = service.call("getTaskById", "refusal", "no such task", ids={"id": endpoint_id, "taskId": NO_TASK})
        _refused_as(service, "getTaskById", seen, NO_TASK_CODE | {10001})  # 10001: it has no queue


def _refused_as(service: Service, name: str, seen: Seen | None, codes: set[int]) -> None:
    if seen is not None and not seen.ok and seen.code not in codes:
        service.deviates(name, f"refused with code {seen.code} what should be refused with {sorted(codes)}")


def keys(service: Service, endpoint_id: str) -> None:
    """Nothing is shown without a key."""
    for name in ("listEndpoints", "getEndpointById", "listWorkers", "listTasks", "getTaskCount"):
        seen = service.call(name, "refusal", "there is no key", key=None, ids={"id": endpoint_id})
        _refused_as(service, name, seen, {UNAUTHENTICATED})


def filters(service: Service, listed: list[Any]) -> None:
    """A list of statuses selects."""
    for status in sorted({str(one["status"]) for one in listed})[:2]:
        found = service.call("listEndpoints", query={"statusList": status})
        if found is not None and found.ok and any(one["status"] != status for one in found.data):
            service.deviates("listEndpoints", f"shows other endpoints when asked for those that are {status}")


def _parameters_of(service: Service, findings: Findings, endpoint_id: str) -> None:
    parameters(service, "listWorkers", {"id": endpoint_id})
    if findings.operations["listTasks"].succeeded:
        parameters(service, "listTasks", {"id": endpoint_id})
    workers = service.call("listWorkers", ids={"id": endpoint_id})
    if workers is not None and workers.ok and workers.data:
        worker_id = workers.data[0].get("workerId") or workers.data[0].get("id")
        parameters(service, "getWorkerLogs", {"id": endpoint_id, "workerId": str(worker_id)})


def parameters(service: Service, name: str, ids: dict[str, str]) -> None:
    """Values on both sides of every bound of the query parameters of an operation that reads."""
    for parameter in operations()[name].parameters:
        # Two tokens come together (N27) and mean nothing but what the service meant by them.
        if parameter.place != "query" or parameter.name.startswith("searchAfter"):
            continue
        kind = {"integer": int, "string": str}[follow(parameter.schema)["type"]]
        for value in values(parameter.schema):
            # In a query everything is text. Statuses are taken in any case (N37), and an empty filter may be none.
            if type(value.value) is not kind or value.value == "" or "another case" in value.why:
                continue
            why = f"{parameter.name} {value.why} ({json.dumps(value.value)[:80]})"
            expected = "success" if value.allowed else "refusal"
            service.call(name, expected, why, query={parameter.name: value.value}, ids=ids)
