"""The one home of Hypothesis strategies: valid and invalid values for every field of a request, as plain JSON.

They are written from the documentation and NOTES.md, not from serverless.yaml, so that the document, the client and
the emulator can each be held against them. Each field has examples just inside (`good`) and just outside (`bad`) of
each of its bounds; the strategies mix those with random values.
"""

import re
import string
from collections.abc import Callable
from datetime import datetime
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from yottabench.chaos.rules import DIRECTIONS, KINDS, Rule

TYPE_ERRORS: tuple[Any, ...] = (None, True, [], {}, 1.5)

LETTERS = string.ascii_letters
WORD = LETTERS + string.digits + "_"
PATH = LETTERS + string.digits + "._~!$&'()*+,;=:@-"
TOKEN = LETTERS + string.digits + "!#$%&'*+.^_`|~-"
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
_EARLIEST = datetime(1970, 1, 1)  # noqa: DTZ001 - Hypothesis wants bounds without a zone
_LATEST = datetime(2199, 12, 31)  # noqa: DTZ001 - see above


@attrs.frozen
class Field:
    """Values of one field: the edges by name, and strategies that mix them with random ones."""

    good: tuple[Any, ...]
    bad: tuple[Any, ...]
    random_good: SearchStrategy[Any]
    random_bad: SearchStrategy[Any]

    def valid(self) -> SearchStrategy[Any]:
        """Values that must be accepted."""
        return st.one_of(st.sampled_from(self.good), self.random_good)

    def invalid(self) -> SearchStrategy[Any]:
        """Values that must be refused."""
        return st.one_of(st.sampled_from(self.bad), self.random_bad)


def integer_field(low: int, high: int) -> Field:
    """An integer with both bounds."""
    return Field(
        good=(low, low + 1, high - 1, high),
        bad=(low - 1, high + 1, low + 0.5, str(low), None, True, [low], {}),
        random_good=st.integers(low, high),
        random_bad=st.one_of(st.integers(max_value=low - 1), st.integers(min_value=high + 1)),
    )


def text_field(
    good: list[str], bad: list[Any], random_good: SearchStrategy[str], random_bad: SearchStrategy[str]
) -> Field:
    """A text; every other JSON type is bad."""
    return Field(
        good=tuple(good),
        bad=(*bad, 5, *TYPE_ERRORS),
        random_good=random_good,
        random_bad=random_bad,
    )


def texts_that(refused: Callable[[str], bool]) -> SearchStrategy[str]:
    """Random texts for which `refused` is true."""
    return st.text(st.characters(codec="utf-8"), max_size=300).filter(refused)


def with_nul() -> SearchStrategy[str]:
    """Random texts with a NUL somewhere."""
    return st.builds("{}\x00{}".format, st.text(max_size=20), st.text(max_size=20))


def lacks(pattern: str) -> SearchStrategy[str]:
    """Random texts that do not match the whole pattern."""
    compiled = re.compile(pattern)
    return texts_that(lambda text: compiled.fullmatch(text) is None)


def word(alphabet: str, low: int, high: int) -> SearchStrategy[str]:
    """Texts over an alphabet."""
    return st.text(st.sampled_from(alphabet), min_size=low, max_size=high)


# ---- endpoints --------------------------------------------------------------------------------------------------

