"""Certificates for servers on this machine, signed by an authority that only a test trusts; openssl makes them."""

import ssl
import subprocess
from pathlib import Path

import attrs


@attrs.frozen
class Certificates:
    """A server context for each name, a client context that trusts the authority which signed them, and its file."""

    here: ssl.SSLContext
    elsewhere: ssl.SSLContext
    trusting: ssl.SSLContext
    authority: Path


def signed(folder: Path, name: str, alternative: str) -> ssl.SSLContext:
    """A server's context with a certificate for `alternative`, signed by the authority in the folder."""
    key, request, certificate = (folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", f"/CN={name}"]
    openssl("req", *new_key, "-keyout", str(key), "-out", str(request))
    extensions = folder / f"{name}.ext"
    extensions.write_text(f"subjectAltName={alternative}\nauthorityKeyIdentifier=keyid\n")
    authority = ["-CA", str(folder / "ca.pem"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial"]
    about = ["-days", "2", "-extfile", str(extensions), "-out", str(certificate)]
    openssl("x509", "-req", "-in", str(request), *authority, *about)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def make_certificates(folder: Path) -> Certificates:
    """An authority, and what it has signed."""
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    about = ["-subj", "/CN=test authority", "-days", "2", "-addext", "keyUsage=critical,keyCertSign"]
    authority = folder / "ca.pem"
    openssl("req", "-x509", *new_key, *about, "-keyout", str(folder / "ca.key"), "-out", str(authority))
    trusting = ssl.create_default_context(cafile=str(authority))
    here = signed(folder, "here", "IP:127.0.0.1")
    return Certificates(here, signed(folder, "elsewhere", "DNS:elsewhere.example"), trusting, authority)
