"""What may be sent, checked before anything is sent: the documented rules, in the words that the server would use.

Written from the documentation, not from the emulator's code: a test holds the two against each other.
"""

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, cast

from yottabench.client.errors import InvalidArgument

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1

_SHOWN_CHARS = 60
# Texts, not compiled patterns: `re` compiles and keeps them at their first use, which keeps importing quick.
_NAME = r"[A-Za-z][A-Za-z0-9@._-]*"
_VISIBLE = r"[!-~]*"
_PLACE = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_PROTOCOL = r"[A-Za-z][A-Za-z0-9+.-]*"
_VARIABLE_NAME = r"[^=\0]+"
_NO_NUL = r"[^\0]*"
_TASK_ID = r"[A-Za-z0-9_]+"
_PATH = r"[A-Za-z0-9._~!$&'()*+,;=:@/-]*"
_KEY = r"[!-~](?:[ -~]*[!-~])?"
_HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_HEADER_VALUE = r"(?:[!-~](?:[\t -~]*[!-~])?)?"
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_URL = (
    rf"[Hh][Tt][Tt][Pp][Ss]?://(?:{_LABEL}(?:\.{_LABEL})*\.?|\[(?P<ipv6>[0-9A-Fa-f:.]{{2,45}})\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    r"(?:[/?#][!-~]*)?"
)

_MODES = ("ALB", "QUEUE", "CUSTOM")
_TASK_STATUSES = ("PROCESSING", "DELIVERED", "SUCCESS", "FAILED")
_ENDPOINT_STATUSES = ("INITIALIZING", "RUNNING", "STOPPING", "STOPPED", "FAILED", "TERMINATED")
_WORKER_STATUSES = (
    "INITIALIZE", "INITIALIZING", "RUNNING", "STOPPING", "STOPPED", "TERMINATING", "TERMINATED", "FAILED",
)  # fmt: skip

_PORT_HINT = "Send the port that the worker listens on."
_NUMBER_HINT = "Send a whole number, or leave it out."

Body = Mapping[str, Any]


def check_create(body: Body) -> None:
    """The body of createEndpoint. Raises InvalidArgument that names the first field that breaks its rule."""
    _name(body)
    _text(body, "image", 255, "Name a container image.", _VISIBLE, shortest=1)
    if "imageRegistry" in body:
        _text(body, "imageRegistry", 255, "Name a registry, or leave it out.", _VISIBLE)
    _one_of(body, "serviceMode", _MODES)
    _resources(body)
    _integer(body, "workers", 0, 1000, "Say how many workers to run.")
    _volume(body)
    if "containerRegistryAuthId" in body:
        _registry_auth_id(body, "containerRegistryAuthId")
    _shared(body)
    if body["serviceMode"] == "ALB" and "expose" not in body:
        _refuse(
            "expose", "is missing", "An ALB endpoint needs the port that requests are balanced to: send expose.port."
        )


def check_update(body: Body) -> None:
    """The body of updateEndpoint, where null takes an optional setting away. Raises InvalidArgument."""
    _name(body)
    _resources(body)
    _integer(body, "workers", 1, 1000, "Say how many workers to run.")
    _volume(body)
    kept = {name: value for name, value in body.items() if value is not None}
    if "credentialId" in kept:
        _registry_auth_id(body, "credentialId")
    _shared(kept)


def check_submit(body: Body) -> None:
    """The body of submitTask. Raises InvalidArgument."""
    if "taskId" in body:
        _task_id(body)
    _input(body)
    _integer(body, "workerPort", 1, 65535, _PORT_HINT)
    _process_uri(body)
    if "webhook" in body:
        _webhook(body)
    if "webhookAuthKey" in body:
        hint = "Use printable ASCII without spaces at its ends: it is sent in a header."
        _text(body, "webhookAuthKey", 255, hint, _KEY, secret=True)
    if "headers" in body:
        _headers(body)


def check_endpoint_id(text: str) -> None:
    """The endpoint's id in a path. Raises InvalidArgument."""
    if not (text.isascii() and text.isdigit() and len(text) <= 19):
        _refuse("id", f"must be 1 to 19 digits, but is {_shown(text)}", "List endpoints to find the id.")


def check_path_id(name: str, text: str, longest: int) -> None:
    """A worker's or task's id in a path; the service itself may make ids with hyphens. Raises InvalidArgument."""
    if len(text) > longest or re.fullmatch(r"[A-Za-z0-9_-]+", text) is None:
        rule = f"must be 1 to {longest} letters, digits, underscores and hyphens, but is {_shown(text)}"
        _refuse(name, rule, "List them to find the id.")


def check_no_shadowed_id(task_id: str) -> None:
    """A task's id must not make the path of another operation. Raises InvalidArgument."""
    if task_id == "count":
        _refuse("taskId", "must not be 'count'", "GET .../tasks/count is another operation. Choose another id.")


def check_query_integer(name: str, value: Any, low: int, high: int) -> None:
    """An integer parameter. Raises InvalidArgument."""
    hint = f"Send a whole number from {low} to {high}."
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(name, f"must be an integer, but is {_shown(value)}", hint)
    if not low <= value <= high:
        _refuse(name, f"must be between {low} and {high}, but is {value}", hint)


def check_task_status(value: str) -> None:
    """The filter of listTasks. Raises InvalidArgument."""
    if value not in _TASK_STATUSES:
        _refuse("status", f"must not be {_shown(str(value))}", f"Choose one of {', '.join(_TASK_STATUSES)}.")


def check_status_list(text: str, *, of_workers: bool) -> None:
    """The filter of listEndpoints or listWorkers. Raises InvalidArgument."""
    known = _WORKER_STATUSES if of_workers else _ENDPOINT_STATUSES
    for part in text.split(","):
        if part.strip().upper() not in known:
            _refuse("statusList", f"must not hold {_shown(part)}", f"Choose from {', '.join(known)}.")


def check_log_query(params: Mapping[str, str]) -> None:
    """The parameters of getWorkerLogs but for times, which have many forms. Raises InvalidArgument."""
    keyword = params.get("keyword")
    if keyword is not None and not 1 <= len(keyword) <= 1024:
        _refuse("keyword", "must have 1 to 1024 characters", "Leave it out to see every line.")
    if params["direction"] not in ("Forward", "Backward"):
        _refuse("direction", "must be Forward (towards newer lines) or Backward (towards older ones)", "")
    _log_integer("pageSize", params["pageSize"], 1, 1000)
    names = ("searchAfterTime", "searchAfterOffset")
    for name, other in (names, names[::-1]):
        if name not in params and other in params:
            _refuse(name, f"must come together with {other}", "Send both tokens of the page before.")
    if "searchAfterOffset" in params:
        _log_integer("searchAfterOffset", params["searchAfterOffset"], 0, INT64_MAX)


def _log_integer(name: str, text: str, low: int, high: int) -> None:
    if re.fullmatch(r"[0-9]{1,19}", text) is None or not low <= int(text) <= high:
        rule = f"must be an integer from {low} to {high}; got {text[:32]!r}"
        _refuse(name, rule, "Leave it out or correct it.")


# ---- fields of endpoints


def _shared(body: Body) -> None:
    if "environmentVars" in body:
        _variables(body)
    if "expose" in body:
        _expose(body)
    if "webhook" in body:
        _webhook(body)
    if "initializationCommand" in body:
        _text(body, "initializationCommand", 8192, "Send a text without NUL.", _NO_NUL, secret=True)
    for name in ("minSingleCardVramInGb", "minSingleCardVcpu", "minSingleCardRamInGb"):
        if name in body:
            _integer(body, name, 0, 1536, _NUMBER_HINT)


def _name(body: Body) -> None:
    hint = "Use 1 to 20 characters, a letter first, then letters, digits and @ . _ -"
    _text(body, "name", 20, hint, _NAME)


def _volume(body: Body) -> None:
    _integer(body, "containerVolumeInGb", 20, 1_048_576, "Say how much disk each worker gets, in GB.")


def _registry_auth_id(body: Body, name: str) -> None:
    _integer(body, name, 1, INT64_MAX, "Send the id of a registry credential, or leave it out.")


def _one_of(body: Body, name: str, values: Sequence[str]) -> None:
    hint = f"Choose one of {', '.join(values)}."
    value = _required(body, name, hint)
    if value not in values:
        _refuse(name, f"must not be {_shown(_plain(value))}", hint)


def _resources(body: Body) -> None:
    for index, entry in enumerate(_items(body, "resources", 1, 64, "Send at least one {region, gpuType, gpuCount}.")):
        where = f"resources[{index}]"
        resource = _object(entry, where)
        _text(resource, "region", 64, "Name a region, such as us-east-1.", _PLACE, where=f"{where}.")
        _text(resource, "gpuType", 64, "Name a GPU, such as NVIDIA_H100_80G.", _PLACE, where=f"{where}.")
        _integer(resource, "gpuCount", 1, 1024, "Say how many GPUs a worker gets.", where=f"{where}.")


def _variables(body: Body) -> None:
    for index, entry in enumerate(_items(body, "environmentVars", 0, 1000, "Send a list of {key, value}.")):
        where = f"environmentVars[{index}]"
        variable = _object(entry, where)
        hint = "A name has at least one character, no equals sign and no NUL."
        _text(variable, "key", 255, hint, _VARIABLE_NAME, where=f"{where}.")
        _text(variable, "value", 32_768, "Send a text without NUL.", _NO_NUL, where=f"{where}.", secret=True)


def _expose(body: Body) -> None:
    expose = _object(body["expose"], "expose")
    _integer(expose, "port", 1, 65535, _PORT_HINT, where="expose.")
    _text(expose, "protocol", 16, "Name a protocol, such as http or tcp.", _PROTOCOL, where="expose.")


# ---- fields of tasks


def _task_id(body: Body) -> None:
    hint = "Use 1 to 255 letters, digits and underscores, or leave it out to have one made."
    check_no_shadowed_id(_text(body, "taskId", 255, hint, _TASK_ID))


def _input(body: Body) -> None:
    hint = "Send what the worker is to get, any JSON value that is not empty."
    value = _required(body, "input", hint)
    if value is None:
        _refuse("input", "must not be null", hint)
    if isinstance(value, (dict, list, tuple, str)) and not value:
        empty = '""' if isinstance(value, str) else "{}" if isinstance(value, dict) else "[]"
        _refuse("input", f"must not be {empty}", hint)


def _process_uri(body: Body) -> None:
    hint = "Send a path such as /v1/chat/completions: no space, ?, #, %, backslash, // or dot segments."
    uri = _text(body, "processUri", 255, hint, _PATH)
    if not uri:
        _refuse("processUri", "must not be empty", hint)
    uri = uri if uri.startswith("/") else f"/{uri}"
    if len(uri) > 255:
        _refuse("processUri", "with its leading slash must have at most 255 characters", hint)
    if "//" in uri or not {".", ".."}.isdisjoint(uri.split("/")):
        _refuse("processUri", f"must not be {_shown(uri)}", hint)


def _webhook(body: Body) -> None:
    hint = "Send an http or https URL with a host, such as https://example.com/hook, without user name or password."
    url = _text(body, "webhook", 512, hint)
    match = re.fullmatch(_URL, url)
    if match is None or int(match["port"] or 80) > 65535 or not _is_ipv6(match["ipv6"] or "::1"):
        # Not shown: user names, paths and queries of webhooks hold secrets.
        _refuse("webhook", "is no URL that webhooks are sent to", hint)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _headers(body: Body) -> None:
    hint = "Send an object of texts: header names as HTTP has them, values in printable ASCII."
    sent = body["headers"]
    if not isinstance(sent, Mapping):
        _refuse("headers", "must be an object", hint)
    headers = cast("Mapping[str, Any]", sent)
    if len(headers) > 64:
        _refuse("headers", "must have at most 64 entries", hint)
    for name in headers:
        if len(name) > 128 or re.fullmatch(_HEADER_NAME, name) is None:
            _refuse("headers", f"must not have a header named {_shown(name)}", hint)
        _text(headers, name, 8192, hint, _HEADER_VALUE, where="headers.", secret=True)


# ---- kinds of values


def _refuse(field: str, rule: str, next_step: str) -> NoReturn:
    raise InvalidArgument(f"{field} {rule}. {next_step}".rstrip())


def _required(body: Body, name: str, hint: str, where: str = "") -> Any:
    if name not in body:
        _refuse(where + name, "is missing", hint)
    return body[name]


def _object(value: Any, label: str) -> Body:
    if not isinstance(value, Mapping):
        _refuse(label, f"must be an object, but is {_kind(value)}", "See the API documentation for its fields.")
    return cast("Body", value)


def _items(body: Body, name: str, fewest: int, most: int, hint: str) -> Sequence[Any]:
    value = _required(body, name, hint)
    if not isinstance(value, (list, tuple)):
        _refuse(name, f"must be an array, but is {_kind(value)}", hint)
    items = cast("Sequence[Any]", value)
    if not fewest <= len(items) <= most:
        _refuse(name, f"must have {fewest} to {most} entries, but has {len(items)}", hint)
    return items


def _integer(body: Body, name: str, low: int, high: int, hint: str, *, where: str = "") -> None:
    value = _required(body, name, hint, where)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(where + name, f"must be an integer, but is {_kind(value)}", hint)
    if not low <= value <= high:
        _refuse(where + name, f"must be between {low} and {high}, but is {_shown(value)}", hint)


def _text(
    body: Body,
    name: str,
    longest: int,
    hint: str,
    pattern: str | None = None,
    *,
    where: str = "",
    shortest: int = 0,
    secret: bool = False,
) -> str:
    value = _required(body, name, hint, where)
    if not isinstance(value, str):
        _refuse(where + name, f"must be a text, but is {_kind(value)}", hint)
    if len(value) > longest:
        _refuse(where + name, f"must have at most {longest} characters, but has {len(value)}", hint)
    if len(value) < shortest or (pattern is not None and re.fullmatch(pattern, value) is None):
        _refuse(where + name, "has characters that are not allowed" if secret else f"must not be {_shown(value)}", hint)
    return value


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value  # an enum's repr is not its text's


def _shown(value: Any) -> str:
    text = repr(_plain(value))
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}… ({len(text)} characters)"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list() | tuple():
            return "an array"
        case Mapping():
            return "an object"
        case _:
            return type(cast("object", value)).__name__
