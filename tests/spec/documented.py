"""The vendor's documented requests and answers, with the name of the schema that each must fit."""

from typing import Any

_RESOURCES = [{"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1}]
_SUMMARY: dict[str, Any] = {
    "taskId": "my_task_001",
    "endpointId": 456,
    "endpointName": "llama-inference",
    "status": "SUCCESS",
    "workerUrl": "https://worker.example.com",
    "webhook": "https://webhook.example.com/callback",
    "deliveryStatus": "SUCCESS",
    "deliveryAttempts": 1,
    "error": None,
    "createdAt": 1705306200000,
    "updatedAt": 1705306260000,
    "deliveredAt": 1705306260000,
}
_TASK: dict[str, Any] = {
    **_SUMMARY,
    "input": {"prompt": "Hello, world!"},
    "output": {"response": "Hi there!"},
    "headers": {"Authorization": "Bearer token123"},
}


def _answer(data: Any) -> dict[str, Any]:
    return {"message": "success", "code": 10000, "data": data}


EXAMPLES: list[tuple[str, Any]] = [
    (
        "CreateEndpointRequest",
        {
            "name": "llama-inference",
            "image": "vllm/vllm-openai:latest",
            "containerRegistryAuthId": 123,
            "resources": _RESOURCES,
            "workers": 2,
            "containerVolumeInGb": 120,
            "environmentVars": [{"key": "MODEL", "value": "llama-3-8b"}],
            "expose": {"port": 8000, "protocol": "http"},
            "serviceMode": "QUEUE",
            "webhook": "https://webhook.example.com/status",
        },
    ),
    (
        "EndpointEnvelope",
        _answer(
            {
                "id": "378888638324150969",
                "name": "llama-inference",
                "image": "vllm/vllm-openai:latest",
                "status": "RUNNING",
                "totalWorkers": 2,
                "runningWorkers": 2,
                "cost": 1.5,
                "serviceMode": "QUEUE",
                "webhook": None,
            }
        ),
    ),
    (
        "UpdateEndpointRequest",
        {
            "name": "updated-name",
            "resources": _RESOURCES,
            "workers": 4,
            "containerVolumeInGb": 120,
            "envVars": [{"key": "MODEL", "value": "llama-3-70b"}],
        },
    ),
    (
        "SubmitTaskRequest",
        {
            "taskId": "my_task_001",
            "input": {"prompt": "Hello, world!"},
            "workerPort": 8000,
            "processUri": "/v1/chat/completions",
            "webhook": "https://webhook.example.com/callback",
            "webhookAuthKey": "my-secret-key",
            "headers": {"Authorization": "Bearer token123"},
        },
    ),
    ("SubmittedTaskEnvelope", _answer({"taskId": "my_task_001"})),
    ("TaskEnvelope", _answer(_TASK)),
    ("TaskPageEnvelope", _answer({"items": [_SUMMARY], "page": 1, "size": 10, "total": 42, "pages": 5})),
    ("TaskCountEnvelope", _answer({"processing": 10})),
    (
        "LogPageEnvelope",
        _answer(
            {
                "logs": [
                    {
                        "timestamp": "2024-01-15T10:30:15.123Z",
                        "log": "Starting inference service...",
                        "offset": 12345,
                    }
                ],
                "hasMore": True,
                "nextSearchAfterTime": "1705306215123",
                "nextSearchAfterOffset": "12400",
            }
        ),
    ),
]
