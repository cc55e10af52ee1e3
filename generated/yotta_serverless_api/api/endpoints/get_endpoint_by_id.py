from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient
from ...models.endpoint_envelope import EndpointEnvelope
from ...models.error_envelope import ErrorEnvelope
from ...types import Response, path_segment


def _get_kwargs(
    id: str,
) -> dict[str, Any]:

    _kwargs: dict[str, Any] = {
        "method": "get",
        "url": "/v2/serverless/{id}".format(
            id=path_segment(id),
        ),
    }

    return _kwargs


def _parse_response(*, response: httpx.Response) -> EndpointEnvelope | ErrorEnvelope:
    if response.status_code == 200:
        response_200 = EndpointEnvelope.from_dict(response.json())

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


def _build_response(*, response: httpx.Response) -> Response[EndpointEnvelope | ErrorEnvelope]:
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
) -> Response[EndpointEnvelope | ErrorEnvelope]:
    """Get an endpoint

     Answers 14000 when there is no such endpoint, or it was deleted.

    Args:
        id (str):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[EndpointEnvelope | ErrorEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(response=response)


def sync(
    id: str,
    *,
    client: AuthenticatedClient,
) -> EndpointEnvelope | ErrorEnvelope:
    """Get an endpoint

     Answers 14000 when there is no such endpoint, or it was deleted.

    Args:
        id (str):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        EndpointEnvelope | ErrorEnvelope
    """

    return sync_detailed(
        id=id,
        client=client,
    ).parsed


async def asyncio_detailed(
    id: str,
    *,
    client: AuthenticatedClient,
) -> Response[EndpointEnvelope | ErrorEnvelope]:
    """Get an endpoint

     Answers 14000 when there is no such endpoint, or it was deleted.

    Args:
        id (str):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[EndpointEnvelope | ErrorEnvelope]
    """

    kwargs = _get_kwargs(
        id=id,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(response=response)


async def asyncio(
    id: str,
    *,
    client: AuthenticatedClient,
) -> EndpointEnvelope | ErrorEnvelope:
    """Get an endpoint

     Answers 14000 when there is no such endpoint, or it was deleted.

    Args:
        id (str):

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        EndpointEnvelope | ErrorEnvelope
    """

    return (
        await asyncio_detailed(
            id=id,
            client=client,
        )
    ).parsed