NAME = text_field(
    good=["a", "Z", "llama-inference", "a" * 20, "a@._-", "A" + "9" * 19],
    bad=[
        "",
        "a" * 21,
        "1a",
        "@a",
        ".a",
        "_a",
        "-a",
        "a b",
        "abc\n",
        "\nabc",
        "a" * 20 + "\n",
        "é",
        "aé",
        "\uff41bc",
        "a\x00",
    ],
    random_good=st.builds(str.__add__, st.sampled_from(LETTERS), word(WORD + "@.-", 0, 19)),
    random_bad=lacks(r"[A-Za-z][A-Za-z0-9@._-]{0,19}"),
)
IMAGE = text_field(
    good=["a", "vllm/vllm-openai:latest", "x" * 255],
    bad=["", "x" * 256, "a b", "a\n", "é"],
    random_good=word(VISIBLE, 1, 255),
    random_bad=lacks(r"[!-~]{1,255}"),
)
REGISTRY = text_field(
    good=["", "ghcr.io", "https://index.docker.io/v1", "x" * 255],
    bad=["x" * 256, "a b", "a\n", "é"],
    random_good=word(VISIBLE, 0, 255),
    random_bad=lacks(r"[!-~]{0,255}"),
)
PLACE = text_field(
    good=["us-east-1", "NVIDIA_RTX_4090_24G", "a", "x" * 64],
    bad=["", "x" * 65, "-a", "a b", "a\n", "é", "a/b"],
    random_good=st.builds(str.__add__, st.sampled_from(LETTERS + string.digits), word(WORD + ".-", 0, 63)),
    random_bad=lacks(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
)
PROTOCOL = text_field(
    good=["http", "tcp", "HTTP", "x" * 16],
    bad=["", "x" * 17, "1http", "ht tp", "http\n", "é"],
    random_good=st.builds(str.__add__, st.sampled_from(LETTERS), word(LETTERS + string.digits + "+.-", 0, 15)),
    random_bad=lacks(r"[A-Za-z][A-Za-z0-9+.-]{0,15}"),
)
COMMAND = text_field(
    good=["", "pip install x && serve", "x" * 8192, "line\nline"],
    bad=["x" * 8193, "a\x00b"],
    random_good=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=100),
    random_bad=with_nul(),
)
VARIABLE_KEY = text_field(
    good=["MODEL", "a", "x" * 255, "with space", "a.b"],
    bad=["", "x" * 256, "a=b", "=", "a\x00"],
    random_good=st.text(st.characters(codec="utf-8", exclude_characters="=\x00"), min_size=1, max_size=50),
    random_bad=texts_that(lambda text: not text or "=" in text or "\x00" in text),
)
VARIABLE_VALUE = text_field(
    good=["", "llama-3-8b", "x" * 32768, "a=b", "line\nline", "é"],
    bad=["x" * 32769, "a\x00b"],
    random_good=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=100),
    random_bad=with_nul(),
)
SERVICE_MODE = text_field(
    good=["ALB", "QUEUE", "CUSTOM"],
    bad=["", "queue", "QUEUE ", "QUEUE\n", "BATCH"],
    random_good=st.sampled_from(["ALB", "QUEUE", "CUSTOM"]),
    random_bad=texts_that(lambda text: text not in {"ALB", "QUEUE", "CUSTOM"}),
)
GPU_COUNT = integer_field(1, 1024)
PORT = integer_field(1, 65535)
CREATE_WORKERS = integer_field(0, 1000)
UPDATE_WORKERS = integer_field(1, 1000)
VOLUME = integer_field(20, 1048576)
CREDENTIAL = integer_field(1, INT64_MAX)
CARD_MINIMUM = integer_field(0, 1536)

# ---- tasks ------------------------------------------------------------------------------------------------------

TASK_ID = text_field(
    good=["a", "_", "0", "my_task_001", "x" * 255, "Count", "counts"],
    bad=[
        "",
        "x" * 256,
        "count",
        "a-b",
        "abc\n",
        "\nabc",
        "a b",
        "a.b",
        "..",
        "a/b",
        "é",
        "\u0661",
        "9b2f6c1e-0000-4000-8000-000000000000",
    ],
    random_good=word(WORD, 1, 255).filter(lambda text: text != "count"),
    random_bad=lacks(r"[A-Za-z0-9_]{1,255}"),
)


def _uri_is_bad(text: str) -> bool:
    path = text if text.startswith("/") else "/" + text
    segments = path[1:].split("/")
    if segments[-1] == "" and len(segments) > 1:
        segments.pop()
    return (
        not text
        or len(path) > 255
        or not set(path) <= set(PATH + "/")
        or any(segment in {".", ".."} for segment in segments)
        or (path != "/" and "" in segments)
    )


