"""Which URLs webhooks are taken for, and which keys they may carry."""

import ipaddress
import re

from yottabench.emulator import limits

AUTH_KEY = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_HOST_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
_WEBHOOK = re.compile(
    rf"[Hh][Tt][Tt][Pp][Ss]?://(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*\.?|\[(?P<ipv6>[0-9A-Fa-f:.]{{2,45}})\])(?::(?P<port>[1-9][0-9]{{0,4}}))?"
    r"(?:[/?#][!-~]*)?"
)


def is_webhook(url: str) -> bool:
    """Whether the text is a URL that webhooks are taken for."""
    match = _WEBHOOK.fullmatch(url) if len(url) <= limits.WEBHOOK_MAX_CHARS else None
    return match is not None and int(match["port"] or 80) <= 65535 and _is_ipv6(match["ipv6"] or "::1")


def is_auth_key(text: str) -> bool:
    """Whether the text may stand in a header as the key of a webhook."""
    return len(text) <= limits.WEBHOOK_AUTH_KEY_MAX_CHARS and AUTH_KEY.fullmatch(text) is not None


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True
