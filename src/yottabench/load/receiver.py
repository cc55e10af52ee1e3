"""A webhook receiver in its own process: checks the key and writes each receipt to a file before it acknowledges."""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httptools
import orjson

from yottabench.client import WebhookRefused
from yottabench.client.webhooks import TaskResult, check_sender, read_webhook
from yottabench.load.bodies import mark_in

KEY_VARIABLE = "YOTTABENCH_WEBHOOK_KEY"  # not an argument: those are shown to every user of the machine
MOST_BODY_BYTES = 16_000_000  # an output of 10 MB, and what stands around it
MOST_HEADERS = 100
BACKLOG = 1024
_ANSWERS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 405: "Method Not Allowed", 413: "Content Too Large"}


class Receipts:
    """Turns webhooks into lines of a file; one write each, so that a killed receiver loses none it acknowledged."""

    def __init__(self, path: Path, key: str, now_s: Callable[[], float] = time.time) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._key = key
        self._now_s = now_s

    def take(self, headers: dict[str, str], body: bytes) -> tuple[int, str]:
        """Judges one POST; gives the HTTP status and what to say. A refused one leaves a line too."""
        at_s = self._now_s()
        try:
            check_sender(headers, body, self._key, now_s=at_s)
            result = read_webhook(body)
        except WebhookRefused as refused:
            self._write({"at": at_s, "refused": str(refused)})
            return refused.http_status, str(refused)
        if isinstance(result, TaskResult):
            self._write(_line(at_s, result))
        return 200, ""

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)

    def _write(self, line: dict[str, Any]) -> None:
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        if os.write(self._file, data) != len(data):
            raise OSError("The disk took only part of a receipt. Free some space and run again.")


def _line(at_s: float, result: TaskResult) -> dict[str, Any]:
    line: dict[str, Any] = {"at": at_s, "id": result.task_id, "endpoint": result.endpoint_id, "ok": result.succeeded}
    line |= {"send": result.send, "sent": sent_ms(result.notification.timestamp)}
    mark = mark_in(result.output)
    return line if mark is None else line | {"mark": mark}


def sent_ms(timestamp: object) -> int:
    """A webhook's own stamp in milliseconds since 1970; 0 for one that cannot be read."""
    try:
        stamp = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return 0
    return round((stamp if stamp.tzinfo else stamp.replace(tzinfo=UTC)).timestamp() * 1000)


class _Connection(asyncio.Protocol):
    """One sender's connection; httptools calls the on_ methods."""

    def __init__(self, receipts: Receipts) -> None:
        self._receipts = receipts
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._answer(400, "This is no HTTP request.", last=True)

    def on_message_begin(self) -> None:
        self._headers, self._body, self._size = {}, [], 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self._headers) < MOST_HEADERS:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip()

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size <= MOST_BODY_BYTES:
            self._body.append(body)

    def on_message_complete(self) -> None:
        last = not self._parser.should_keep_alive()
        if self._size > MOST_BODY_BYTES:
            self._answer(413, "The body is too large.", last=True)
        elif self._parser.get_method() != b"POST":
            self._answer(405, "Webhooks are sent by POST.", last=last)
        else:
            status, text = self._receipts.take(self._headers, b"".join(self._body))
            self._answer(status, text, last=last)

    def _answer(self, status: int, text: str, *, last: bool) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        content = text.encode()
        head = f"HTTP/1.1 {status} {_ANSWERS.get(status, 'Refused')}\r\nContent-Length: {len(content)}\r\n"
        head += "Content-Type: text/plain; charset=utf-8\r\n" + ("Connection: close\r\n" if last else "")
        transport.write(head.encode() + b"\r\n" + content)
        if last:
            transport.close()


async def serve(receipts: Receipts, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT; prints one JSON line when it is ready."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()

    def end(*_: object) -> None:
        if not loop.is_closed():  # a second signal may come while it ends
            loop.call_soon_threadsafe(over.set)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    server = await loop.create_server(lambda: _Connection(receipts), host, port, backlog=BACKLOG)
    address = server.sockets[0].getsockname()
    shown = f"[{address[0]}]" if ":" in address[0] else address[0]
    sys.stdout.write(json.dumps({"ready": True, "url": f"http://{shown}:{address[1]}/", "pid": os.getpid()}) + "\n")
    sys.stdout.flush()
    await over.wait()
    server.close()


def main() -> None:
    """`python -m yottabench.load.receiver FILE`; the key is in the environment."""
    parser = argparse.ArgumentParser(prog="python -m yottabench.load.receiver", description=__doc__)
    parser.add_argument("file", type=Path, help="receipts are appended to it, a JSON line each")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    asked = parser.parse_args()
    key = os.environ.pop(KEY_VARIABLE, "")
    if not key:
        parser.error(f"{KEY_VARIABLE} is not set: without a key anybody's webhooks would be taken for the service's.")
    receipts = Receipts(asked.file, key)
    try:
        asyncio.run(serve(receipts, asked.host, asked.port))
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Python's own end lets a second one kill
    finally:
        receipts.close()


if __name__ == "__main__":
    main()
