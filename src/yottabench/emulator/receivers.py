"""Receivers of webhooks: what their URLs mean, and which of them this server may send to."""

import asyncio
import ipaddress
import re
from collections.abc import Iterator
from functools import lru_cache

from yottabench.emulator import http1
from yottabench.emulator.settings import Egress

Address = tuple[str, str, int]  # scheme, host, port

# Of a URL that was validated when it came in. urlsplit is stricter: it raises for brackets without an IPv6 address in
# them, which are for the resolver to refuse, once, as an address that cannot be reached.
_URL = re.compile(r"(?P<scheme>\w+)://(?:\[(?P<ip>[^]]*)\]|(?P<host>[^:/?#]*))(?::(?P<port>[0-9]+))?(?P<rest>[^#]*)")
# Where clouds answer whoever asks from inside with credentials: never, not even when allowed by name.
_METADATA = frozenset(
    ipaddress.ip_address(text) for text in ("169.254.169.254", "169.254.170.2", "100.100.100.200", "fd00:ec2::254")
)


class EgressRefused(Exception):
    """The address is not one that this server may send webhooks to."""


def _parts(url: str) -> re.Match[str]:
    match = _URL.match(url)
    if match is None:
        raise ValueError("A webhook that was never validated.")
    return match


def address_of(url: str) -> Address:
    """Scheme, host and port of a webhook that was validated when it came in."""
    parts = _parts(url)
    scheme = parts["scheme"].lower()
    port = int(parts["port"]) if parts["port"] else 443 if scheme == "https" else 80
    return scheme, (parts["ip"] or parts["host"] or "").lower(), port


def target_of(url: str) -> bytes:
    """Path and query of a webhook, as they go on the wire."""
    rest = _parts(url)["rest"]
    return (rest if rest.startswith("/") else "/" + rest).encode("ascii")


def authority_of(address: Address) -> str:
    """host:port."""
    _, host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@lru_cache(maxsize=1024)
def destination_of(url: str) -> str:
    """What the webhooks that go to one receiver have in common: the URL of its root, always with the port."""
    address = address_of(url)
    return f"{address[0]}://{authority_of(address)}"


async def allowed_address(host: str, port: int, allowed: tuple[str, ...], egress: Egress = "loopback") -> str:
    """One address of `host` that may be connected to: loopback, with egress `public` any global one, or any allowed.

    Raises EgressRefused, or http1.ConnectFailed when the name is unknown. The default keeps a replayed trace from
    reaching the receivers of the real service: their names are not even looked up.
    """
    if _literal(host) is not None:
        ips = [host]
    elif egress == "loopback" and host not in allowed and not _is_local(host):
        raise _not_loopback(host)
    else:
        ips = await _looked_up(host, port)
    addresses = [_unmapped(ip) for ip in ips]
    behind = [other for address in addresses for other in _behind(address)]
    if any(address in _METADATA for address in (*addresses, *behind)):
        raise EgressRefused(f"{host} is an address of a cloud's metadata service, which no webhook may reach.")
    if host in allowed or all(address.is_loopback for address in addresses):
        return ips[0]
    if egress == "loopback":
        raise _not_loopback(host)
    if not all(address.is_global for address in (*addresses, *behind)):
        raise EgressRefused(f"{host} has an address that is not public. Allow it with --webhook-allow {host}.")
    return ips[0]


async def _looked_up(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=6)
    except (OSError, UnicodeError) as error:
        raise http1.ConnectFailed(f"The name {host} is unknown: {error}") from error
    return [str(entry[4][0]) for entry in found]


def _not_loopback(host: str) -> EgressRefused:
    return EgressRefused(f"{host} is not on this machine's loopback. Allow it with --webhook-allow {host}.")


def _is_local(host: str) -> bool:
    name = host.rstrip(".")
    return name == "localhost" or name.endswith(".localhost")


def _literal(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _unmapped(ip: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    address = ipaddress.ip_address(ip.split("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# IPv6 addresses that somebody on the way may turn into the IPv4 address in their last four bytes: RFC 6052, 8215, 2765.
_TRANSLATED = tuple(
    ipaddress.IPv6Network(net) for net in ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")
)


def _behind(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return
    if address.sixtofour is not None:
        yield address.sixtofour
    if any(address in network for network in _TRANSLATED):
        yield ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
