from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient
from ...models.error_envelope import ErrorEnvelope
from ...models.log_direction import LogDirection
from ...models.log_page_envelope import LogPageEnvelope
from ...types import UNSET, Response, Unset, path_segment


def _get_kwargs(
    id: str,
    worker_id: str,
    *,
    page_size: int | Unset = 100,
    keyword: str | Unset = UNSET,
    start_time: str | Unset = UNSET,
    end_time: str | Unset = UNSET,
    search_after_time: str | Unset = UNSET,
    search_after_offset: int | Unset = UNSET,
    direction: LogDirection | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    params["pageSize"] = page_size

    params["keyword"] = keyword

    params["startTime"] = start_time

    params["endTime"] = end_time

    params["searchAfterTime"] = search_after_time

    params["searchAfterOffset"] = search_after_offset

    json_direction: str | Unset = UNSET
    if not isinstance(direction, Unset):
        json_direction = direction.value

    params["direction"] = json_direction

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v2/serverless/{id}/workers/{worker_id}/logs".format(
            id=path_segment(id),
            worker_id=path_segment(worker_id),
        ),
        "params": params,
    }

    return _kwargs


def _parse_response(*, response: httpx.Response) -> ErrorEnvelope | LogPageEnvelope:
    if response.status_code == 200:
        response_200 = LogPageEnvelope.from_dict(response.json())

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

    if response.status_code == 500:
        response_500 = ErrorEnvelope.from_dict(response.json())

        return response_500

    if response.status_code == 503:
        response_503 = ErrorEnvelope.from_dict(response.json())

        return response_503

    raise errors.UnexpectedStatus(response.status_code, response.content, response.headers)


