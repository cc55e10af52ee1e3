"""What may be sent: each request's fields and rules, read anew from the documentation and not from the client."""

import re
from functools import lru_cache
from typing import Any

import msgspec

from yottabench.emulator import limits
from yottabench.emulator.fields import Fields, decode, invalid, shown
from yottabench.emulator.store.base import EndpointSpec, Expose, Resource, Variable
from yottabench.emulator.webhook_urls import AUTH_KEY, is_webhook

SERVICE_MODES = ("ALB", "QUEUE", "CUSTOM")
RESERVED_TASK_ID = "count"

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9@._-]*")
_PRINTABLE = re.compile(r"[!-~]*")
_PRINTABLE_NOT_EMPTY = re.compile(r"[!-~]+")
_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_VARIABLE_KEY = re.compile(r"[^=\0]+")
_NO_NUL = re.compile(r"[^\0]*")
_TASK_ID = re.compile(r"[A-Za-z0-9_]+")
_URI_CHARACTERS = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
_WEBHOOK_HINT = (
    "Send an http or https URL with a host, such as https://example.com/hook, without user name or password."
)
_PORT_HINT = "Send the port that the worker listens on."


# ---- endpoints

_ANY = msgspec.json.Decoder(dict[str, Any])
_SHARED_FIELDS = (
    "name",
    "resources",
    "workers",
    "containerVolumeInGb",
    "minSingleCardVramInGb",
    "minSingleCardVcpu",
    "minSingleCardRamInGb",
    "credentialId",
    "containerRegistryAuthId",
    "initializationCommand",
    "environmentVars",
    "envVars",
    "expose",
    "webhook",
)
_UPDATE_FIELDS = _SHARED_FIELDS
_CREATE_FIELDS = (*_SHARED_FIELDS, "image", "imageRegistry", "serviceMode")
# The guide's list, and two that other public sources use.
GPU_TYPES = frozenset(
    [
        "NVIDIA_RTX_4090_24G",
        "NVIDIA_RTX_5090_32G",
        "NVIDIA_RTX_A6000_48G",
        "NVIDIA_RTX_6000_Ada_48G",
        "NVIDIA_A100_PCIe_40G",
        "NVIDIA_A100_40G",
        "NVIDIA_A100_PCIe_80G",
        "NVIDIA_A100_80G",
        "NVIDIA_H100_PCIe_80G",
        "NVIDIA_H100_80G",
        "NVIDIA_RTX_PRO_6000_96G",
        "NVIDIA_H200_141G",
        "NVIDIA_B200_180G",
        "NVIDIA_B300_262G",
        "NVIDIA_L4_24G",
        "NVIDIA_A10_24G",
        "AWS_Trainium_32G",
        "AMD_MI300X_192G",
    ]
)


def read_create(body: bytes, *, strict: bool = False) -> EndpointSpec:
    """The body of createEndpoint. Raises ApiError (10001) that names the first field that breaks its rule."""
    fields = Fields(decode(body, _ANY))
    if strict:
        fields.only(_CREATE_FIELDS)
    mode_hint = f"Choose one of {', '.join(SERVICE_MODES)}."
    spec = EndpointSpec(
        name=_name(fields),
        image=fields.text("image", limits.IMAGE_MAX_CHARS, "Name a container image.", pattern=_PRINTABLE_NOT_EMPTY),
        image_registry=fields.optional(
            "imageRegistry",
            lambda: fields.text("imageRegistry", 255, "Name a registry, or leave it out.", pattern=_PRINTABLE),
        ),
        service_mode=_one_of(fields, "serviceMode", SERVICE_MODES, mode_hint),
        resources=_resources(fields),
        workers=_workers(fields, lowest=0),
        container_volume_in_gb=_volume(fields),
        registry_auth_id=_alias(fields, "containerRegistryAuthId", "credentialId", _registry_auth_id),
        environment=_alias(fields, "environmentVars", "envVars", _variables) or (),
        expose=fields.optional("expose", lambda: _expose(fields)),
        webhook=fields.optional("webhook", lambda: _webhook(fields)),
        initialization_command=fields.optional("initializationCommand", lambda: _command(fields)),
        min_single_card_vram_in_gb=_minimum(fields, "minSingleCardVramInGb"),
        min_single_card_vcpu=_minimum(fields, "minSingleCardVcpu"),
        min_single_card_ram_in_gb=_minimum(fields, "minSingleCardRamInGb"),
    )
    if spec.service_mode == "ALB" and spec.expose is None:
        raise invalid(
            "expose", "is missing", "An ALB endpoint needs the port that requests are balanced to: send expose.port."
        )
    if strict:
        _check_gpus(spec.resources)
    return spec


