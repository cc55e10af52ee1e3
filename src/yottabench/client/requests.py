"""Makes request bodies from what callers write: plain dicts, plain texts, snake_case names."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NotRequired, Protocol, Self, TypeVar, cast

from yottabench.client import constraints
from yottabench.client.errors import InvalidArgument
from yottabench.client.models import (
    UNSET,
    CreateEndpointRequest,
    EndpointResource,
    EnvironmentVar,
    Expose,
    ServiceMode,
    SubmitTaskRequest,
    Unset,
    UpdateEndpointRequest,
)
from yottabench.client.request import CallOptions


class _Model(Protocol):
    @classmethod
    def from_dict(cls, src_dict: Mapping[str, Any], /) -> Self: ...


T = TypeVar("T")
M = TypeVar("M", bound=_Model)
Id = str | int
Resources = Sequence[EndpointResource | Mapping[str, Any]]
Environment = Mapping[str, str] | Sequence[EnvironmentVar | Mapping[str, str]]


class CreateSettings(CallOptions):
    """Settings of a new endpoint; the API's names in snake_case, and the options of every call.

    Resources are dicts {"region", "gpuType", "gpuCount"}, expose is one {"port", "protocol"}, environment_vars one
    {name: value}. None counts as left out.
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


class UpdateSettings(CallOptions):
    """New settings of an endpoint, and the options of every call. Left out: as it was. None: taken away."""

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


_CALL_OPTIONS = ("timeout_s", "deadline_s", "max_retries")
_UPDATE_NAMES = {
    "name": "name",
    "resources": "resources",
    "workers": "workers",
    "container_volume_in_gb": "containerVolumeInGb",
    "credential_id": "credentialId",
    "environment_vars": "environmentVars",
    "expose": "expose",
    "webhook": "webhook",
    "initialization_command": "initializationCommand",
    "min_single_card_vram_in_gb": "minSingleCardVramInGb",
    "min_single_card_vcpu": "minSingleCardVcpu",
    "min_single_card_ram_in_gb": "minSingleCardRamInGb",
}
_CREATE_NAMES = {
    **{name: sent for name, sent in _UPDATE_NAMES.items() if name != "credential_id"},
    "image": "image",
    "service_mode": "serviceMode",
    "image_registry": "imageRegistry",
    "container_registry_auth_id": "containerRegistryAuthId",
}


def call_options(settings: Mapping[str, Any]) -> CallOptions:
    """The options of the call among the settings."""
    return cast("CallOptions", {name: settings[name] for name in _CALL_OPTIONS if name in settings})


def create_body(settings: Mapping[str, Any], *, check: bool) -> CreateEndpointRequest:
    """The body of createEndpoint. Raises InvalidArgument."""
    given = {name: value for name, value in settings.items() if value is not None}
    body = _body(given, _CREATE_NAMES)
    if check:
        constraints.check_create(body)
    return _read(CreateEndpointRequest, body)


def update_body(settings: Mapping[str, Any], *, check: bool) -> UpdateEndpointRequest:
    """The body of updateEndpoint. Raises InvalidArgument."""
    body = _body(settings, _UPDATE_NAMES)
    if check:
        constraints.check_update(body)
    return _read(UpdateEndpointRequest, body)


def submit_body(
    task_input: Any,
    *,
    worker_port: int,
    process_uri: str,
    task_id: str,
    webhook: str | None,
    webhook_auth_key: str | None,
    headers: Mapping[str, str] | None,
    check: bool,
) -> SubmitTaskRequest:
    """The body of submitTask. Raises InvalidArgument."""
    body: dict[str, Any] = {
        "taskId": task_id,
        "input": task_input,
        "workerPort": worker_port,
        "processUri": process_uri,
    }
    optional = {"webhook": webhook, "webhookAuthKey": webhook_auth_key, "headers": headers}
    body.update((name, value) for name, value in optional.items() if value is not None)
    if check:
        constraints.check_submit(body)
    return _read(SubmitTaskRequest, body)


def secrets_of(body: CreateEndpointRequest | UpdateEndpointRequest | SubmitTaskRequest) -> tuple[str, ...]:
    """The texts in a request that must not come back in an error."""
    if isinstance(body, SubmitTaskRequest):
        found: list[Any] = [body.webhook_auth_key]
        if not isinstance(body.headers, Unset):
            found += body.headers.additional_properties.values()
    else:
        found = [variable.value for variable in body.environment_vars or ()]
    return tuple(text for text in found if isinstance(text, str))


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


def _body(settings: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, value in settings.items():
        if name in _CALL_OPTIONS:
            continue
        if name not in names:
            raise InvalidArgument(f"There is no setting {name!r}. The settings are: {', '.join(sorted(names))}.")
        body[names[name]] = _plain(value)
    variables = body.get("environmentVars")
    if isinstance(variables, dict):
        pairs = cast("dict[Any, Any]", variables).items()
        body["environmentVars"] = [{"key": str(key), "value": value} for key, value in pairs]
    return body


def _plain(value: Any) -> Any:
    """Models as the dicts that they are sent as, also those in a list; enums as their texts."""
    if isinstance(value, (EndpointResource, EnvironmentVar, Expose)):
        return value.to_dict()
    if isinstance(value, ServiceMode):
        return value.value
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in cast("Sequence[Any]", value)]
    return value


def _read(model: type[M], body: Mapping[str, Any]) -> M:
    try:
        return model.from_dict(body)
    except KeyError as error:
        raise InvalidArgument(f"The request lacks {error}. Nothing was sent.") from None
    except (AttributeError, TypeError, ValueError) as error:
        raise InvalidArgument(f"The request has a field of the wrong kind: {error}. Nothing was sent.") from None
