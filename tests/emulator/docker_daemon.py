"""A Docker daemon for tests: the few calls of its API that the driver makes; its containers are threads."""

import http.server
import json
import re
import socketserver
import struct
import threading
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import attrs


@attrs.define(eq=False)
class FakeImage:
    """An image of the daemon. `says` are its first lines; `code`: it ends at once with this exit code."""

    says: list[str] = attrs.field(factory=lambda: ["hello"])
    code: int | None = None
    listens: bool = True
    out_of_memory: bool = False
    entrypoint: list[str] | None = attrs.field(factory=lambda: ["/entry"])
    command: list[str] | None = attrs.field(factory=lambda: ["--serve"])


class _Inside(http.server.BaseHTTPRequestHandler):
    """What answers inside a container."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


class FakeContainer:
    """One container: an HTTP server on 127.0.0.1 instead of a process."""

    def __init__(self, number: int, name: str, image: FakeImage, wanted: dict[str, Any]) -> None:
        self.id = f"{number:064x}"
        self.name = name
        self.image = image
        self.wanted = wanted
        self.state = "created"
        self.code = 0
        self.ended = threading.Event()
        self.server: http.server.ThreadingHTTPServer | None = None

    def start(self) -> None:
        self.state = "running"
        if self.image.listens:
            self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Inside)
            self.server.daemon_threads = True
            threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        if self.image.code is not None:
            self.end(self.image.code)

    def end(self, code: int) -> None:
        if self.ended.is_set():
            return
        self.state, self.code = "exited", code
        if self.server is not None:
            self.server.shutdown()
            self.server.server_close()
        self.ended.set()

    def inspected(self) -> dict[str, Any]:
        port = None if self.server is None else self.server.server_address[1]
        asked = self.wanted.get("HostConfig", {}).get("PortBindings") or {}
        return {
            "Id": self.id,
            "Name": f"/{self.name}",
            "Config": {"Tty": False, "Labels": self.wanted.get("Labels") or {}},
            "State": {"Status": self.state, "OOMKilled": self.image.out_of_memory, "ExitCode": self.code},
            "NetworkSettings": {
                "Ports": {name: [{"HostIp": "127.0.0.1", "HostPort": str(port)}] for name in asked} if port else {},
                "Networks": {"bridge": {"IPAddress": "127.0.0.1"}},
            },
        }


class FakeDaemon:
    """Listens on `path` until `close`; tests look into `containers` and say what `images` there are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.url = f"unix://{path}"
        self.images: dict[str, FakeImage] = {}
        self.remote: dict[str, FakeImage] = {}
        self.containers: dict[str, FakeContainer] = {}
        self.calls: list[str] = []
        self.may_pull = threading.Event()
        self.may_pull.set()
        self.changed = threading.Condition()
        self.count = 0

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True
            daemon = self

        self._server = Server(str(path), _Api)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.may_pull.set()
        for container in list(self.containers.values()):
            container.end(137)
        self._server.shutdown()
        self._server.server_close()

    def image(self, name: str) -> FakeImage:
        found = self.images.get(name) or self.images.get(f"{name}:latest")
        if found is None:
            raise _Refused(404, f"No such image: {name}")
        return found

    def find(self, name: str) -> FakeContainer:
        found = [each for each in self.containers.values() if each.id == name or each.name == name]
        if not found:
            raise _Refused(404, f"No such container: {name}")
        return found[0]


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False

    def address_string(self) -> str:
        return "unix"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_HEAD = do_GET

    @property
    def _daemon(self) -> FakeDaemon:
        return self.server.daemon  # type: ignore[attr-defined]

    def _answer(self) -> None:
        url = urlsplit(self.path)
        path = re.sub(r"^/v1\.[0-9]+", "", url.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"null") if length else None
        self._daemon.calls.append(f"{self.command} {path}")
        try:
            self._route(path, query, body)
        except _Refused as refused:
            self._send(refused.status, {"message": refused.message})
        with self._daemon.changed:
            self._daemon.changed.notify_all()

    def _route(self, path: str, query: dict[str, str], body: Any) -> None:
        daemon = self._daemon
        if path == "/_ping":
            self._send(200, "OK")
        elif path == "/version":
            self._send(200, {"ApiVersion": "1.44", "MinAPIVersion": "1.24", "Version": "25.0"})
        elif found := re.fullmatch(r"/images/(.+)/json", path):
            self._image(found[1])
        elif path == "/images/create":
            self._pull(f"{query['fromImage']}:{query.get('tag', 'latest')}")
        elif path == "/containers/create":
            image = daemon.image(body["Image"])
            daemon.count += 1
            container = FakeContainer(daemon.count, query["name"], image, body)
            daemon.containers[container.id] = container
            self._send(201, {"Id": container.id, "Warnings": []})
        elif path == "/containers/json":
            self._list(json.loads(query["filters"])["label"])
        elif found := re.fullmatch(r"/containers/([^/]+)(?:/([a-z]+))?", path):
            self._container(daemon.find(found[1]), found[2] or "", query)
        else:
            raise _Refused(404, f"page not found: {path}")

    def _image(self, name: str) -> None:
        image = self._daemon.image(name)
        config = {"Entrypoint": image.entrypoint, "Cmd": image.command}
        self._send(200, {"Id": "sha256:" + "0" * 64, "RepoTags": [name], "Config": config})

    def _pull(self, name: str) -> None:
        daemon = self._daemon
        daemon.may_pull.wait(10)
        if name not in daemon.remote:
            raise _Refused(404, f"pull access denied for {name}, repository does not exist\nor may require login")
        daemon.images[name] = daemon.remote[name]
        self._send(200, {"status": "Download complete"})

    def _list(self, labels: list[str]) -> None:
        wanted = dict(label.split("=", 1) for label in labels)
        found = [
            {"Id": each.id}
            for each in self._daemon.containers.values()
            if wanted.items() <= (each.wanted.get("Labels") or {}).items()
        ]
        self._send(200, found)

    def _container(self, container: FakeContainer, what: str, query: dict[str, str]) -> None:
        match self.command, what:
            case "GET", "json":
                self._send(200, container.inspected())
            case "POST", "start":
                container.start()
                self._send(204)
            case "GET", "logs":
                self._logs(container)
            case "POST", "wait":
                container.ended.wait(30)
                self._send(200, {"StatusCode": container.code})
            case "POST", "stop":
                container.end(143 if query.get("t") else 0)
                self._send(204)
            case "POST", "kill":
                if container.state != "running":
                    raise _Refused(409, "is not running")
                container.end(137)
                self._send(204)
            case "DELETE", "":
                container.end(137)
                self._daemon.containers.pop(container.id, None)
                self._send(204)
            case _:
                raise _Refused(404, "page not found")

    def _logs(self, container: FakeContainer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.docker.raw-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for line in container.image.says:
            data = line.encode() + b"\n"
            self.wfile.write(struct.pack(">BxxxL", 1, len(data)) + data)
        self.wfile.flush()
        container.ended.wait(30)

    def _send(self, status: int, body: Any = None) -> None:
        data = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Api-Version", "1.44")
        self.send_header("Content-Type", "text/plain" if isinstance(body, str) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
