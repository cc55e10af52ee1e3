from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient
from ...models.error_envelope import ErrorEnvelope
from ...models.submit_task_request import SubmitTaskRequest
from ...models.submitted_task_envelope import SubmittedTaskEnvelope
from ...types import Response, path_segment


def _get_kwargs(
    id: str,
    *,
    body: SubmitTaskRequest,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/v2/serverless/{id}/tasks".format(
            id=path_segment(id),
        ),
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
    return _kwargs


def _parse_response(*, response: httpx.Response) -> ErrorEnvelope | SubmittedTaskEnvelope:
    if response.status_code == 200:
        response_200 = SubmittedTaskEnvelope.from_dict(response.json())

        return response_200

    if response.status_code == 400:
        response_400 = ErrorEnvelope.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = ErrorEnvelope.from_dict(response.json())

        return response_401

    if response.status_code == 404:
        response_404 = ErrorEnvelope.from_dict(response.json())

        return response_404

    if response.status_code == 409:
        response_409 = ErrorEnvelope.from_dict(response.json())

        return response_409

    if response.status_code == 413:
        response_413 = ErrorEnvelope.from_dict(response.json())

        return response_413

    if response.status_code == 429:
        response_429 = ErrorEnvelope.from_dict(response.json())

        return response_429

    if response.status_code == 500:
        response_500 = ErrorEnvelope.from_dict(response.json())

        return response_500

    if response.status_code == 503:
        response_503 = ErrorEnvelope.from_dict(response.json())

        return response_503

    raise errors.UnexpectedStatus(response.status_code, response.content, response.headers)


def _build_response(*, response: httpx.Response) -> Response[ErrorEnvelope | SubmittedTaskEnvelope]:
    try:
        parsed = _parse_response(response=response)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise errors.UnreadableAnswer(response.status_code, response.content, response.headers) from error
    return Response(
        status_code=response.status_code,
        content=response.content,
        headers=response.headers,
        parsed=parsed,
    )


def sync_detailed(
    id: str,
    *,
    client: AuthenticatedClient,
    body: SubmitTaskRequest,
) -> Response[ErrorEnvelope | SubmittedTaskEnvelope]:
    """Submit a task

     Puts a task into the queue of a QUEUE endpoint; a free worker is handed `input` by HTTP POST.
    Sending the same taskId with the same content again gives the same answer and makes no second task
    (N3). Endpoints in another mode answer 10001; one that is stopping, stopped or failed answers 24000
    (N16).

    Args:
        id (str):
        body (SubmitTaskRequest): One task for the queue.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorEnvelope | SubmittedTaskEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
        body=body,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(response=response)


def sync(
    id: str,
    *,
    client: AuthenticatedClient,
    body: SubmitTaskRequest,
) -> ErrorEnvelope | SubmittedTaskEnvelope:
    """Submit a task

     Puts a task into the queue of a QUEUE endpoint; a free worker is handed `input` by HTTP POST.
    Sending the same taskId with the same content again gives the same answer and makes no second task
    (N3). Endpoints in another mode answer 10001; one that is stopping, stopped or failed answers 24000
    (N16).

    Args:
        id (str):
        body (SubmitTaskRequest): One task for the queue.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorEnvelope | SubmittedTaskEnvelope
    """

    return sync_detailed(
        id=id,
        client=client,
        body=body,
    ).parsed


async def asyncio_detailed(
    id: str,
    *,
    client: AuthenticatedClient,
    body: SubmitTaskRequest,
) -> Response[ErrorEnvelope | SubmittedTaskEnvelope]:
    """Submit a task

     Puts a task into the queue of a QUEUE endpoint; a free worker is handed `input` by HTTP POST.
    Sending the same taskId with the same content again gives the same answer and makes no second task
    (N3). Endpoints in another mode answer 10001; one that is stopping, stopped or failed answers 24000
    (N16).

    Args:
        id (str):
        body (SubmitTaskRequest): One task for the queue.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorEnvelope | SubmittedTaskEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
        body=body,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(response=response)


async def asyncio(
    id: str,
    *,
    client: AuthenticatedClient,
    body: SubmitTaskRequest,
) -> ErrorEnvelope | SubmittedTaskEnvelope:
    """Submit a task

     Puts a task into the queue of a QUEUE endpoint; a free worker is handed `input` by HTTP POST.
    Sending the same taskId with the same content again gives the same answer and makes no second task
    (N3). Endpoints in another mode answer 10001; one that is stopping, stopped or failed answers 24000
    (N16).

    Args:
        id (str):
        body (SubmitTaskRequest): One task for the queue.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorEnvelope | SubmittedTaskEnvelope
    """

    return (
        await asyncio_detailed(
            id=id,
            client=client,
            body=body,
        )
    ).parsed