def _build_response(*, response: httpx.Response) -> Response[ErrorEnvelope | LogPageEnvelope]:
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
    worker_id: str,
    *,
    client: AuthenticatedClient,
    page_size: int | Unset = 100,
    keyword: str | Unset = UNSET,
    start_time: str | Unset = UNSET,
    end_time: str | Unset = UNSET,
    search_after_time: str | Unset = UNSET,
    search_after_offset: int | Unset = UNSET,
    direction: LogDirection | Unset = UNSET,
) -> Response[ErrorEnvelope | LogPageEnvelope]:
    """Read a worker's log

     One page of what the worker printed. To read on, send `nextSearchAfterTime` and
    `nextSearchAfterOffset` of the last page as `searchAfterTime` and `searchAfterOffset`, both or
    neither (N27): Forward goes to newer lines, Backward to older ones. Without a start, Forward begins
    at the oldest line kept.

    Args:
        id (str):
        worker_id (str):
        page_size (int | Unset):  Default: 100.
        keyword (str | Unset):
        start_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is
            UTC (N27).
        end_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is UTC
            (N27).
        search_after_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset
            it is UTC (N27).
        search_after_offset (int | Unset):
        direction (LogDirection | Unset): Towards newer lines or older ones.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorEnvelope | LogPageEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
        worker_id=worker_id,
        page_size=page_size,
        keyword=keyword,
        start_time=start_time,
        end_time=end_time,
        search_after_time=search_after_time,
        search_after_offset=search_after_offset,
        direction=direction,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(response=response)


def sync(
    id: str,
    worker_id: str,
    *,
    client: AuthenticatedClient,
    page_size: int | Unset = 100,
    keyword: str | Unset = UNSET,
    start_time: str | Unset = UNSET,
    end_time: str | Unset = UNSET,
    search_after_time: str | Unset = UNSET,
    search_after_offset: int | Unset = UNSET,
    direction: LogDirection | Unset = UNSET,
) -> ErrorEnvelope | LogPageEnvelope:
    """Read a worker's log

     One page of what the worker printed. To read on, send `nextSearchAfterTime` and
    `nextSearchAfterOffset` of the last page as `searchAfterTime` and `searchAfterOffset`, both or
    neither (N27): Forward goes to newer lines, Backward to older ones. Without a start, Forward begins
    at the oldest line kept.

    Args:
        id (str):
        worker_id (str):
        page_size (int | Unset):  Default: 100.
        keyword (str | Unset):
        start_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is
            UTC (N27).
        end_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is UTC
            (N27).
        search_after_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset
            it is UTC (N27).
        search_after_offset (int | Unset):
        direction (LogDirection | Unset): Towards newer lines or older ones.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorEnvelope | LogPageEnvelope
    """

    return sync_detailed(
        id=id,
        worker_id=worker_id,
        client=client,
        page_size=page_size,
        keyword=keyword,
        start_time=start_time,
        end_time=end_time,
        search_after_time=search_after_time,
        search_after_offset=search_after_offset,
        direction=direction,
    ).parsed


async def asyncio_detailed(
    id: str,
    worker_id: str,
    *,
    client: AuthenticatedClient,
    page_size: int | Unset = 100,
    keyword: str | Unset = UNSET,
    start_time: str | Unset = UNSET,
    end_time: str | Unset = UNSET,
    search_after_time: str | Unset = UNSET,
    search_after_offset: int | Unset = UNSET,
    direction: LogDirection | Unset = UNSET,
) -> Response[ErrorEnvelope | LogPageEnvelope]:
    """Read a worker's log

     One page of what the worker printed. To read on, send `nextSearchAfterTime` and
    `nextSearchAfterOffset` of the last page as `searchAfterTime` and `searchAfterOffset`, both or
    neither (N27): Forward goes to newer lines, Backward to older ones. Without a start, Forward begins
    at the oldest line kept.

    Args:
        id (str):
        worker_id (str):
        page_size (int | Unset):  Default: 100.
        keyword (str | Unset):
        start_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is
            UTC (N27).
        end_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is UTC
            (N27).
        search_after_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset
            it is UTC (N27).
        search_after_offset (int | Unset):
        direction (LogDirection | Unset): Towards newer lines or older ones.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[ErrorEnvelope | LogPageEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
        worker_id=worker_id,
        page_size=page_size,
        keyword=keyword,
        start_time=start_time,
        end_time=end_time,
        search_after_time=search_after_time,
        search_after_offset=search_after_offset,
        direction=direction,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(response=response)


async def asyncio(
    id: str,
    worker_id: str,
    *,
    client: AuthenticatedClient,
    page_size: int | Unset = 100,
    keyword: str | Unset = UNSET,
    start_time: str | Unset = UNSET,
    end_time: str | Unset = UNSET,
    search_after_time: str | Unset = UNSET,
    search_after_offset: int | Unset = UNSET,
    direction: LogDirection | Unset = UNSET,
) -> ErrorEnvelope | LogPageEnvelope:
    """Read a worker's log

     One page of what the worker printed. To read on, send `nextSearchAfterTime` and
    `nextSearchAfterOffset` of the last page as `searchAfterTime` and `searchAfterOffset`, both or
    neither (N27): Forward goes to newer lines, Backward to older ones. Without a start, Forward begins
    at the oldest line kept.

    Args:
        id (str):
        worker_id (str):
        page_size (int | Unset):  Default: 100.
        keyword (str | Unset):
        start_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is
            UTC (N27).
        end_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset it is UTC
            (N27).
        search_after_time (str | Unset): Milliseconds since 1970, or ISO 8601; without an offset
            it is UTC (N27).
        search_after_offset (int | Unset):
        direction (LogDirection | Unset): Towards newer lines or older ones.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        ErrorEnvelope | LogPageEnvelope
    """

    return (
        await asyncio_detailed(
            id=id,
            worker_id=worker_id,
            client=client,
            page_size=page_size,
            keyword=keyword,
            start_time=start_time,
            end_time=end_time,
            search_after_time=search_after_time,
            search_after_offset=search_after_offset,
            direction=direction,
        )
    ).parsed
