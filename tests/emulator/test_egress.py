"""Where webhooks may go."""

import asyncio
import socket
from typing import Any

import pytest

from yottabench.emulator.receivers import EgressRefused, allowed_address
from yottabench.emulator.settings import Egress

pytestmark = pytest.mark.anyio


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names that resolve as the test says; an address is its own name."""
    known: dict[str, list[str]] = {}

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in known.get(host, [host])]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    return known


@pytest.mark.parametrize(
    ("ips", "loopback", "public"),
    [
        (["127.0.0.1"], True, True),
        (["127.9.8.7"], True, True),
        (["::1"], True, True),
        (["93.184.216.34"], False, True),
        (["2606:2800:220:1::1"], False, True),
        (["10.1.2.3"], False, False),
        (["172.16.0.1"], False, False),
        (["192.168.1.1"], False, False),
        (["169.254.1.1"], False, False),
        (["100.64.0.1"], False, False),
        (["0.0.0.0"], False, False),
        (["fe80::1"], False, False),
        (["::ffff:10.0.0.1"], False, False),
        (["::ffff:127.0.0.1"], True, True),
        (["64:ff9b::7f00:1"], False, False),  # translated, the loopback of somebody else
        (["64:ff9b::a01:203"], False, False),
        (["64:ff9b::5db8:d822"], False, True),
        (["2002:a01:203::1"], False, False),
        (["::10.1.2.3"], False, False),
        (["93.184.216.34", "10.1.2.3"], False, False),
        (["127.0.0.1", "10.1.2.3"], False, False),
    ],
)
async def test_an_address_is_reached_only_when_all_of_its_names_addresses_may_be(
    names: dict[str, list[str]], ips: list[str], loopback: bool, public: bool
) -> None:
    name = "there.localhost"
    names[name] = ips
    settings: list[tuple[Egress, bool]] = [("loopback", loopback), ("public", public)]
    for egress, reached in settings:
        if reached:
            assert await allowed_address(name, 80, (), egress) == ips[0]
        else:
            with pytest.raises(EgressRefused, match=r"--webhook-allow there\.localhost"):
                await allowed_address(name, 80, (), egress)
        assert await allowed_address(name, 80, (name,), egress) == ips[0]


@pytest.mark.parametrize("host", ["there.example", "notlocalhost", "localhost.example", "127.1", "2130706433"])
async def test_by_default_names_of_others_are_not_even_looked_up(
    host: str, monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]
) -> None:
    asked: list[str] = []

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    with pytest.raises(EgressRefused, match="--webhook-allow"):
        await allowed_address(host, 80, ())
    assert asked == []
    assert await allowed_address(host, 80, (host,)) == "127.0.0.1"
    assert asked == [host]


@pytest.mark.parametrize(
    ("ip", "reached"), [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False)]
)
async def test_an_address_is_not_looked_up(ip: str, reached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(*_: Any, **__: Any) -> list[Any]:
        raise AssertionError("an address needs no name service")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    if reached:
        assert await allowed_address(ip, 80, ()) == ip
    else:
        with pytest.raises(EgressRefused, match="not on this machine's loopback"):
            await allowed_address(ip, 80, ())


@pytest.mark.parametrize(
    "ip",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "169.254.170.2",
        "fd00:ec2::254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::a9fe:a9fe",
        "::ffff:0:169.254.169.254",
        "::169.254.169.254",
        "2002:a9fe:a9fe::",
    ],
)
@pytest.mark.parametrize("egress", ["loopback", "public"])
async def test_the_metadata_of_a_cloud_is_never_reached(names: dict[str, list[str]], ip: str, egress: Egress) -> None:
    names["there.example"] = ["93.184.216.34", ip]
    with pytest.raises(EgressRefused, match="metadata"):
        await allowed_address("there.example", 80, ("there.example",), egress)
