"""Where documents to compare come from: ours, a file or a URL; and the digest that tells versions of one apart."""

import hashlib
from pathlib import Path
from typing import Any

from yottabench.conformance.diff.shapes import Unreadable, meaning, text_of
from yottabench.spec import spec

OURS = "ours"
DIGEST_CHARS = 12
FETCH_TIMEOUT_S = 30.0
FETCH_MAX_BYTES = 50_000_000  # the largest published OpenAPI documents have about 10 MB


def load(source: str) -> Any:
    """The document as plain values: `ours`, the path of a YAML or JSON file, or an http(s) URL. Raises Unreadable."""
    if source == OURS:
        return spec()
    text = _fetch(source) if source.startswith(("http://", "https://")) else _read(Path(source))
    import yaml

    try:
        # The safe loader reads JSON too, and makes only plain values.
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise Unreadable(f"{source} is neither YAML nor JSON: {' '.join(str(error).split())}.") from None


def digest(document: Any) -> str:
    """A short name for what a document demands; comments, descriptions and examples have no part in it."""
    plain = {name: part for name, part in meaning(document).items() if name not in ("info", "tags")}
    return hashlib.sha256(text_of(plain).encode()).hexdigest()[:DIGEST_CHARS]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Unreadable(f"{path} cannot be read: {error}. Give a file, a URL, or `{OURS}`.") from None


def _fetch(url: str) -> str:
    import httpx

    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=FETCH_TIMEOUT_S) as answer:
            answer.raise_for_status()
            body = bytearray()
            for chunk in answer.iter_bytes():
                body += chunk
                if len(body) > FETCH_MAX_BYTES:
                    raise Unreadable(f"{url} is larger than {FETCH_MAX_BYTES} bytes: this is no API document.")
            return body.decode("utf-8-sig")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeDecodeError) as error:
        raise Unreadable(f"{url} cannot be fetched: {error}. Save it to a file and give its path.") from None