def read_update(body: bytes, old: EndpointSpec, *, strict: bool = False) -> EndpointSpec:
    """The body of updateEndpoint, applied to `old`: what is left out stays, what is null goes."""
    fields = Fields(decode(body, _ANY))
    if strict:
        fields.only(_UPDATE_FIELDS)
    changes: dict[str, Any] = {
        "name": _name(fields),
        "resources": _resources(fields),
        "workers": _workers(fields, lowest=1),
        "container_volume_in_gb": _volume(fields),
    }
    for name in ("minSingleCardVramInGb", "minSingleCardVcpu", "minSingleCardRamInGb"):
        if fields.has(name):
            changes[_snake(name)] = None if fields.is_null(name) else _minimum(fields, name)
    if fields.has("credentialId") or fields.has("containerRegistryAuthId"):
        changes["registry_auth_id"] = _alias(
            fields, "credentialId", "containerRegistryAuthId", _registry_auth_id, nullable=True
        )
    if fields.has("environmentVars") or fields.has("envVars"):
        changes["environment"] = _alias(fields, "environmentVars", "envVars", _variables, nullable=True) or ()
    if fields.has("initializationCommand"):
        changes["initialization_command"] = None if fields.is_null("initializationCommand") else _command(fields)
    if fields.has("expose"):
        changes["expose"] = None if fields.is_null("expose") else _expose(fields)
    if fields.has("webhook"):
        changes["webhook"] = None if fields.is_null("webhook") else _webhook(fields)
    new = msgspec.structs.replace(old, **changes)
    if new.service_mode == "ALB" and new.expose is None:
        raise invalid("expose", "cannot be removed", "An ALB endpoint needs the port that requests are balanced to.")
    if strict:
        _check_gpus(new.resources)
    return new


def _check_gpus(resources: tuple[Resource, ...]) -> None:
    for index, resource in enumerate(resources):
        where = f"resources[{index}]"
        if resource.gpu_type not in GPU_TYPES:
            raise invalid(
                f"{where}.gpuType", f"{shown(resource.gpu_type)} is not known", "Take one of the guide's list."
            )
        if resource.gpu_count.bit_count() != 1:
            raise invalid(f"{where}.gpuCount", f"{resource.gpu_count} is no power of two", "Take 1, 2, 4, 8 and so on.")
        if resource.gpu_count != resources[0].gpu_count:
            raise invalid(f"{where}.gpuCount", "differs from that of resources[0]", "Give all resources the same.")


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda letter: "_" + letter[0].lower(), name)


def _name(fields: Fields) -> str:
    hint = "Use 1 to 20 characters, a letter first, then letters, digits and @ . _ -"
    return fields.text("name", limits.NAME_MAX_CHARS, hint, pattern=_NAME)


def _one_of(fields: Fields, name: str, values: tuple[str, ...], hint: str) -> str:
    value = fields.value(name, hint)
    if value not in values:
        raise invalid(name, f"must not be {shown(value)}", hint)
    return value


def _resources(fields: Fields) -> tuple[Resource, ...]:
    found: list[Resource] = []
    hint = "Send at least one {region, gpuType, gpuCount}."
    for index, entry in enumerate(fields.items("resources", 1, limits.RESOURCES_MAX, hint)):
        one = Fields.of(entry, f"resources[{index}]", f"resources[{index}].")
        found.append(
            Resource(
                region=one.text("region", 64, "Name a region, such as us-east-1.", pattern=_CODE),
                gpu_type=one.text("gpuType", 64, "Name a GPU, such as NVIDIA_H100_80G.", pattern=_CODE),
                gpu_count=one.integer("gpuCount", 1, limits.GPU_COUNT_MAX, "Say how many GPUs a worker gets."),
            )
        )
    return tuple(found)


def _workers(fields: Fields, lowest: int) -> int:
    return fields.integer("workers", lowest, limits.WORKERS_MAX, "Say how many workers to run.")


def _volume(fields: Fields) -> int:
    hint = "Say how much disk each worker gets, in GB."
    return fields.integer("containerVolumeInGb", limits.VOLUME_MIN_GB, limits.VOLUME_MAX_GB, hint)


def _registry_auth_id(fields: Fields, name: str) -> int:
    return fields.integer(name, 1, limits.INT64_MAX, "Send the id of a registry credential, or leave it out.")