def _uri(lead: str, segments: list[str], tail: str) -> str:
    return (lead + "/".join(segments) + tail)[:254].rstrip(".")


PROCESS_URI = text_field(
    good=[
        "/", "a", "run", "/run", "/v1/chat/completions", "v1/chat/", "/a.b", "/.well-known/x", "/...", "/..a", "/a..",
        "/a~!$&'()*+,;=:@-_", "/" + "x" * 254, "x" * 254,
    ],
    bad=[
        "", "//", "//evil.example", "/a//b", "/.", "/..", ".", "..", "/a/../b", "/a/./b", "/a/..", "a b", "/a?b",
        "/a#b", "/a%41", "/a\\b", "/a\n", "/é", "/a\x00", "/" + "x" * 255, "x" * 255, "http://host/x", '/"', "/<",
        "/[", "/{", "/|", "/^",
    ],
    random_good=st.builds(
        _uri,
        st.sampled_from(["", "/"]),
        st.lists(word(PATH, 1, 40).filter(lambda text: text not in {".", ".."}), min_size=1, max_size=6),
        st.sampled_from(["", "/"]),
    ).filter(lambda text: not _uri_is_bad(text)),
    random_bad=texts_that(_uri_is_bad),
)  # fmt: skip
_URL = "https://webhook.example.com/"
WEBHOOK = text_field(
    good=[
        "http://a", "http://127.0.0.1:8000/x", "https://webhook.example.com/callback?x=1#y", "http://[::1]:9/", "HTTPS://A.B/",
        "http://host:1", "http://host:65535/", "http://under_score.local/", "http://a.b./",
        "http://[2001:DB8::8:800:200C:417A]/", "http://[::ffff:1.2.3.4]:80", "http://[1:2:3:4:5:6:7:8]?x", "http://[::]",
        _URL + "x" * (512 - len(_URL)),
    ],
    bad=[
        "", "http://", "https://", "http:///x", "http:/a", "//host/x", "host/x", "ftp://host/x", "javascript:alert(1)",
        "http://a b/", "http://host/a b", "http://host/\n", "http://host\n", " http://host/", "http://h\u00f6st/", "http://host/\u00e9",
        "http://host:0/", "http://host:65536/", "http://host:/", "http://host:x/", "http://user:secret@host/", "http://user@host/",
        "http://-host/", "http://a..b/", "http://.a/", "http://[::1/", "http://[zz]/",
        "http://[A8]/", "http://[::::]/", "http://[1.2.3.4]/", "http://[1::2::3]/", "http://[12345::]/", "http://[::256.1.1.1]/",
        "http://[1:2:3:4:5:6:7]/", "http://[fe80::1%25eth0]/", _URL + "x" * (513 - len(_URL)),
    ],
    random_good=st.builds(
        "{}://{}{}{}".format,
        st.sampled_from(["http", "https"]),
        st.lists(word(LETTERS + string.digits, 1, 12), min_size=1, max_size=4).map(".".join),
        st.one_of(st.just(""), st.integers(1, 65535).map(":{}".format)),
        st.one_of(st.just(""), word(VISIBLE, 0, 100).map("/{}".format)),
    ),
    random_bad=texts_that(lambda text: not text.lower().startswith(("http://", "https://"))),
)  # fmt: skip
AUTH_KEY = text_field(
    good=["x", "my-secret-key", "with inner space", "~!", "x" * 255],
    bad=["", " ", " x", "x ", "x" * 256, "a\nb", "a\r\nb", "a\tb", "abc\n", "é", "a\x00", "a\x7f"],
    random_good=word(VISIBLE + " ", 1, 255).filter(lambda text: text == text.strip()),
    random_bad=lacks(r"[!-~]([ -~]{0,253}[!-~])?"),
)
HEADER_NAME = text_field(
    good=["Authorization", "x", "X-Y_z", "!#$%&'*+.^_`|~-", "x" * 128],
    bad=["", "x" * 129, "a b", "a:", ":a", "a\n", "a\r\nb", "é", "(a)", "a/b", "a\x00"],
    random_good=word(TOKEN, 1, 40),
    random_bad=lacks(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}"),
)
HEADER_VALUE = text_field(
    good=["", "Bearer token123", "a\tb", "x" * 8192],
    bad=["x" * 8193, " a", "a ", "\ta", "a\n", "a\r\nX: y", "é", "a\x00", "a\x7f"],
    random_good=word(VISIBLE + " ", 0, 200).filter(lambda text: text == text.strip()),
    random_bad=lacks(r"([!-~]([\t -~]*[!-~])?)?"),
)
_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), INT64_MAX),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(codec="utf-8"), max_size=30),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=10), inner, max_size=4),
    ),
    max_leaves=12,
)


