from typing import Any

import httpx

from ... import errors
from ...client import AuthenticatedClient
from ...models.create_endpoint_request import CreateEndpointRequest
from ...models.endpoint_envelope import EndpointEnvelope
from ...models.error_envelope import ErrorEnvelope
from ...types import Response


def _get_kwargs(
    *,
    body: CreateEndpointRequest,
) -> dict[str, Any]:
    headers: dict[str, Any] = {}

    _kwargs: dict[str, Any] = {
        "method": "post",
        "url": "/v2/serverless",
    }

    _kwargs["json"] = body.to_dict()

    headers["Content-Type"] = "application/json"

    _kwargs["headers"] = headers
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

    if response.status_code == 413:
        response_413 = ErrorEnvelope.from_dict(response.json())

        return response_413

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
    *,
    client: AuthenticatedClient,
    body: CreateEndpointRequest,
) -> Response[EndpointEnvelope | ErrorEnvelope]:
    """Create an endpoint

     Records the endpoint and starts its workers. It is INITIALIZING until they are ready.

    Args:
        body (CreateEndpointRequest): What a new endpoint is to run, and on what.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[EndpointEnvelope | ErrorEnvelope]
    """

    kwargs = _get_kwargs(
        body=body,
    )

    response = client.get_httpx_client().request(
        **kwargs,
    )

    return _build_response(response=response)


def sync(
    *,
    client: AuthenticatedClient,
    body: CreateEndpointRequest,
) -> EndpointEnvelope | ErrorEnvelope:
    """Create an endpoint

     Records the endpoint and starts its workers. It is INITIALIZING until they are ready.

    Args:
        body (CreateEndpointRequest): What a new endpoint is to run, and on what.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        EndpointEnvelope | ErrorEnvelope
    """

    return sync_detailed(
        client=client,
        body=body,
    ).parsed


async def asyncio_detailed(
    *,
    client: AuthenticatedClient,
    body: CreateEndpointRequest,
) -> Response[EndpointEnvelope | ErrorEnvelope]:
    """Create an endpoint

     Records the endpoint and starts its workers. It is INITIALIZING until they are ready.

    Args:
        body (CreateEndpointRequest): What a new endpoint is to run, and on what.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        Response[EndpointEnvelope | ErrorEnvelope]
    """

    kwargs = _get_kwargs(
        body=body,
    )

    response = await client.get_async_httpx_client().request(**kwargs)

    return _build_response(response=response)


async def asyncio(
    *,
    client: AuthenticatedClient,
    body: CreateEndpointRequest,
) -> EndpointEnvelope | ErrorEnvelope:
    """Create an endpoint

     Records the endpoint and starts its workers. It is INITIALIZING until they are ready.

    Args:
        body (CreateEndpointRequest): What a new endpoint is to run, and on what.

    Raises:
        errors.UnexpectedStatus: If the server returns an undocumented status code.
        errors.UnreadableAnswer: If the body is not what is documented for the status code.
        httpx.TimeoutException: If the request takes longer than Client.timeout.

    Returns:
        EndpointEnvelope | ErrorEnvelope
    """

    return (
        await asyncio_detailed(
            client=client,
            body=body,
        )
    ).parsed
