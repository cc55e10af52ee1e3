"""The image `sim/llm`: the answers of an OpenAI-compatible server, with its times and without its model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import cast

from .model import Plan, Request, Settings, generator, json_bytes, log_normal, read_json

_CHARS_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4
_COMPLETION_MAX_TOKENS = 131_072  # the context of large open models
_DRAWN_MAX_TOKENS = 4_096
_SENTENCE = (
    "the queue held every task until a worker was free and each answer came back in its own time so that nobody "
    "had to wait for more than was due while small lights moved along the wall as if counting them one by one"
)
_WORDS: list[str] = [*_SENTENCE.split()]


class _Refused(ValueError):
    def __init__(self, message: str, param: str | None, status: int = 400) -> None:
        super().__init__(message)
        self.param = param
        self.status = status


class _Asked:
    """What of a request decides its time and its answer."""

    def __init__(self, body: dict[str, object], prompt_tokens: int, model: str, *, chat: bool) -> None:
        self.chat = chat
        self.prompt_tokens = prompt_tokens
        self.model = _model(body, model)
        self.max_tokens = _max_tokens(body)
        self.stream = _flag(body, "stream")
        options = body.get("stream_options")
        self.stream_usage = (
            isinstance(options, dict) and "include_usage" in options and options["include_usage"] is True
        )
        if body.get("n") not in (None, 1):
            raise _Refused("n must be 1: this server makes one choice.", "n")


class Llm:
    """See the package's documentation."""

    def __init__(self, settings: Settings) -> None:
        self._ttft_ms = settings.number("SIM_TTFT_MS", 50)
        self._prefill_ms = settings.number("SIM_PREFILL_MS_PER_TOKEN", 0.1)
        self._tpot_ms = settings.number("SIM_TPOT_MS", 20)
        self._cv = settings.number("SIM_CV", 0.1, maximum=10)
        self._scale = settings.number("SIM_TIME_SCALE", 1)
        self._completion_tokens = settings.number("SIM_COMPLETION_TOKENS", 128, maximum=_DRAWN_MAX_TOKENS)
        self._model = settings.text("SIM_MODEL", "sim-llm")

    def plan(self, request: Request, key: str) -> Plan:
        """See Image."""
        try:
            return self._plan(request, key)
        except _Refused as refused:
            return Plan(refused.status, _error(refused.status, str(refused), refused.param))

    def error_body(self, status: int, message: str) -> bytes:
        """See Image."""
        return _error(status, message, None)

    def _plan(self, request: Request, key: str) -> Plan:
        if request.path == "/v1/models":
            _must_be(request, b"GET")
            return Plan(200, json_bytes({"object": "list", "data": [self._described()]}), counted=False)
        reader = {"/v1/chat/completions": _read_chat, "/v1/completions": _read_completion}.get(request.path)
        if reader is None:
            raise _Refused(f"{request.path} is not served here; use /v1/chat/completions.", None, 404)
        _must_be(request, b"POST")
        asked = reader(_object(request.body), self._model)
        chance = generator(key)
        name = f"{'chatcmpl' if asked.chat else 'cmpl'}-{chance.getrandbits(96):024x}"
        pace = log_normal(chance, 1.0, self._cv) * self._scale / 1000
        drawn = log_normal(chance, self._completion_tokens, 1.0)
        tokens = asked.max_tokens or max(1, min(_DRAWN_MAX_TOKENS, round(drawn)))
        words = _text(chance.randrange(len(_WORDS)), tokens)
        first_s = (self._ttft_ms + self._prefill_ms * asked.prompt_tokens) * pace
        answer = _Answer(asked, name, words)
        plan = Plan(200, b"" if asked.stream else answer.whole(), first_s + self._tpot_ms * pace * tokens)
        if asked.stream:
            plan.content_type = b"text/event-stream"
            plan.stream = answer.events(first_s / plan.delay_s if plan.delay_s else 0.0)
        return plan

    def _described(self) -> dict[str, object]:
        return {"id": self._model, "object": "model", "created": 0, "owned_by": "yottabench"}