def json_values() -> SearchStrategy[Any]:
    """Any JSON value that UTF-8 can carry."""
    return _json


INPUT = Field(
    good=({"prompt": "Hello, world!"}, [1], [None], {"": None}, "x", " ", 0, 0.0, False, True, -1, "\u0000"),
    bad=(None, {}, [], ""),
    random_good=_json.filter(lambda value: value is not None and value not in ({}, [], "")),
    random_bad=st.sampled_from([None, {}, [], ""]),
)

# ---- query parameters -------------------------------------------------------------------------------------------

PAGE_NUMBER = integer_field(1, INT32_MAX)
PAGE_SIZE = integer_field(1, 100)
LOG_PAGE_SIZE = integer_field(1, 1000)
SEARCH_OFFSET = integer_field(0, INT64_MAX)
TASK_STATUS = text_field(
    good=["PROCESSING", "DELIVERED", "SUCCESS", "FAILED"],
    bad=["", "DONE", "SUCCESS\n", "SUCCESS,FAILED"],
    random_good=st.sampled_from(["PROCESSING", "DELIVERED", "SUCCESS", "FAILED"]),
    random_bad=texts_that(lambda text: text.upper() not in {"PROCESSING", "DELIVERED", "SUCCESS", "FAILED"}),
)
LOG_TIME = text_field(
    good=[
        "0", "1705306215123", "2024-01-15", "2024-01-15T10:30:15.123Z", "2024-01-15T10:30:15Z", "2024-02-29T00:00:00Z",
        "2024-01-15T10:30:15+02:00", "2024-01-15 10:30:15", "2024-12-31T23:59:59.999999999Z",
    ],
    bad=[
        "", "yesterday", "1705306215123\n", "-1", "1e3", "2024-13-01", "2024-00-10", "2024-04-31",
        "2024-01-15T24:00:00Z", "2024-1-5",
    ],
    random_good=st.one_of(
        st.integers(0, 253402300799999).map(str),
        st.datetimes(min_value=_EARLIEST, max_value=_LATEST).map(lambda moment: moment.isoformat() + "Z"),
    ),
    random_bad=texts_that(lambda text: not text[:1].isdigit()),
)  # fmt: skip


def status_lists(statuses: list[str]) -> SearchStrategy[str]:
    """Values of a statusList parameter in its canonical form."""
    return st.lists(st.sampled_from(statuses), min_size=1, max_size=4).map(",".join)


# ---- the names by which tests ask for single fields -------------------------------------------------------------


def valid_names() -> SearchStrategy[str]:
    """Endpoint names that must be accepted."""
    return NAME.valid()


def invalid_names() -> SearchStrategy[Any]:
    """Endpoint names that must be refused."""
    return NAME.invalid()


def task_ids() -> SearchStrategy[str]:
    """Task ids that must be accepted on submit."""
    return TASK_ID.valid()


def invalid_task_ids() -> SearchStrategy[Any]:
    """Task ids that must be refused on submit."""
    return TASK_ID.invalid()


def ports() -> SearchStrategy[int]:
    """Ports that must be accepted."""
    return PORT.valid()


def invalid_ports() -> SearchStrategy[Any]:
    """Ports that must be refused."""
    return PORT.invalid()


def process_uris() -> SearchStrategy[str]:
    """Paths on the worker that must be accepted."""
    return PROCESS_URI.valid()