def _variables(fields: Fields, name: str) -> tuple[Variable, ...]:
    found: list[Variable] = []
    for index, entry in enumerate(fields.items(name, 0, limits.VARIABLES_MAX, "Send a list of {key, value}.")):
        one = Fields.of(entry, f"{name}[{index}]", f"{name}[{index}].")
        key_hint = "A name has at least one character, no equals sign and no NUL."
        found.append(
            Variable(
                key=one.text("key", limits.VARIABLE_KEY_MAX_CHARS, key_hint, pattern=_VARIABLE_KEY),
                value=one.text(
                    "value",
                    limits.VARIABLE_VALUE_MAX_CHARS,
                    "Send a text without NUL.",
                    pattern=_NO_NUL,
                    secret=True,
                ),
            )
        )
    return tuple(found)


def _alias(fields: Fields, name: str, other: str, read: Any, *, nullable: bool = False) -> Any:
    """Two names for one field: both may be sent when they agree."""
    sent = [each for each in (name, other) if fields.has(each)]
    values = [None if nullable and fields.is_null(each) else read(fields, each) for each in sent]
    if len(values) == 2 and values[0] != values[1]:
        raise invalid(name, f"and {other} are two names of one field but differ", f"Send {name} alone.")
    return values[0] if values else None


def _expose(fields: Fields) -> Expose:
    one = Fields.of(fields.sent("expose"), "expose", "expose.")
    return Expose(
        port=one.integer("port", 1, 65535, _PORT_HINT),
        protocol=one.text("protocol", 16, "Name a protocol, such as http or tcp.", pattern=_PROTOCOL),
    )


def _webhook(fields: Fields) -> str:
    url = fields.text("webhook", limits.WEBHOOK_MAX_CHARS, _WEBHOOK_HINT)
    if not is_webhook(url):
        # Not shown: user names, paths and queries of webhooks hold secrets.
        raise invalid("webhook", "is no URL that webhooks are sent to", _WEBHOOK_HINT)
    return url


def _command(fields: Fields) -> str:
    return fields.text(
        "initializationCommand", limits.COMMAND_MAX_CHARS, "Send a text without NUL.", pattern=_NO_NUL, secret=True
    )


def _minimum(fields: Fields, name: str) -> int | None:
    hint = "Send a whole number, or leave it out."
    return fields.optional(name, lambda: fields.integer(name, 0, limits.MIN_SINGLE_CARD_MAX, hint))


# ---- tasks


class _SubmitBody(msgspec.Struct, rename="camel"):
    """Only `input` is kept as it was sent; the other fields are looked at one by one."""

    input: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    task_id: Any = msgspec.UNSET
    worker_port: Any = msgspec.UNSET
    process_uri: Any = msgspec.UNSET
    webhook: Any = msgspec.UNSET
    webhook_auth_key: Any = msgspec.UNSET
    headers: Any = msgspec.UNSET


class Submission(msgspec.Struct, frozen=True):
    """A valid submit. `input` is byte for byte what was sent, `headers` JSON."""

    task_id: str | None
    input: bytes
    worker_port: int
    process_uri: str
    webhook: str | None
    webhook_auth_key: str | None
    headers: bytes | None

    def __repr__(self) -> str:
        return f"Submission(task_id={self.task_id!r})"


_SUBMIT = msgspec.json.Decoder(_SubmitBody)
_EMPTY_INPUT = re.compile(rb'null|""|[{\[]\s*[}\]]')


def read_submit(body: bytes, *, strict: bool = False) -> Submission:
    """The body of submitTask. Raises ApiError (10001) that names the first field that breaks its rule."""
    sent = decode(body, _SUBMIT)
    if not strict and _is_plain(sent):
        # By far the most are: nothing in them is left to look at.
        task_id = None if sent.task_id is msgspec.UNSET else sent.task_id
        uri = _known_process_uri(sent.process_uri)
        return Submission(task_id, _input(sent.input), sent.worker_port, uri, None, None, None)
    if strict:
        Fields(decode(body, _ANY)).only(_SubmitBody.__struct_encode_fields__)
    fields = Fields(
        {
            name: value
            for name, value in (
                ("taskId", sent.task_id),
                ("workerPort", sent.worker_port),
                ("processUri", sent.process_uri),
                ("webhook", sent.webhook),
                ("webhookAuthKey", sent.webhook_auth_key),
                ("headers", sent.headers),
            )
            if value is not msgspec.UNSET
        }
    )
    key_hint = "Use printable ASCII without spaces at its ends: it is sent in a header."
    return Submission(
        task_id=fields.optional("taskId", lambda: _task_id(fields)),
        input=_input(sent.input),
        worker_port=fields.integer("workerPort", 1, 65535, _PORT_HINT),
        process_uri=_process_uri(fields),
        webhook=fields.optional("webhook", lambda: _webhook(fields)),
        webhook_auth_key=fields.optional(
            "webhookAuthKey",
            lambda: fields.text(
                "webhookAuthKey", limits.WEBHOOK_AUTH_KEY_MAX_CHARS, key_hint, pattern=AUTH_KEY, secret=True
            ),
        ),
        headers=fields.optional("headers", lambda: _headers(fields)),
    )


