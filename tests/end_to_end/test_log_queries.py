"""Every documented parameter of a log query, asked of a real server about the output of real processes."""

from typing import Any

import pytest

from tests.end_to_end.processes import ROOT, Serve, Server, until

WORDS = ("alpha", "beta", "gamma 100% [x]", "delta é 😀", "alphabet")


@pytest.fixture
def told(serve: Serve) -> tuple[Server, str, str]:
    """A server, and an endpoint and a worker whose log has the words in their order, each once."""
    server = serve()
    endpoint_id = server.endpoint(workers=1)
    for word in WORDS:
        server.ended(endpoint_id, server.submit(endpoint_id, {"simulate": {"log": f"said: {word}", "output": 1}}))
    (worker,) = server.data("GET", f"/{endpoint_id}/workers")
    return server, endpoint_id, worker["id"]


def test_a_log_can_be_asked_for_in_every_documented_way(told: tuple[Server, str, str]) -> None:
    server, endpoint_id, worker_id = told

    def page(**query: Any) -> Any:
        answer = server.http.get(f"{ROOT}/{endpoint_id}/workers/{worker_id}/logs", params=query).json()
        assert answer["code"] == 10000, answer
        return answer["data"]

    def words(entries: list[Any]) -> list[str]:
        return [entry["log"].removeprefix("said: ") for entry in entries]

    def all_pages(**query: Any) -> list[Any]:
        found, tokens = [], {}
        while True:
            one = page(**query, **tokens)
            found += one["logs"]
            if not one["hasMore"]:
                return found
            tokens = {
                "searchAfterTime": one["nextSearchAfterTime"],
                "searchAfterOffset": one["nextSearchAfterOffset"],
            }

    said = until(lambda: found if len(found := page(keyword="said:")["logs"]) == len(WORDS) else None)
    assert words(said) == list(WORDS)
    assert words(all_pages(keyword="said: ", pageSize=2)) == list(WORDS)
    assert words(all_pages(keyword="said: ", pageSize=1, direction="Backward")) == list(reversed(WORDS))
    assert words(page(keyword="alpha")["logs"]) == ["alpha", "alphabet"]
    assert words(page(keyword="100% [")["logs"]) == ["gamma 100% [x]"]
    assert page(keyword="ALPHA")["logs"] == []
    whole = all_pages(pageSize=3)
    assert whole == page()["logs"] == list(reversed(all_pages(pageSize=4, direction="Backward")))
    third = said[2]["timestamp"]
    assert words(page(keyword="said:", startTime=third)["logs"])[-3:] == list(WORDS[2:])
    assert words(page(keyword="said:", endTime=third)["logs"])[:3] == list(WORDS[:3])
    # A worker that is gone can still be read, and a follower goes on where it was.
    tokens = page(pageSize=1000)
    server.data("PUT", f"/{endpoint_id}/workers?count=0")
    until(lambda: server.data("GET", f"/{endpoint_id}/workers?statusList=TERMINATED"))
    assert page()["logs"][: len(whole)] == whole
    after = {"searchAfterTime": tokens["nextSearchAfterTime"], "searchAfterOffset": tokens["nextSearchAfterOffset"]}
    assert page(**after)["logs"] == page()["logs"][len(whole) :]
