from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient
from ...models.error_envelope import ErrorEnvelope
from ...models.task_page_envelope import TaskPageEnvelope
from ...models.task_status import TaskStatus
from ...types import UNSET, Response, Unset, path_segment


def _get_kwargs(
    id: str,
    *,
    status: TaskStatus | Unset = UNSET,
    page_number: int | Unset = 1,
    page_size: int | Unset = 10,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    json_status: str | Unset = UNSET
    if not isinstance(status, Unset):
        json_status = status.value

    params["status"] = json_status

    params["pageNumber"] = page_number

    params["pageSize"] = page_size

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v2/serverless/{id}/tasks".format(
            id=path_segment(id),
        ),
        "params": params,
    }

    return _kwargs


def _parse_response(*, response: httpx.Response) -> ErrorEnvelope | TaskPageEnvelope:
    if response.status_code == 200:
        response_200 = TaskPageEnvelope.from_dict(response.json())

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


def _build_response(*, response: httpx.Response) -> Response[ErrorEnvelope | TaskPageEnvelope]:
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
    status: TaskStatus | Unset = UNSET,
    page_number: int | Unset = 1,
    page_size: int | Unset = 10,
) -> Response[ErrorEnvelope | TaskPageEnvelope]:
    """List an endpoint's tasks

     One page of the tasks, newest first, without input, output and headers (N26).

    Args:
        id (str):
        status (TaskStatus | Unset): PROCESSING: accepted, waiting or being executed. SUCCESS:
            executed. FAILED: execution failed. DELIVERED: the result was delivered to the webhook;
            version 1 used the word for "handed to a worker" (N1).
        page_number (int | Unset):  Default: 1.
        page_size (int | Unset):  Default: 10.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorEnvelope | TaskPageEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
        status=status,
        page_number=page_number,
        page_size=page_size,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(response=response)


def sync(
    id: str,
    *,
    client: AuthenticatedClient,
    status: TaskStatus | Unset = UNSET,
    page_number: int | Unset = 1,
    page_size: int | Unset = 10,
) -> ErrorEnvelope | TaskPageEnvelope:
    """List an endpoint's tasks

     One page of the tasks, newest first, without input, output and headers (N26).

    Args:
        id (str):
        status (TaskStatus | Unset): PROCESSING: accepted, waiting or being executed. SUCCESS:
            executed. FAILED: execution failed. DELIVERED: the result was delivered to the webhook;
            version 1 used the word for "handed to a worker" (N1).
        page_number (int | Unset):  Default: 1.
        page_size (int | Unset):  Default: 10.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorEnvelope | TaskPageEnvelope
    """

    return sync_detailed(
        id=id,
        client=client,
        status=status,
        page_number=page_number,
        page_size=page_size,
    ).parsed


async def asyncio_detailed(
    id: str,
    *,
    client: AuthenticatedClient,
    status: TaskStatus | Unset = UNSET,
    page_number: int | Unset = 1,
    page_size: int | Unset = 10,
) -> Response[ErrorEnvelope | TaskPageEnvelope]:
    """List an endpoint's tasks

     One page of the tasks, newest first, without input, output and headers (N26).

    Args:
        id (str):
        status (TaskStatus | Unset): PROCESSING: accepted, waiting or being executed. SUCCESS:
            executed. FAILED: execution failed. DELIVERED: the result was delivered to the webhook;
            version 1 used the word for "handed to a worker" (N1).
        page_number (int | Unset):  Default: 1.
        page_size (int | Unset):  Default: 10.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorEnvelope | TaskPageEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
        status=status,
        page_number=page_number,
        page_size=page_size,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(response=response)


async def asyncio(
    id: str,
    *,
    client: AuthenticatedClient,
    status: TaskStatus | Unset = UNSET,
    page_number: int | Unset = 1,
    page_size: int | Unset = 10,
) -> ErrorEnvelope | TaskPageEnvelope:
    """List an endpoint's tasks

     One page of the tasks, newest first, without input, output and headers (N26).

    Args:
        id (str):
        status (TaskStatus | Unset): PROCESSING: accepted, waiting or being executed. SUCCESS:
            executed. FAILED: execution failed. DELIVERED: the result was delivered to the webhook;
            version 1 used the word for "handed to a worker" (N1).
        page_number (int | Unset):  Default: 1.
        page_size (int | Unset):  Default: 10.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorEnvelope | TaskPageEnvelope
    """

    return (
        await asyncio_detailed(
            id=id,
            client=client,
            status=status,
            page_number=page_number,
            page_size=page_size,
        )
    ).parsed
