"""How many workers run at a time on the whole server."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.emulator.harness import ROOT, Bench, create_body, settle
from yottabench.emulator.places import Place, Places

pytestmark = pytest.mark.anyio

MakeBench = Callable[..., Bench]


def alive(bench: Bench, endpoint_id: str) -> int:
    return sum(worker.spec.endpoint_id == endpoint_id for worker in bench.driver.alive)


async def scale(bench: Bench, endpoint_id: str, count: int) -> None:
    await bench.put(f"/{endpoint_id}/workers?count={count}")
    await settle()


@given(total=st.integers(1, 4), moves=st.lists(st.tuples(st.sampled_from(["ask", "release"]), st.integers(0, 9))))
def test_no_more_places_are_given_than_there_are_and_none_lies_idle_while_somebody_waits(
    total: int, moves: list[tuple[str, int]]
) -> None:
    places = Places(total)
    asked: list[Place] = []
    for move, number in moves:
        if move == "ask":
            asked.append(places.ask(number % 3))
        elif asked:
            asked.pop(number % len(asked)).release()
        had = sum(place.had for place in asked)
        assert had == min(total, len(asked))
        assert places.waiting == len(asked) - had == sum(place.waits for place in asked)


def test_a_place_goes_to_the_endpoint_that_had_it_then_to_who_has_fewest_then_to_who_came_first() -> None:
    places = Places(3)
    had = [places.ask(1), places.ask(1), places.ask(2)]
    of_one, of_two, of_three, of_four = (places.ask(owner) for owner in (1, 2, 3, 4))
    had[2].release()
    assert of_two.had
    of_two.release()
    assert of_three.had
    had[0].release()
    assert of_one.had
    of_one.release()
    assert of_four.had
    of_four.release()
    of_four.release()
    assert places.ask(9).had
    assert places.ask(9).waits


async def test_workers_beyond_the_total_wait_and_their_log_says_why(
    make_bench: MakeBench, caplog: pytest.LogCaptureFixture
) -> None:
    bench = make_bench(max_workers_total=3)
    await settle()
    with caplog.at_level(logging.WARNING):
        first = await bench.endpoint(workers=2)
        second = await bench.endpoint(workers=1000)
    assert "3 workers run on this server, the most that --max-workers-total allows. Others wait." in caplog.text
    assert (alive(bench, first), alive(bench, second)) == (2, 1)
    shown = await bench.get(f"/{second}")
    assert (shown["status"], shown["runningWorkers"], shown["totalWorkers"]) == ("RUNNING", 1, 1000)
    waiting = await bench.get(f"/{second}/workers?statusList=INITIALIZING")
    assert len(waiting) == 999
    logs = await bench.get(f"/{second}/workers/{waiting[0]['id']}/logs")
    assert ["waits for a place" in entry["log"] for entry in logs["logs"]] == [True]
    assert bench.on.places.waiting == 999
    # Who waits takes a place as soon as one is free, and goes without ever having started.
    await scale(bench, first, 0)
    assert (alive(bench, first), alive(bench, second)) == (0, 3)
    await scale(bench, second, 2)
    assert alive(bench, second) == 2
    assert len(bench.driver.workers) == 5
    assert len(await bench.get(f"/{second}/workers")) == 2


async def test_an_endpoint_without_a_place_waits_and_starts_when_another_ends(make_bench: MakeBench) -> None:
    bench = make_bench(max_workers_total=1)
    await settle()
    first = await bench.endpoint()
    second = await bench.endpoint()
    assert (await bench.get(f"/{second}"))["status"] == "INITIALIZING"
    await bench.submit(second, taskId="t")
    await bench.delete(f"/{first}")
    await settle()
    assert (await bench.get(f"/{second}"))["status"] == "RUNNING"
    assert [call.task_id for call in bench.driver.calls] == ["t"]


@pytest.mark.parametrize(("workers", "total"), [(1, 1), (2, 2), (4, 2), (2, 3), (3, 10)])
async def test_a_rolling_replacement_ends_also_when_all_places_are_taken(
    make_bench: MakeBench, workers: int, total: int
) -> None:
    bench = make_bench(max_workers_total=total)
    await settle()
    endpoint_id = await bench.endpoint(workers=workers)
    other = await bench.endpoint()
    bench.driver.by_hand = True
    change = create_body(workers=workers, environmentVars=[{"key": "A", "value": "2"}])
    await bench.call("PATCH", f"{ROOT}/{endpoint_id}", change)
    await settle()
    fewest = total
    for _ in range(2 * workers):
        assert len(bench.driver.alive) <= total
        fewest = min(fewest, (await bench.get(f"/{endpoint_id}"))["runningWorkers"])
        for worker in bench.driver.alive:
            worker.become_ready()
        await settle()
    mine = [worker for worker in bench.driver.alive if worker.spec.endpoint_id == endpoint_id]
    room = total - (1 if alive(bench, other) else 0)
    assert len(mine) == min(workers, room)
    assert {worker.spec.env.get("A") for worker in mine} == {"2"}
    assert fewest >= min(workers, room) - 1


async def test_a_worker_that_crashes_gives_its_place_and_its_replacement_asks_again(make_bench: MakeBench) -> None:
    bench = make_bench(max_workers_total=2)
    await settle()
    first = await bench.endpoint(workers=2)
    second = await bench.endpoint()
    bench.driver.workers[0].die()
    await settle()
    assert (alive(bench, first), alive(bench, second)) == (1, 1)
    await bench.delete(f"/{second}")
    await settle()
    assert alive(bench, first) == 2


async def test_a_reset_gives_all_places_back(make_bench: MakeBench) -> None:
    bench = make_bench(max_workers_total=2)
    await settle()
    await bench.endpoint(workers=5)
    await bench.call("POST", "/_emulator/reset")
    assert bench.driver.alive == []
    endpoint_id = await bench.endpoint(workers=2)
    assert alive(bench, endpoint_id) == 2


async def test_a_bug_at_one_worker_or_in_a_pass_does_not_stop_the_endpoint(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_id = await bench.endpoint()
    endpoint = bench.api.endpoints[int(endpoint_id)]

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as changed:
        changed.setattr(endpoint, "_hire", broken)
        await scale(bench, endpoint_id, 2)
    assert "could not be brought to what was asked for" in caplog.text
    with monkeypatch.context() as changed:
        changed.setattr(endpoint, "_past_faults", broken)
        await bench.clock.advance(1)
        assert alive(bench, endpoint_id) == 1
    assert "broke down" in caplog.text
    await bench.clock.advance(10)
    assert alive(bench, endpoint_id) == 2
    assert (await bench.get(f"/{endpoint_id}"))["runningWorkers"] == 2
