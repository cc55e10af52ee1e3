"""What `yottabench chaos` refuses before it listens."""

import socket

import pytest
from typer.testing import CliRunner

from yottabench.cli.app import build


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--target", "8080"], "--target must be host:port"),
        (["--target", "http://127.0.0.1:8080/v2"], "--target must be host:port"),
        (["--target", "127.0.0.1:65536"], "--target must be host:port"),
        (["--target", "127.0.0.1:0"], "--target must name a port"),
        (["--target", "127.0.0.1:1", "--listen", "127.0.0.1"], "--listen must be host:port"),
        (["--target", "127.0.0.1:1", "--listen", "0.0.0.0:0"], "Say --anybody if that is meant."),
        (["--target", "127.0.0.1:1", "--listen", "[::]:0"], "Say --anybody if that is meant."),
        (["--target", "127.0.0.1:1", "--rule", "slow"], "--rule: slow needs rate"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(options: list[str], said: str) -> None:
    result = CliRunner().invoke(build(), ["chaos", *options])
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_address_that_is_taken_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(build(), ["chaos", "--target", "127.0.0.1:1", "--listen", listen])
    assert result.exit_code == 1
    assert "Choose another with --listen" in result.stderr