def invalid_process_uris() -> SearchStrategy[Any]:
    """Paths on the worker that must be refused."""
    return PROCESS_URI.invalid()


def webhooks() -> SearchStrategy[str]:
    """Webhook URLs that must be accepted."""
    return WEBHOOK.valid()


def invalid_webhooks() -> SearchStrategy[Any]:
    """Webhook URLs that must be refused."""
    return WEBHOOK.invalid()


def auth_keys() -> SearchStrategy[str]:
    """Values of webhookAuthKey that must be accepted."""
    return AUTH_KEY.valid()


def invalid_auth_keys() -> SearchStrategy[Any]:
    """Values of webhookAuthKey that must be refused."""
    return AUTH_KEY.invalid()


def inputs() -> SearchStrategy[Any]:
    """Task inputs that must be accepted."""
    return INPUT.valid()


def invalid_inputs() -> SearchStrategy[Any]:
    """Task inputs that must be refused."""
    return INPUT.invalid()


# ---- objects ----------------------------------------------------------------------------------------------------


def _broken(fields: dict[str, Field], whole: SearchStrategy[dict[str, Any]]) -> SearchStrategy[dict[str, Any]]:
    """`whole` with one of its fields made invalid, or a required one removed."""

    @st.composite
    def broken(draw: st.DrawFn) -> dict[str, Any]:
        value = dict(draw(whole))
        name = draw(st.sampled_from(sorted(fields)))
        value[name] = draw(fields[name].invalid())
        return value

    return broken()


def _without(whole: SearchStrategy[dict[str, Any]], required: list[str]) -> SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda value, name: {key: item for key, item in value.items() if key != name}, whole, st.sampled_from(required)
    )


def _object_field(
    fields: dict[str, Field], required: list[str], good: tuple[dict[str, Any], ...], bad: tuple[Any, ...]
) -> Field:
    """An object of the given fields."""
    whole = st.fixed_dictionaries(
        {name: fields[name].valid() for name in required},
        optional={name: field.valid() for name, field in fields.items() if name not in required},
    )
    missing = tuple({key: item for key, item in good[0].items() if key != name} for name in required)
    return Field(
        good=good,
        bad=(None, True, 5, "x", *missing, *bad),
        random_good=whole,
        random_bad=st.one_of(_broken(fields, whole), _without(whole, required)),
    )


def _list_field(item: Field, low: int, high: int) -> Field:
    """A list of `item`, with bounds on its length."""
    some = item.good[0]
    return Field(
        good=([some] * max(low, 1), [some] * high, *([[]] if low == 0 else [])),
        bad=(None, True, 5, "x", some, [some] * (high + 1), [None], *([[]] if low else [])),
        random_good=st.lists(item.valid(), min_size=low, max_size=3),
        random_bad=st.builds(lambda fine, broken: [*fine, broken], st.lists(item.valid(), max_size=2), item.invalid()),
    )


RESOURCE = _object_field(
    {"region": PLACE, "gpuType": PLACE, "gpuCount": GPU_COUNT},
    ["region", "gpuType", "gpuCount"],
    good=({"region": "us-east-1", "gpuType": "NVIDIA_RTX_4090_24G", "gpuCount": 1},),
    bad=([], {}),
)
RESOURCES = _list_field(RESOURCE, 1, 64)
VARIABLE = _object_field(
    {"key": VARIABLE_KEY, "value": VARIABLE_VALUE},
    ["key", "value"],
    good=({"key": "MODEL", "value": "llama-3-8b"},),
    bad=([], {}, {"name": "MODEL", "value": "x"}),
)
VARIABLES = _list_field(VARIABLE, 0, 1000)
EXPOSE = _object_field(
    {"port": PORT, "protocol": PROTOCOL},
    ["port", "protocol"],
    good=({"port": 8000, "protocol": "http"},),
    bad=([], {}),
)
_REFUSED_NAMES = HEADER_NAME.invalid().filter(lambda name: isinstance(name, str))
HEADERS = Field(
    good=({}, {"Authorization": "Bearer token123"}, {f"x-{number}": "" for number in range(64)}),
    bad=(
        *(None, [], "x", 5),
        {f"x-{number}": "" for number in range(65)},
        *({name: "x"} for name in HEADER_NAME.bad if isinstance(name, str)),
        *({"x": value} for value in HEADER_VALUE.bad),
    ),
    random_good=st.dictionaries(HEADER_NAME.valid(), HEADER_VALUE.valid(), max_size=5),
    random_bad=st.one_of(
        st.dictionaries(_REFUSED_NAMES, HEADER_VALUE.valid(), min_size=1, max_size=3),
        st.dictionaries(HEADER_NAME.valid(), HEADER_VALUE.invalid(), min_size=1, max_size=3),
    ),
)


