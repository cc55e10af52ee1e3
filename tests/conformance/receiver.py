"""An HTTP server on this machine that keeps what it is sent and answers as it is told: a webhook's, or a worker."""

import contextlib
import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs

PATIENCE_S = 30.0


@attrs.frozen
class Delivery:
    """One POST as it came in; names of headers are in lower case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def payload(self) -> Any:
        """The JSON of the body."""
        return json.loads(self.body)


class Receiver:
    """Where it is, what came in so far, and what it answers next: 200 once `answers` is used up."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._came: queue.SimpleQueue[Delivery] = queue.SimpleQueue()

    def take(self) -> Delivery:
        """The next delivery; waits for it."""
        return self._came.get(timeout=PATIENCE_S)

    def receive(self, delivery: Delivery) -> int:
        """Keep it; returns the status to answer with."""
        self._came.put(delivery)
        try:
            return self.answers.get_nowait()
        except queue.Empty:
            return 200


@contextlib.contextmanager
def receiver(answer: bytes = b"") -> Iterator[Receiver]:
    """A receiver that listens, and whose every answer has this body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True
        timeout = PATIENCE_S

        def do_GET(self) -> None:
            """Says that it is there."""
            self._answer(200)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._answer(listening.receive(Delivery(self.path, headers, body)))

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        listening = Receiver(f"http://127.0.0.1:{server.server_port}/hook")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="receiver", daemon=True)
        thread.start()
        try:
            yield listening
        finally:
            server.shutdown()
            thread.join()
