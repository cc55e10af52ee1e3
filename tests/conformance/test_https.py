"""A deployment is reached by https: `yottabench conformance` and `yottabench proxy` against an emulator behind TLS."""

import contextlib
import json
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator

import httpx
import pytest

from tests.certificates import Certificates, make_certificates
from tests.conformance.live import KEY, Stage
from tests.conformance.test_live import command
from tests.conformance.test_proxy import watching
from yottabench.client import Client

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def behind_tls(url: str, context: ssl.SSLContext) -> Iterator[str]:
    """What stands before a deployment in the open: it ends TLS and passes on the rest."""
    port = int(url.rpartition(":")[2])
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        try:
            client = context.wrap_socket(connection, server_side=True)
        except OSError:  # it does not trust us
            connection.close()
            return
        with client, socket.create_connection(("127.0.0.1", port)) as server:
            back = threading.Thread(target=pump, args=(server, client), daemon=True)
            back.start()
            pump(client, server)
            back.join(10)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"https://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def target(stage: Stage, certificates: Certificates) -> Iterator[str]:
    with behind_tls(stage.api.url, certificates.here) as url:
        yield url


@pytest.fixture
def trusted(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authority is one of the machine's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))


@pytest.mark.usefixtures("trusted")
def test_the_proxy_reads_what_goes_to_an_https_target(stage: Stage, target: str) -> None:
    with watching(target) as running, Client(KEY, running.url) as client:
        assert client.tasks.count(stage.served).processing >= 0
        assert client.endpoints.get(stage.served).id == stage.served
    assert (running.code, running.deviations) == (0, [])
    assert running.told[-1]["of_the_api"] == 2


def test_the_proxy_says_that_it_does_not_trust_a_target(stage: Stage, target: str) -> None:
    with watching(target) as running:
        answer = httpx.get(f"{running.url}/v2/serverless", headers={"X-Api-Key": KEY})
    assert answer.status_code == 502
    assert "certificate" in answer.text


@pytest.mark.usefixtures("trusted")
def test_an_https_deployment_is_held_to_the_document(stage: Stage, target: str) -> None:
    done = command(target, "--endpoint-id", stage.served, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["deviates"] is False


def test_a_deployment_that_is_not_trusted_gives_no_answer(target: str) -> None:
    done = command(target)
    assert done.returncode == 5
    assert "certificate" in done.stdout + done.stderr