def header_maps() -> SearchStrategy[dict[str, str]]:
    """Header maps that must be accepted."""
    return HEADERS.valid()


def invalid_header_maps() -> SearchStrategy[Any]:
    """Header maps that must be refused."""
    return HEADERS.invalid()


_COMMON: dict[str, Field] = {
    "name": NAME,
    "resources": RESOURCES,
    "containerVolumeInGb": VOLUME,
    "minSingleCardVramInGb": CARD_MINIMUM,
    "minSingleCardVcpu": CARD_MINIMUM,
    "minSingleCardRamInGb": CARD_MINIMUM,
    "initializationCommand": COMMAND,
    "environmentVars": VARIABLES,
    "expose": EXPOSE,
    "webhook": WEBHOOK,
}
_ALIASES: dict[str, Field] = {
    "envVars": VARIABLES,
    "credentialId": CREDENTIAL,
    "containerRegistryAuthId": CREDENTIAL,
}
CREATE_FIELDS: dict[str, Field] = {
    **_COMMON,
    **_ALIASES,
    "image": IMAGE,
    "imageRegistry": REGISTRY,
    "workers": CREATE_WORKERS,
    "serviceMode": SERVICE_MODE,
}
UPDATE_FIELDS: dict[str, Field] = {**_COMMON, **_ALIASES, "workers": UPDATE_WORKERS}
SUBMIT_FIELDS: dict[str, Field] = {
    "taskId": TASK_ID,
    "input": INPUT,
    "workerPort": PORT,
    "processUri": PROCESS_URI,
    "webhook": WEBHOOK,
    "webhookAuthKey": AUTH_KEY,
    "headers": HEADERS,
}
CREATE_REQUIRED = ["name", "image", "resources", "workers", "containerVolumeInGb", "serviceMode"]
UPDATE_REQUIRED = ["name", "resources", "workers", "containerVolumeInGb"]
SUBMIT_REQUIRED = ["input", "workerPort", "processUri"]
# On a PATCH, null takes an optional setting away (N39).
CLEARABLE = sorted(set(UPDATE_FIELDS) - set(UPDATE_REQUIRED))


def _one_spelling(request: dict[str, Any]) -> dict[str, Any]:
    """Drop the second name of a setting that was given under both: the two may then not differ (N23)."""
    for name, other in (("environmentVars", "envVars"), ("containerRegistryAuthId", "credentialId")):
        if name in request:
            request.pop(other, None)
    return request


def _with_port(request: dict[str, Any]) -> dict[str, Any]:
    """An ALB endpoint must expose a port (N33)."""
    if request.get("serviceMode") == "ALB":
        request.setdefault("expose", {"port": 8000, "protocol": "http"})
    return request


def _requests(fields: dict[str, Field], required: list[str]) -> SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {name: fields[name].valid() for name in required},
        optional={name: field.valid() for name, field in fields.items() if name not in required},
    )


def create_requests() -> SearchStrategy[dict[str, Any]]:
    """Bodies that createEndpoint must accept."""
    return _requests(CREATE_FIELDS, CREATE_REQUIRED).map(_one_spelling).map(_with_port)


