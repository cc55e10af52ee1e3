"""The signature of a webhook, checked by the libraries of Standard Webhooks that receivers use."""

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks

from tests.conformance.receiver import Delivery, receiver
from tests.node import node, node_modules
from tests.servers import emulator

ROOT = "/v2/serverless"
SOURCES = Path(__file__).parent / "standardwebhooks"
KEYS = ("my-secret-key", "k", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "with spaces & signs: ~!@#$%^*()_+=")
INPUTS: tuple[Any, ...] = ({"prompt": "é 😀"}, [1.50, 2], "plain", {"deep": {"text": "line\nline"}})


def secret_of(key: str) -> str:
    """The webhookAuthKey as verifiers want it: both libraries would take a bare key for base64."""
    return "whsec_" + base64.b64encode(key.encode()).decode()


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Delivery]]:
    """What a real server sent for each key: a success, each first declined and then sent again."""
    body = {
        "name": "signed",
        "image": "sim/echo",
        "resources": [{"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}],
        "workers": 1,
        "containerVolumeInGb": 20,
        "serviceMode": "QUEUE",
    }
    found: dict[str, list[Delivery]] = {}
    options = ("--webhook-retry", "0.05")
    with (
        emulator(tmp_path_factory.mktemp("signatures"), *options) as url,
        receiver() as there,
        httpx.Client(base_url=url, headers={"X-Api-Key": "me"}, trust_env=False) as http,
    ):
        endpoint_id = http.post(ROOT, json=body).json()["data"]["id"]
        for key, payload in zip(KEYS, INPUTS, strict=True):
            there.answers.put(500)
            task = {"input": payload, "workerPort": 8000, "processUri": "/", "webhook": there.url}
            answer = http.post(f"{ROOT}/{endpoint_id}/tasks", json={**task, "webhookAuthKey": key})
            assert answer.json()["code"] == 10000, answer.text
            found[key] = [there.take(), there.take()]
    return found


def test_the_python_library_verifies_every_send_and_refuses_what_was_changed(
    deliveries: dict[str, list[Delivery]],
) -> None:
    for key, sends in deliveries.items():
        verifier = standardwebhooks.Webhook(secret_of(key))
        assert len({each.headers["webhook-id"] for each in sends}) == 1
        for each in sends:
            assert verifier.verify(each.body, each.headers) == each.payload
            with pytest.raises(standardwebhooks.WebhookVerificationError):
                verifier.verify(each.body.replace(b"Success", b"Failure"), each.headers)


def test_the_node_library_verifies_every_send_and_refuses_what_was_changed(
    deliveries: dict[str, list[Delivery]], tmp_path: Path
) -> None:
    program = node()
    (tmp_path / "node_modules").symlink_to(node_modules(SOURCES))
    shutil.copy(SOURCES / "verify.mjs", tmp_path)
    for key, sends in deliveries.items():
        asked = [{"headers": each.headers, "body": each.body.decode()} for each in sends]
        asked.append({**asked[0], "body": asked[0]["body"].replace("Success", "Failure")})
        asked.append({**asked[0], "headers": {**sends[0].headers, "webhook-id": "msg_0"}})
        done = subprocess.run(
            [program, tmp_path / "verify.mjs"],
            input=json.dumps({"secret": secret_of(key), "deliveries": asked}),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == [True, True, "No matching signature found", "No matching signature found"]