def _is_plain(sent: _SubmitBody) -> bool:
    """Whether it has a good taskId or none, a good port, some text as processUri, and nothing that may be left out."""
    return (
        sent.headers is msgspec.UNSET
        and sent.webhook is msgspec.UNSET
        and sent.webhook_auth_key is msgspec.UNSET
        and type(sent.worker_port) is int
        and 1 <= sent.worker_port <= 65535
        and type(sent.process_uri) is str
        and (sent.task_id is msgspec.UNSET or _is_task_id(sent.task_id))
    )


def _is_task_id(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= limits.TASK_ID_MAX_CHARS
        and _TASK_ID.fullmatch(value) is not None
        and value != RESERVED_TASK_ID
    )


@lru_cache(maxsize=1024)
def _known_process_uri(sent: str) -> str:
    return _process_uri(Fields({"processUri": sent}))


def _input(sent: msgspec.Raw | msgspec.UnsetType) -> bytes:
    hint = "Send what the worker is to get, any JSON value that is not empty."
    if isinstance(sent, msgspec.UnsetType):
        raise invalid("input", "is missing", hint)
    value = bytes(sent)
    if _EMPTY_INPUT.fullmatch(value):
        raise invalid("input", f"must not be {value.decode()}", hint)
    return value


def _task_id(fields: Fields) -> str:
    hint = "Use 1 to 255 letters, digits and underscores, or leave it out to have one made."
    task_id = fields.text("taskId", limits.TASK_ID_MAX_CHARS, hint, pattern=_TASK_ID)
    if task_id == RESERVED_TASK_ID:
        raise invalid("taskId", "must not be 'count'", "GET .../tasks/count is another operation. Choose another id.")
    return task_id


def _process_uri(fields: Fields) -> str:
    hint = "Send a path such as /v1/chat/completions: no space, ?, #, %, backslash, // or dot segments."
    uri = fields.text("processUri", limits.PROCESS_URI_MAX_CHARS, hint, pattern=_URI_CHARACTERS)
    if not uri:
        raise invalid("processUri", "must not be empty", hint)
    if not uri.startswith("/"):
        uri = "/" + uri
    if len(uri) > limits.PROCESS_URI_MAX_CHARS:
        raise invalid(
            "processUri", f"with its leading slash must have at most {limits.PROCESS_URI_MAX_CHARS} characters", hint
        )
    if "//" in uri or any(segment in {".", ".."} for segment in uri.split("/")):
        raise invalid("processUri", f"must not be {shown(uri)}", hint)
    return uri


def _headers(fields: Fields) -> bytes:
    hint = "Send an object of texts: header names as HTTP has them, values in printable ASCII."
    sent = fields.sent("headers")
    if not isinstance(sent, dict):
        raise invalid("headers", "must be an object", hint)
    if len(sent) > limits.TASK_HEADERS_MAX:  # pyright: ignore[reportUnknownArgumentType] -- checked just above
        raise invalid("headers", f"must have at most {limits.TASK_HEADERS_MAX} entries", hint)
    one = Fields(sent, "headers.")  # pyright: ignore[reportUnknownArgumentType] -- keys of a JSON object are texts
    names: list[str] = list(sent)  # pyright: ignore[reportUnknownArgumentType] -- as above
    for name in names:
        if len(name) > limits.TASK_HEADER_NAME_MAX_CHARS or not _HEADER_NAME.fullmatch(name):
            raise invalid("headers", f"must not have a header named {shown(name)}", hint)
        one.text(name, limits.TASK_HEADER_VALUE_MAX_CHARS, hint, pattern=_HEADER_VALUE, secret=True)
    return msgspec.json.encode(sent)
