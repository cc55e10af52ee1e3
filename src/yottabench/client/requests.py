"""Makes the generated request models from what callers write: plain dicts, plain texts, snake_case names."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NotRequired, Protocol, Self, TypedDict, TypeVar, cast

import attrs

from yottabench.client.errors import InvalidArgument
from yottabench.client.models import (
    UNSET,
    CreateEndpointRequest,
    EndpointResource,
    EnvironmentVar,
    Expose,
    ServiceMode,
    SubmitTaskRequest,
    TaskHeaders,
    Unset,
    UpdateEndpointRequest,
)


class _Model(Protocol):
    @classmethod
    def from_dict(cls, src_dict: Mapping[str, Any]) -> Self: ...


T = TypeVar("T")
M = TypeVar("M", bound=_Model)
Id = str | int
Resources = Sequence[EndpointResource | Mapping[str, Any]]
Environment = Mapping[str, str] | Sequence[EnvironmentVar]


class CreateSettings(TypedDict):
    """Settings of a new endpoint; the API's names in snake_case.

    Resources are dicts {"region", "gpuType", "gpuCount"}, expose is one {"port", "protocol"}, environment_vars one
    {name: value}.
    """

    name: str
    image: str
    resources: Resources
    workers: int
    container_volume_in_gb: int
    service_mode: ServiceMode | str
    image_registry: NotRequired[str]
    container_registry_auth_id: NotRequired[int]
    environment_vars: NotRequired[Environment]
    expose: NotRequired[Expose | Mapping[str, Any]]
    webhook: NotRequired[str]
    initialization_command: NotRequired[str]
    min_single_card_vram_in_gb: NotRequired[int]
    min_single_card_vcpu: NotRequired[int]
    min_single_card_ram_in_gb: NotRequired[int]


class UpdateSettings(TypedDict):
    """New settings of an endpoint. Left out: as it was. None: taken away."""

    name: str
    resources: Resources
    workers: int
    container_volume_in_gb: int
    credential_id: NotRequired[int | None]
    environment_vars: NotRequired[Environment | None]
    expose: NotRequired[Expose | Mapping[str, Any] | None]
    webhook: NotRequired[str | None]
    initialization_command: NotRequired[str | None]
    min_single_card_vram_in_gb: NotRequired[int | None]
    min_single_card_vcpu: NotRequired[int | None]
    min_single_card_ram_in_gb: NotRequired[int | None]


def create_body(settings: Mapping[str, Any]) -> CreateEndpointRequest:
    """The body of createEndpoint. Settings that are None count as left out. Raises InvalidArgument."""
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(given.get("service_mode"), str):
        given["service_mode"] = ServiceMode(given["service_mode"])
    return _built(CreateEndpointRequest, given)


def update_body(settings: Mapping[str, Any]) -> UpdateEndpointRequest:
    """The body of updateEndpoint. Raises InvalidArgument."""
    return _built(UpdateEndpointRequest, dict(settings))


def submit_body(
    task_input: Any,
    *,
    worker_port: int,
    process_uri: str,
    task_id: str | None,
    webhook: str | None,
    webhook_auth_key: str | None,
    headers: Mapping[str, str] | None,
) -> SubmitTaskRequest:
    """The body of submitTask. Raises InvalidArgument."""
    return SubmitTaskRequest(
        input_=task_input,
        worker_port=worker_port,
        process_uri=process_uri,
        task_id=given(task_id),
        webhook=given(webhook),
        webhook_auth_key=given(webhook_auth_key),
        headers=UNSET if headers is None else _read(TaskHeaders, "headers", headers),
    )


def secrets_of(request: CreateEndpointRequest | UpdateEndpointRequest | SubmitTaskRequest) -> list[str]:
    """The texts in a request that must not come back in an error."""
    if isinstance(request, SubmitTaskRequest):
        found: list[Any] = [request.webhook_auth_key]
        if isinstance(request.headers, TaskHeaders):
            found += request.headers.additional_properties.values()
    else:
        found = [variable.value for variable in request.environment_vars or ()]
    return [text for text in found if isinstance(text, str)]


def segment(name: str, value: Id) -> str:
    """An id as part of a path. Raises InvalidArgument when it would make another URL; the server judges the rest."""
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, (str, int)) or text in ("", ".", ".."):  # pyright: ignore[reportUnnecessaryIsInstance] -- callers may be untyped
        raise InvalidArgument(f"{name} must be an id, but is {value!r}. Ids come from the answers of the API.")
    return text


def given(value: T | None) -> T | Unset:
    """UNSET for None: the field or parameter is left out."""
    return UNSET if value is None else value


def status_list(statuses: str | Iterable[str] | None) -> str | Unset:
    """The value of a statusList parameter: separated by commas, as documented."""
    if statuses is None:
        return UNSET
    return (statuses if isinstance(statuses, str) else ",".join(map(str, statuses))) or UNSET


def log_time(moment: str | int | datetime | None) -> str | Unset:
    """A time for the log query: texts as they are, integers as epoch milliseconds, naive datetimes as UTC."""
    if moment is None:
        return UNSET
    if isinstance(moment, datetime):
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return str(moment)


def log_offset(offset: int | str | None) -> int | Unset:
    """A log page's offset token: the API gives it as text and takes it as a number. Raises InvalidArgument."""
    if offset is None:
        return UNSET
    try:
        return int(offset)
    except ValueError:
        raise InvalidArgument(
            f"search_after_offset must be a number, but is {offset!r}. Take next_search_after_offset of the last page."
        ) from None


def _built(model: type[T], settings: dict[str, Any]) -> T:
    if "resources" in settings:
        settings["resources"] = _list_of(EndpointResource, "resources", settings["resources"])
    if settings.get("expose") is not None:
        settings["expose"] = _read(Expose, "expose", settings["expose"])
    variables = settings.get("environment_vars")
    if isinstance(variables, Mapping):
        settings["environment_vars"] = [EnvironmentVar(key=str(key), value=variables[key]) for key in variables]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- checked by the server
    elif variables is not None:
        settings["environment_vars"] = _list_of(EnvironmentVar, "environment_vars", variables)
    known = {field.name for field in attrs.fields(model) if field.init}  # pyright: ignore[reportArgumentType] -- generated models are attrs classes
    unknown = sorted(set(settings) - known)
    if unknown:
        raise InvalidArgument(f"There is no setting {unknown[0]!r}. The settings are: {', '.join(sorted(known))}.")
    try:
        return model(**settings)
    except TypeError as error:
        raise InvalidArgument(f"A setting is missing: {error}. Nothing was sent.") from None


def _list_of(model: type[M], name: str, values: Any) -> list[M]:
    if isinstance(values, (str, Mapping)) or not isinstance(values, Iterable):
        raise InvalidArgument(f"{name} must be a list, but is {type(values).__name__}.")  # pyright: ignore[reportUnknownArgumentType] -- only its name is used
    return [_read(model, f"{name}[{index}]", value) for index, value in enumerate(values)]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] -- checked one by one


def _read(model: type[M], name: str, value: Any) -> M:
    """A model from itself or from a dict with the API's own names."""
    if isinstance(value, model):
        return value
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"{name} must be a dict, but is {type(value).__name__}.")
    try:
        return model.from_dict(cast("Mapping[str, Any]", value))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidArgument(f"{name} lacks or spoils a field: {error}. See the API's documentation.") from None
