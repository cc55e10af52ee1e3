"""Receives what the service sends by webhook: inside any WSGI or ASGI application, or as a server of its own."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BufferedIOBase
from types import TracebackType
from typing import Any, Self

import attrs

from yottabench.client.errors import InvalidArgument, WebhookRefused
from yottabench.client.models import WorkerStatusNotification
from yottabench.client.news import Heard
from yottabench.client.webhook_check import (
    DEFAULT_WINDOW_S,
    Seen,
    TaskResult,
    check_sender,
    identity_of,
    read_webhook,
)

__all__ = ["Receiver", "Reply", "TaskResult", "check_sender", "read_webhook"]

log = logging.getLogger("yottabench.client")

BODY_MAX_BYTES = 16_000_000  # an output of 10 MB, and what stands around it
SILENCE_S = 10.0  # as long as the service waits for an answer; a sender that is silent for longer has given up
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 405: "Method Not Allowed", 409: "Conflict"}

OnTask = Callable[[TaskResult], object]
OnWorker = Callable[[WorkerStatusNotification], object]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
AsgiReceive = Callable[[], Awaitable[dict[str, Any]]]
AsgiSend = Callable[[dict[str, Any]], Awaitable[None]]


@attrs.frozen
class Reply:
    """What a webhook is answered. Only a status of 200 acknowledges; after any other it comes again."""

    status: int
    text: str = ""


class Receiver:
    """Takes webhooks in, and calls `on_task` and `on_worker` once for each piece of news, however often it is sent.

    A webhook is answered 200 once the function has returned. If it raises, the answer is 500, and the service sends the
    result again. `key` is the webhook_auth_key of the tasks (one is made when none is given; None takes everything in
    from everybody, for trials on one's own machine). See `check_sender` for what is checked. `url` is the address that
    the service can reach, where it is not that of the server that `with receiver:` starts on this machine.

    `wsgi` and `asgi` are applications to mount; functions are called on a thread, never on an event loop. As the
    `receiver` argument of Tasks.wait, submit_and_wait, wait_many or submit_many it lets them end when the news comes.
    """

    def __init__(
        self,
        on_task: OnTask | None = None,
        on_worker: OnWorker | None = None,
        *,
        key: str | None = "",
        url: str | None = None,
        window_s: float = DEFAULT_WINDOW_S,
        require_signature: bool = False,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.key = secrets.token_urlsafe(32) if key == "" else key
        self._on_task = on_task
        self._on_worker = on_worker
        self._url = url
        self._window_s = window_s
        self._require_signature = require_signature
        self._now_s = now_s
        self._seen = Seen()
        self._listeners: dict[str, list[Heard]] = {}
        self._lock = threading.Lock()
        self._server: _Server | None = None

    def __repr__(self) -> str:
        return f"Receiver(url={self._url!r})"

    @property
    def url(self) -> str:
        """Where the service sends to. Raises InvalidArgument before there is such a place."""
        if self._url is None:
            raise InvalidArgument("The receiver has no address yet. Give url=..., or start it with `with receiver:`.")
        return self._url

    def handle(self, method: str, headers: Mapping[str, str], body: bytes) -> Reply:
        """Deal with one request, wherever it came in."""
        try:
            if method != "POST":
                raise WebhookRefused("Webhooks are sent by POST.", 405)
            if self.key is not None:
                check_sender(
                    headers,
                    body,
                    self.key,
                    now_s=self._now_s(),
                    window_s=self._window_s,
                    require_signature=self._require_signature,
                )
            event = read_webhook(body)
            identity = identity_of(event)
            if not self._seen.begin(identity):
                return Reply(200, "This has been dealt with.")
        except WebhookRefused as refused:
            log.warning("A webhook was refused: %s", refused)
            return Reply(refused.http_status, str(refused))
        dealt_with = False
        try:
            self._tell(event)
            dealt_with = True
        except Exception:
            log.exception("A webhook was not dealt with; it will be sent again")
            return Reply(500, "The receiver failed. Send it again.")
        finally:
            self._seen.end(identity, dealt_with=dealt_with)
        return Reply(200)

    def _tell(self, event: TaskResult | WorkerStatusNotification) -> None:
        if isinstance(event, WorkerStatusNotification):
            if self._on_worker is not None:
                self._on_worker(event)
            return
        if self._on_task is not None:
            self._on_task(event)
        with self._lock:
            listeners = list(self._listeners.get(event.endpoint_id, ()))
        for heard in listeners:
            heard.task_ended(event.task_id)

    def listen(self, endpoint_id: str, heard: Heard) -> None:
        """See TaskNews.listen."""
        with self._lock:
            self._listeners.setdefault(endpoint_id, []).append(heard)

    def forget(self, endpoint_id: str, heard: Heard) -> None:
        """See TaskNews.forget."""
        with self._lock:
            self._listeners[endpoint_id].remove(heard)
            if not self._listeners[endpoint_id]:
                del self._listeners[endpoint_id]

    # ---- inside an application

    def wsgi(self, environ: Mapping[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """A WSGI application."""
        headers = {name[5:].replace("_", "-"): value for name, value in environ.items() if name.startswith("HTTP_")}
        length = str(environ.get("CONTENT_LENGTH") or "0")
        if not length.isdigit() or int(length) > BODY_MAX_BYTES:
            reply = Reply(400, "The length of the body is missing or too large.")
        else:
            body: bytes = environ["wsgi.input"].read(int(length))
            reply = self.handle(str(environ["REQUEST_METHOD"]), headers, body)
        content = reply.text.encode()
        head = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(content)))]
        start_response(f"{reply.status} {_REASONS.get(reply.status, 'Internal Server Error')}", head)
        return [content]

    async def asgi(self, scope: Mapping[str, Any], receive: AsgiReceive, send: AsgiSend) -> None:
        """An ASGI application."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            raise InvalidArgument(f"A receiver takes HTTP requests, not {scope['type']}.")
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = bool(message.get("more_body"))
            if len(body) > BODY_MAX_BYTES:
                await _reply(send, Reply(400, "The body is too large."))
                return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        await _reply(send, await asyncio.to_thread(self.handle, str(scope["method"]), headers, bytes(body)))

    # ---- as a server of its own

    def start(self, host: str = "127.0.0.1", port: int = 0) -> Self:
        """Serve on a thread until `stop`; port 0 takes any free one. The url is that address, unless one was given."""
        if self._server is not None:
            raise InvalidArgument("The receiver is running already.")
        try:
            self._server = _Server((host, port), self)
        except OSError as error:
            raise InvalidArgument(f"The receiver cannot listen on {host}:{port}: {error.strerror}.") from error
        if self._url is None:
            shown = f"[{host}]" if ":" in host else host
            self._url = f"http://{shown}:{self._server.server_address[1]}/"
            self._server.own_url = True
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="yottabench-receiver", daemon=True
        ).start()
        return self

    def stop(self) -> None:
        """End the server; harmless when there is none."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            server.server_close()
            if server.own_url:
                self._url = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A service that delivers a whole batch at once must not be turned away.
    request_queue_size = 512
    own_url = False

    def __init__(self, address: tuple[str, int], receiver: Receiver) -> None:
        self.receiver = receiver
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("A connection to the receiver broke", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = SILENCE_S
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] -- only _Server makes it

    def do_POST(self) -> None:
        body = self._body()
        if body is None:
            self.close_connection = True
            self._answer(Reply(400, "The length of the body is missing, unreadable or too large."))
        else:
            self._answer(self.server.receiver.handle("POST", dict(self.headers.items()), body))

    def do_GET(self) -> None:
        self._answer(self.server.receiver.handle("GET", {}, b""))

    def _body(self) -> bytes | None:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            return _read_chunks(self.rfile)
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or int(length) > BODY_MAX_BYTES:
            return None
        return self.rfile.read(int(length))

    def _answer(self, reply: Reply) -> None:
        content = reply.text.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("Receiver: " + format, *args)


def _read_chunks(stream: BufferedIOBase) -> bytes | None:
    body = bytearray()
    while True:
        size = stream.readline(64).partition(b";")[0].strip()
        try:
            length = int(size, 16)
        except ValueError:
            return None
        if length < 0 or len(body) + length > BODY_MAX_BYTES:
            return None
        if length == 0:
            while stream.readline(8192).strip():
                pass
            return bytes(body)
        body += stream.read(length)
        stream.readline(8)


async def _live(receive: AsgiReceive, send: AsgiSend) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _reply(send: AsgiSend, reply: Reply) -> None:
    content = reply.text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
