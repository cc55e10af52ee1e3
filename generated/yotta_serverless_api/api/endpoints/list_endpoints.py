from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient
from ...models.endpoint_list_envelope import EndpointListEnvelope
from ...models.error_envelope import ErrorEnvelope
from ...types import UNSET, Response, Unset


def _get_kwargs(
    *,
    status_list: str | Unset = UNSET,
) -> dict[str, Any]:

    params: dict[str, Any] = {}

    params["statusList"] = status_list

    params = {k: v for k, v in params.items() if v is not UNSET and v is not None}

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v2/serverless",
        "params": params,
    }

    return _kwargs


def _parse_response(*, response: httpx.Response) -> EndpointListEnvelope | ErrorEnvelope:
    if response.status_code == 200:
        response_200 = EndpointListEnvelope.from_dict(response.json())

        return response_200

    if response.status_code == 400:
        response_400 = ErrorEnvelope.from_dict(response.json())

        return response_400

    if response.status_code == 401:
        response_401 = ErrorEnvelope.from_dict(response.json())

        return response_401

    if response.status_code == 500:
        response_500 = ErrorEnvelope.from_dict(response.json())

        return response_500

    if response.status_code == 503:
        response_503 = ErrorEnvelope.from_dict(response.json())

        return response_503

    raise errors.UnexpectedStatus(response.status_code, response.content, response.headers)


def _build_response(*, response: httpx.Response) -> Response[EndpointListEnvelope | ErrorEnvelope]:
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
    *,
    client: AuthenticatedClient,
    status_list: str | Unset = UNSET,
) -> Response[EndpointListEnvelope | ErrorEnvelope]:
    """List endpoints

     All endpoints of the key, newest first, in one answer; the API has no pages here (N38).

    Args:
        status_list (str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[EndpointListEnvelope | ErrorEnvelope]
    """

    kwargs = _get_kwargs(
        status_list=status_list,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(response=response)


def sync(
    *,
    client: AuthenticatedClient,
    status_list: str | Unset = UNSET,
) -> EndpointListEnvelope | ErrorEnvelope:
    """List endpoints

     All endpoints of the key, newest first, in one answer; the API has no pages here (N38).

    Args:
        status_list (str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        EndpointListEnvelope | ErrorEnvelope
    """

    return sync_detailed(
        client=client,
        status_list=status_list,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient,
    status_list: str | Unset = UNSET,
) -> Response[EndpointListEnvelope | ErrorEnvelope]:
    """List endpoints

     All endpoints of the key, newest first, in one answer; the API has no pages here (N38).

    Args:
        status_list (str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[EndpointListEnvelope | ErrorEnvelope]
    """

    kwargs = _get_kwargs(
        status_list=status_list,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(response=response)


async def asyncio(
    *,
    client: AuthenticatedClient,
    status_list: str | Unset = UNSET,
) -> EndpointListEnvelope | ErrorEnvelope:
    """List endpoints

     All endpoints of the key, newest first, in one answer; the API has no pages here (N38).

    Args:
        status_list (str | Unset):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        EndpointListEnvelope | ErrorEnvelope
    """

    return (
        await asyncio_detailed(
            client=client,
            status_list=status_list,
        )
    ).parsed
