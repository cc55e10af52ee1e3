"""`--strict-validation` and `--strict-lifecycle`: what the vendor's console and guide refuse."""

from pathlib import Path
from typing import Any

import pytest

from tests.emulator.harness import Bench, create_body, settle, submit_body

GPU = {"region": "us-east-1", "gpuType": "NVIDIA_H100_80G", "gpuCount": 2}
ODD_RESOURCES = [
    pytest.param([{**GPU, "gpuType": "NVIDIA_H1000"}], "gpuType", id="unknown type"),
    pytest.param([{**GPU, "gpuCount": 3}], "gpuCount", id="no power of two"),
    pytest.param([GPU, {**GPU, "gpuCount": 4}], "gpuCount", id="not the same"),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("resources", "field"), ODD_RESOURCES)
async def test_strict_validation_refuses_odd_gpus(tmp_path: Path, resources: Any, field: str) -> None:
    body = create_body(resources=resources)
    async with Bench(tmp_path / "strict", strict_validation=True) as bench:
        reply = await bench.call("POST", "/v2/serverless", body)
        assert (reply.http_status, reply.code) == (400, 10001)
        assert field in reply.message
    async with Bench(tmp_path / "lenient") as bench:
        assert (await bench.call("POST", "/v2/serverless", body)).code == 10000


@pytest.mark.anyio
async def test_strict_validation_refuses_unknown_fields_and_odd_gpus(tmp_path: Path) -> None:
    async with Bench(tmp_path, strict_validation=True) as bench:
        endpoint = await bench.endpoint()
        update = {name: create_body()[name] for name in ("name", "resources", "workers", "containerVolumeInGb")}
        for method, path, body in (
            ("POST", "", create_body()),
            ("PATCH", f"/{endpoint}", update),
            ("POST", f"/{endpoint}/tasks", submit_body()),
        ):
            assert (await bench.call(method, f"/v2/serverless{path}", body)).code == 10000
            reply = await bench.call(method, f"/v2/serverless{path}", {**body, "wrokers": 1})
            assert (reply.http_status, reply.code) == (400, 10001)
            assert "'wrokers'" in reply.message


@pytest.mark.anyio
async def test_unknown_fields_are_ignored_unless_asked(tmp_path: Path) -> None:
    async with Bench(tmp_path) as bench:
        assert (await bench.call("POST", "/v2/serverless", create_body(wrokers=1))).code == 10000


@pytest.mark.anyio
async def test_actions_are_idempotent_unless_the_lifecycle_is_strict(tmp_path: Path) -> None:
    async with Bench(tmp_path / "lenient") as bench:
        endpoint = await bench.endpoint()
        for action in ("start", "start", "stop", "stop"):
            assert await bench.post(f"/{endpoint}/{action}") is True
        assert await bench.delete(f"/{endpoint}") is True
    async with Bench(tmp_path / "strict", strict_lifecycle=True) as bench:
        endpoint = await bench.endpoint()
        path = f"/v2/serverless/{endpoint}"
        update = {name: create_body()[name] for name in ("name", "resources", "workers", "containerVolumeInGb")}

        async def refused(method: str, rest: str, body: Any = None) -> bool:
            reply = await bench.call(method, path + rest, body)
            assert reply.code in {10000, 24002}, reply.message
            return (reply.http_status, reply.code) == (409, 24002)

        assert await refused("POST", "/start")
        assert await refused("PATCH", "", update)
        assert await refused("DELETE", "")
        assert not await refused("POST", "/stop")
        await settle()
        assert await refused("POST", "/stop")
        assert not await refused("PATCH", "", update)
        assert not await refused("POST", "/start")
        await settle()
        assert not await refused("POST", "/stop")
        await settle()
        assert not await refused("DELETE", "")
