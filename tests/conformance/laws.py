"""What a schema cannot say: how the answers of several requests hang together. Each law is a function that asserts."""

import contextlib
import json
from collections.abc import Callable
from typing import Any

from tests.conformance.live import SUCCESS, Api, Stage, until

Law = Callable[[Stage], None]
LAWS: list[Law] = []
PAGE_SIZES = (1, 7, 10, 100)
LOG_PAGES_MAX = 500  # the worker of the stage prints a few dozen lines
SECRET = "a-webhook-auth-key-like-no-other"
NOBODY = "http://127.0.0.1:9/"


def law(check: Law) -> Law:
    LAWS.append(check)
    return check


# ---- tasks


@law
def pages_hold_every_task_once_and_newest_first(stage: Stage) -> None:
    api = stage.api
    queue = api.create()
    ids = [api.submit(queue, taskId=f"task_{number}") for number in range(23)]
    for size in PAGE_SIZES:
        pages = [_page(api, queue, number, size) for number in range(1, -(-len(ids) // size) + 2)]
        shown = [task["taskId"] for page in pages for task in page["items"]]
        assert shown == ids[::-1], f"page size {size}"
        for number, page in enumerate(pages, 1):
            expected = {"page": number, "size": size, "total": len(ids), "pages": -(-len(ids) // size)}
            assert {name: page[name] for name in expected} == expected
    assert [task["taskId"] for task in _page(api, queue, None, None)["items"]] == ids[:-11:-1]


def _page(api: Api, queue: str, number: int | None, size: int | None) -> dict[str, Any]:
    params = {"pageNumber": number, "pageSize": size}
    return api.data("GET", f"/{queue}/tasks", params={name: value for name, value in params.items() if value})


@law
def the_count_is_the_number_of_tasks_that_the_list_shows_as_processing(stage: Stage) -> None:
    api = stage.api
    queue = api.create()
    for number in range(5):
        listed = _page(api, queue, 1, 100)
        assert api.processing(queue) == listed["total"] == len(listed["items"]) == number
        api.submit(queue)
    assert api.processing(stage.served) == len(list(api.tasks(stage.served, status="PROCESSING")))


@law
def the_statuses_divide_the_tasks(stage: Stage) -> None:
    api = stage.api
    ended = api.submit(stage.served)
    api.ended(stage.served, ended)
    failed = api.submit(stage.served, input={"simulate": {"status": 500}})
    assert api.ended(stage.served, failed)["status"] == "FAILED"
    whole = {task["taskId"]: task["status"] for task in api.tasks(stage.served)}
    assert whole[ended] == "SUCCESS"
    parts: dict[str, str] = {}
    for status in ("PROCESSING", "DELIVERED", "SUCCESS", "FAILED"):
        for task in api.tasks(stage.served, status=status):
            assert task["status"] == status
            assert parts.setdefault(task["taskId"], status) == status
    assert parts == whole


@law
def a_list_shows_the_task_that_get_shows_without_what_is_inside(stage: Stage) -> None:
    api = stage.api
    for summary in api.tasks(stage.served, size=10):
        whole = api.task(stage.served, summary["taskId"])
        inside = {name: whole.pop(name) for name in ("input", "output", "headers")}
        assert whole == summary
        assert inside["input"] is not None


@law
def the_same_submit_again_makes_no_second_task_and_another_payload_is_refused(stage: Stage) -> None:
    api = stage.api
    queue = api.create()
    task = {"taskId": "once", "input": {"a": [1, True]}, "workerPort": 80, "processUri": "/"}
    assert api.submit(queue, **task) == api.submit(queue, **task) == "once"
    assert api.processing(queue) == 1
    for other in ({"input": {"a": [1, 1]}}, {"workerPort": 81}, {"processUri": "/x"}, {"webhook": NOBODY}):
        answer = api.call("POST", f"/{queue}/tasks", json={**task, **other})
        assert answer.code == 10001, other
    assert api.task(queue, "once")["input"] == task["input"]
    assert api.processing(queue) == 1


@law
def ids_that_the_server_makes_differ_and_obey_the_rule_for_ids(stage: Stage) -> None:
    ids = {stage.api.submit(stage.collecting) for _ in range(20)}
    assert len(ids) == 20
    assert all(task_id.isascii() and task_id.replace("_", "").isalnum() and len(task_id) <= 255 for task_id in ids)


# Numbers that a reader of doubles would change, both kinds of text, order and spaces that a parser would lose.
VERBATIM = (
    b'{ "b":1.0 , "a":[9223372036854775807,-0.0,1e400,1E+2],'
    b' "\xf0\x9f\x98\x80":"\\ud83d\\ude00 \xf0\x9f\x98\x80 \\u0000", "a b":{"":null} }',
    b'"\xe2\x80\xa8 \xcc\x81 \xf3\xa0\x80\x81 \xef\xbf\xbf"',
    b"[[[[[[[[[[0]]]]]]]]]]",
    b"123456789012345678901234567890.10",
)


@law
def an_input_reaches_the_worker_and_comes_back_byte_for_byte(stage: Stage) -> None:
    api = stage.api
    for payload in VERBATIM:
        sent = b'{"input":' + payload + b',"workerPort":8000,"processUri":"/v1/echo"}'
        answer = api.send(f"/{stage.served}/tasks", sent)
        assert answer.code == SUCCESS, answer.message
        task_id = answer.data["taskId"]
        assert api.ended(stage.served, task_id)["status"] == "SUCCESS"
        shown = api.call("GET", f"/{stage.served}/tasks/{task_id}").text
        assert f'"input":{payload.decode()}' in shown
        assert f'"output":{payload.decode()}' in shown


@law
def odd_text_is_accepted_or_refused_but_never_breaks_the_server(stage: Stage) -> None:
    for text in (b'"\xf0\x9f\x98\x80"', b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\xed\xa0\x80"', b"NaN", b"[" * 5000):
        for place in (b'{"input":%s,"workerPort":1,"processUri":"/"}', b'{"taskId":%s,"input":1}', b'{"%s":1}', b"%s"):
            answer = stage.api.send(f"/{stage.collecting}/tasks", place % text)
            assert answer.code in {SUCCESS, 10001}, (place % text)[:60]


@law
def headers_are_kept_as_they_were_sent(stage: Stage) -> None:
    headers = {"Authorization": "Bearer token123", "X-Empty": "", "x-tab": "a\tb", "!#$%&'*+.^_`|~-": "any"}
    task_id = stage.api.submit(stage.served, headers=headers)
    assert stage.api.ended(stage.served, task_id)["headers"] == headers


@law
def a_webhook_auth_key_is_never_shown(stage: Stage) -> None:
    api = stage.api
    queue = api.create()
    task_id = api.submit(queue, webhook=NOBODY, webhookAuthKey=SECRET)
    for path in (f"/{queue}/tasks/{task_id}", f"/{queue}/tasks", f"/{queue}", "", f"/{queue}/workers"):
        assert SECRET not in api.call("GET", path).text, path
    body = {"taskId": task_id, "input": 1, "workerPort": 1, "processUri": "/", "webhookAuthKey": SECRET}
    for refused in ({**body, "workerPort": 0}, {**body, "webhookAuthKey": SECRET + "\n"}, body):
        answer = api.call("POST", f"/{queue}/tasks", json=refused)
        assert answer.code == 10001
        assert SECRET not in answer.text


@law
def a_task_is_made_before_it_changes_and_changes_before_it_ends(stage: Stage) -> None:
    task = stage.api.ended(stage.served, stage.api.submit(stage.served))
    assert 0 < task["createdAt"] <= task["updatedAt"]
    assert task["deliveredAt"] is None
    assert (task["deliveryStatus"], task["deliveryAttempts"]) == ("INIT", 0)
    assert task["workerUrl"].startswith("http://")
    assert str(task["endpointId"]) == stage.served


# ---- endpoints


@law
def a_new_endpoint_is_the_first_of_the_list_and_shows_what_was_asked_for(stage: Stage) -> None:
    api = stage.api
    asked = {"environmentVars": [{"key": "A", "value": "1"}], "expose": {"port": 80, "protocol": "http"}}
    endpoint_id = api.create(**asked)
    whole = api.data("GET", f"/{endpoint_id}")
    listed = api.data("GET", "")
    assert listed[0]["id"] == endpoint_id
    assert {name: whole[name] for name in asked} == asked
    assert endpoint_id.isdigit()
    assert int(endpoint_id) > 2**53
    assert len({endpoint["id"] for endpoint in listed}) == len(listed)


@law
def an_update_changes_what_is_sent_keeps_what_is_not_and_removes_what_is_null(stage: Stage) -> None:
    api = stage.api
    endpoint_id = api.create(webhook=NOBODY, environmentVars=[{"key": "A", "value": "1"}])
    api.data("POST", f"/{endpoint_id}/stop")
    before = api.data("GET", f"/{endpoint_id}")
    change = {"name": "changed", "resources": before["resources"], "workers": 3, "containerVolumeInGb": 21}
    after = api.data("PATCH", f"/{endpoint_id}", json=change)
    assert (after["name"], after["totalWorkers"], after["containerVolumeInGb"]) == ("changed", 3, 21)
    for name in ("image", "webhook", "environmentVars", "serviceMode", "createdAt"):
        assert after[name] == before[name]
    cleared = api.data("PATCH", f"/{endpoint_id}", json={**change, "webhook": None})
    assert cleared["webhook"] is None
    shown = api.data("GET", f"/{endpoint_id}")
    assert {**shown, "cost": None, "updatedAt": None} == {**cleared, "cost": None, "updatedAt": None}


@law
def a_scaled_endpoint_shows_the_new_number(stage: Stage) -> None:
    for count in (0, 1000, 4):
        stage.api.data("PUT", f"/{stage.parked}/workers", params={"count": count})
        assert stage.api.data("GET", f"/{stage.parked}")["totalWorkers"] == count


@law
def an_endpoint_takes_no_tasks_while_it_is_stopped_and_keeps_those_it_has(stage: Stage) -> None:
    api = stage.api
    queue = api.create()
    api.submit(queue, taskId="kept")
    api.data("POST", f"/{queue}/stop")
    refused = api.call("POST", f"/{queue}/tasks", json={"input": 1, "workerPort": 1, "processUri": "/"})
    assert refused.code == 24000
    assert [task["taskId"] for task in api.tasks(queue)] == ["kept"]
    api.data("POST", f"/{queue}/start")
    until(lambda: api.data("GET", f"/{queue}"), lambda endpoint: endpoint["status"] == "RUNNING")
    api.submit(queue, taskId="new")
    assert api.processing(queue) == 2


@law
def only_queues_take_tasks(stage: Stage) -> None:
    for mode in ("ALB", "CUSTOM"):
        endpoint_id = stage.api.create(mode=mode, expose={"port": 80, "protocol": "http"})
        body = {"input": 1, "workerPort": 1, "processUri": "/"}
        assert stage.api.call("POST", f"/{endpoint_id}/tasks", json=body).code == 10001


@law
def a_deleted_endpoint_is_gone_for_every_operation(stage: Stage) -> None:
    api = stage.api
    endpoint_id = api.create()
    api.submit(endpoint_id, taskId="t")
    api.data("DELETE", f"/{endpoint_id}")
    for method, path, sent in _operations_of(endpoint_id):
        assert api.call(method, path, **sent).code == 14000, f"{method} {path}"
    assert endpoint_id not in {endpoint["id"] for endpoint in api.data("GET", "")}


@law
def another_account_sees_nothing_of_it(stage: Stage) -> None:
    for method, path, sent in _operations_of(stage.served):
        assert stage.other.call(method, path, **sent).code == 14000, f"{method} {path}"
    assert stage.served not in {endpoint["id"] for endpoint in stage.other.data("GET", "")}


@law
def nothing_is_done_without_a_key_that_is_known(stage: Stage) -> None:
    for key in (None, "no-such-key"):
        with contextlib.closing(Api(stage.api.url, key)) as stranger:
            for method, path, sent in (("GET", "", {}), ("POST", "", {"json": {}}), *_operations_of(stage.served)):
                answer = stranger.call(method, path, **sent)
                assert (answer.code, answer.status) == (40101, 401), f"{method} {path}"


def _operations_of(endpoint_id: str) -> list[tuple[str, str, dict[str, Any]]]:
    """A valid request of every operation on an endpoint; the last one ends it."""
    task = {"input": 1, "workerPort": 1, "processUri": "/"}
    change = {
        "name": "a",
        "resources": [{"region": "r", "gpuType": "g", "gpuCount": 1}],
        "workers": 1,
        "containerVolumeInGb": 20,
    }
    return [
        ("GET", f"/{endpoint_id}", {}),
        ("PATCH", f"/{endpoint_id}", {"json": change}),
        ("POST", f"/{endpoint_id}/stop", {}),
        ("POST", f"/{endpoint_id}/start", {}),
        ("PUT", f"/{endpoint_id}/workers", {"params": {"count": 0}}),
        ("GET", f"/{endpoint_id}/workers", {}),
        ("GET", f"/{endpoint_id}/workers/1/logs", {}),
        ("POST", f"/{endpoint_id}/tasks", {"json": task}),
        ("GET", f"/{endpoint_id}/tasks", {}),
        ("GET", f"/{endpoint_id}/tasks/count", {}),
        ("GET", f"/{endpoint_id}/tasks/t", {}),
        ("DELETE", f"/{endpoint_id}", {}),
    ]


@law
def a_status_list_selects(stage: Stage) -> None:
    api = stage.api
    everything = {endpoint["id"]: endpoint["status"] for endpoint in api.data("GET", "")}
    for wanted in ("RUNNING", "STOPPED", "STOPPED,RUNNING", "TERMINATED"):
        found = {endpoint["id"] for endpoint in api.data("GET", "", params={"statusList": wanted})}
        assert found == {name for name, status in everything.items() if status in wanted.split(",")}, wanted
    running = api.data("GET", f"/{stage.served}/workers", params={"statusList": "RUNNING"})
    assert [worker["id"] for worker in running] == [worker["workerId"] for worker in running] == [stage.worker_id]
    assert api.data("GET", f"/{stage.served}/workers", params={"statusList": "FAILED"}) == []


# ---- logs


@law
def log_pages_hold_every_line_once_in_both_directions(stage: Stage) -> None:
    api = stage.api
    for number in range(5):
        api.ended(stage.served, api.submit(stage.served, taskId=f"logged_{number}"))
    path = f"/{stage.served}/workers/{stage.worker_id}/logs"
    names = {f"task=logged_{number} " for number in range(5)}
    # A worker writes a task's line after it answered, and a page read before that lacks it.
    whole = until(
        lambda: _logs(api, path, size=1000, direction="Forward"),
        lambda lines: all(any(name in text for _, text in lines) for name in names),
    )
    for size in (1, 3):
        assert _logs(api, path, size=size, direction="Forward") == whole
        assert _logs(api, path, size=size, direction="Backward") == whole[::-1]
    found = _logs(api, path, size=2, direction="Forward", keyword="task=logged_3 ")
    assert found == [line for line in whole if "task=logged_3 " in line[1]]


def _logs(api: Api, path: str, *, size: int, direction: str, **more: str) -> list[tuple[int, str]]:
    params: dict[str, Any] = {"pageSize": size, "direction": direction, **more}
    lines: list[tuple[int, str]] = []
    for _ in range(LOG_PAGES_MAX):
        page = api.data("GET", path, params=params)
        assert len(page["logs"]) <= size
        lines += [(entry["offset"], entry["log"]) for entry in page["logs"]]
        if not page["hasMore"]:
            return lines
        params["searchAfterTime"] = page["nextSearchAfterTime"]
        params["searchAfterOffset"] = page["nextSearchAfterOffset"]
    raise AssertionError(f"More than {LOG_PAGES_MAX} pages: they do not end.")


# ---- the document's own samples


@law
def documented_requests_get_documented_answers(stage: Stage) -> None:
    api = stage.api
    endpoint = api.data("POST", "", json=_documented("CreateEndpointRequest") | {"workers": 0})
    shown = {"name": "llama-inference", "image": "vllm/vllm-openai:latest", "serviceMode": "QUEUE"}
    assert {name: endpoint[name] for name in shown} == shown
    updated = api.data("PATCH", f"/{stage.parked}", json=_documented("UpdateEndpointRequest"))
    assert (updated["name"], updated["totalWorkers"]) == ("updated-name", 4)
    assert updated["environmentVars"] == [{"key": "MODEL", "value": "llama-3-70b"}]
    task = _documented("SubmitTaskRequest") | {"webhook": NOBODY}
    assert api.data("POST", f"/{stage.collecting}/tasks", json=task) == {"taskId": "my_task_001"}
    shown = api.task(stage.collecting, "my_task_001")
    assert (shown["input"], shown["headers"], shown["webhook"]) == (task["input"], task["headers"], NOBODY)


def _documented(name: str) -> dict[str, Any]:
    from tests.spec.documented import EXAMPLES

    return json.loads(json.dumps(dict(EXAMPLES)[name]))