class _Answer:
    """One completion in the two shapes it can be asked for."""

    def __init__(self, asked: _Asked, name: str, words: list[str]) -> None:
        self._asked = asked
        self._name = name
        self._words = words
        self._created = int(time.time())

    def whole(self) -> bytes:
        """The answer as one JSON object."""
        text = " ".join(self._words)
        message = {"role": "assistant", "content": text}
        content: dict[str, object] = {"message": message} if self._asked.chat else {"text": text}
        kind = "chat.completion" if self._asked.chat else "text_completion"
        return json_bytes(self._framed(kind, [self._choice(content, self._finish)]) | {"usage": self._usage})

    def events(self, first_share: float) -> Iterator[tuple[float, bytes]]:
        """Server-sent events, one per token, each with the share of the whole time that has passed before it."""
        kind = "chat.completion.chunk" if self._asked.chat else "text_completion"
        if self._asked.chat:
            yield (
                first_share,
                _event(self._framed(kind, [self._choice({"delta": {"role": "assistant", "content": ""}})])),
            )
        for index, word in enumerate(self._words):
            text = f" {word}" if index else word
            content: dict[str, object] = {"delta": {"content": text}} if self._asked.chat else {"text": text}
            share = first_share + (1 - first_share) * (index + 1) / len(self._words)
            yield share, _event(self._framed(kind, [self._choice(content)]))
        last: dict[str, object] = {"delta": {}} if self._asked.chat else {"text": ""}
        yield 1.0, _event(self._framed(kind, [self._choice(last, self._finish)]))
        if self._asked.stream_usage:
            yield 1.0, _event(self._framed(kind, []) | {"usage": self._usage})
        yield 1.0, b"data: [DONE]\n\n"

    @property
    def _finish(self) -> str:
        return "length" if self._asked.max_tokens else "stop"

    @property
    def _usage(self) -> dict[str, int]:
        prompt, completion = self._asked.prompt_tokens, len(self._words)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}

    def _choice(self, content: dict[str, object], finish: str | None = None) -> dict[str, object]:
        return {"index": 0, **content, "logprobs": None, "finish_reason": finish}

    def _framed(self, kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
        head = {"id": self._name, "object": kind, "created": self._created, "model": self._asked.model}
        return {**head, "choices": choices}


def _event(value: object) -> bytes:
    return b"data: %b\n\n" % json_bytes(value)


def _text(start: int, tokens: int) -> list[str]:
    turned = _WORDS[start:] + _WORDS[:start]
    return (turned * (tokens // len(turned) + 1))[:tokens]


def _error(status: int, message: str, param: str | None) -> bytes:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return json_bytes({"error": {"message": message, "type": kind, "param": param, "code": None}})


def _must_be(request: Request, method: bytes) -> None:
    if request.method != method:
        raise _Refused(f"{request.path} takes {method.decode()}, not {request.method.decode('latin-1')}.", None, 405)


def _object(body: bytes) -> dict[str, object]:
    try:
        value = read_json(body)
    except ValueError as error:
        raise _Refused(f"The body is not JSON: {error}. Send a JSON object.", None) from None
    if not isinstance(value, dict):
        raise _Refused("The body must be a JSON object.", None)
    return cast("dict[str, object]", value)


def _read_chat(body: dict[str, object], model: str) -> _Asked:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise _Refused('messages must be a non-empty array of {"role": ..., "content": ...}.', "messages")
    tokens = 0
    for index, message in enumerate(cast("list[object]", messages)):
        tokens += _TOKENS_PER_MESSAGE + _message_chars(message, f"messages[{index}]") // _CHARS_PER_TOKEN
    return _Asked(body, tokens, model, chat=True)


def _read_completion(body: dict[str, object], model: str) -> _Asked:
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise _Refused("prompt must be a non-empty string.", "prompt")
    return _Asked(body, max(1, len(prompt) // _CHARS_PER_TOKEN), model, chat=False)


def _message_chars(message: object, where: str) -> int:
    if not isinstance(message, dict):
        raise _Refused(f"{where} must be an object.", where)
    fields = cast("dict[str, object]", message)
    if not isinstance(fields.get("role"), str):
        raise _Refused(f"{where}.role must be a string, such as user.", f"{where}.role")
    content = fields.get("content")
    if content is None and "content" in fields:
        return 0  # an assistant's turn that only called tools
    if isinstance(content, str):
        return len(content)
    if isinstance(content, list):
        parts = [cast("dict[str, object]", p).get("text") for p in cast("list[object]", content) if isinstance(p, dict)]
        return sum(len(text) for text in parts if isinstance(text, str))
    raise _Refused(f"{where}.content must be a string or an array of parts.", f"{where}.content")


def _max_tokens(body: dict[str, object]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _COMPLETION_MAX_TOKENS:
            raise _Refused(f"{name} must be an integer from 1 to {_COMPLETION_MAX_TOKENS}.", name)
        return value
    return None


def _model(body: dict[str, object], default: str) -> str:
    model = body.get("model", default)
    if not isinstance(model, str):
        raise _Refused("model must be a string.", "model")
    return model


def _flag(body: dict[str, object], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _Refused(f"{name} must be true or false.", name)
    return bool(value)