def update_requests() -> SearchStrategy[dict[str, Any]]:
    """Bodies that updateEndpoint must accept."""
    fields = dict(UPDATE_FIELDS)
    for name in CLEARABLE:
        fields[name] = attrs.evolve(fields[name], good=(*fields[name].good, None))
    return _requests(fields, UPDATE_REQUIRED).map(_one_spelling)


def submit_requests() -> SearchStrategy[dict[str, Any]]:
    """Bodies that submitTask must accept."""
    return _requests(SUBMIT_FIELDS, SUBMIT_REQUIRED)


def invalid_create_requests() -> SearchStrategy[dict[str, Any]]:
    """Bodies that createEndpoint must refuse because of one field."""
    return st.one_of(_broken(CREATE_FIELDS, create_requests()), _without(create_requests(), CREATE_REQUIRED))


def invalid_update_requests() -> SearchStrategy[dict[str, Any]]:
    """Bodies that updateEndpoint must refuse because of one field."""
    fields = dict(UPDATE_FIELDS)
    for name in CLEARABLE:
        field = fields[name]
        fields[name] = attrs.evolve(
            field,
            bad=tuple(value for value in field.bad if value is not None),
            random_bad=field.random_bad.filter(lambda value: value is not None),
        )
    return st.one_of(_broken(fields, update_requests()), _without(update_requests(), UPDATE_REQUIRED))


def invalid_submit_requests() -> SearchStrategy[dict[str, Any]]:
    """Bodies that submitTask must refuse because of one field."""
    return st.one_of(_broken(SUBMIT_FIELDS, submit_requests()), _without(submit_requests(), SUBMIT_REQUIRED))


def chaos_rules() -> SearchStrategy[Rule]:
    """Rules of the fault proxy, each with what its kind needs."""
    whole = st.integers(min_value=1, max_value=10**9)
    own: dict[str, dict[str, SearchStrategy[Any]]] = {
        "latency": {"ms": st.integers(1, 10**6), "jitter_ms": st.integers(0, 10**6)},
        "slow": {"bytes_per_s": whole},
        "garbage": {"size": st.integers(1, 10**6)},
    }
    spans = st.lists(st.integers(0, 10**9), min_size=2, max_size=2).map(lambda pair: tuple(sorted(pair)))
    return st.sampled_from(KINDS).flatmap(
        lambda kind: st.builds(
            Rule,
            kind=st.just(kind),
            towards=st.sampled_from(DIRECTIONS),
            probability=st.integers(0, 1000).map(lambda share: share / 1000),
            count=st.none() | whole,
            after=spans,
            **own.get(kind, {}),
        )
    )


_ODD_JSON = (
    b"",
    b"null",
    b"NaN",
    b"[Infinity]",
    b"-0",
    b"-0.0e-0",
    b"01",
    b"1e999",
    b"1" + b"0" * 400,
    b"0." + b"0" * 400 + b"1",
    b'"\\ud800"',
    b'"\\udc00\\ud800"',
    b'"\\u0000"',
    b'"\x00"',
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"\xf4\x90\x80\x80"',
    b'"\\x"',
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b"[1,]",
    b"[1]//",
    b"'a'",
    b'{"a":1,"a":2}',
    b'{"":""}',
    b'{"__proto__":{"a":1}}',
    b"{1:2}",
    b"[" * 99 + b"]" * 99,
    b"[" * 101 + b"]" * 101,
    b"[" * 100_000,
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    b'"' + b"\\" * 999 + b'"',
    b'"' + b"a" * 70_000 + b'"',
    "\u2028\U0001f600\u202e".encode().join([b'"', b'"']),
)


def odd_json() -> SearchStrategy[bytes]:
    """What stands where JSON should: odd but valid, nearly valid, deep, long, or any bytes at all."""
    value = st.sampled_from(_ODD_JSON) | st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode())
    wrapped = st.sampled_from([b"[%b]", b'{"a":%b}', b'"%b"', b" %b\n", b'[%b,"b"]'])
    return value | st.tuples(wrapped, value).map(lambda pair: pair[0] % pair[1])
