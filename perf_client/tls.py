"""TLS to the server: the user's certificate files to the context that a connection is opened with."""

import ssl
import tempfile
from base64 import encodebytes
from pathlib import Path

import msgspec

from perf_client.errors import usage_error
from perf_client.profile import Protocol

HANDSHAKE_TIMEOUT_S = 10.0

_DER_SEQUENCE, _DER_INTEGER = 0x30, 0x02


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the client trusts and how it shows who it is. Empty: the system's authorities, no certificate of its own.

    The types are ``PEM`` or ``DER``, as perf_analyzer names them.
    """

    ca_file: str = ""
    certificate_file: str = ""
    certificate_type: str = "PEM"
    key_file: str = ""
    key_type: str = "PEM"
    verify_peer: bool = True
    verify_host: bool = True


def ssl_context(tls: Tls, protocol: Protocol) -> ssl.SSLContext:
    """Raises LoadError where a file is not what it should be."""
    try:
        context = ssl.create_default_context(cafile=tls.ca_file or None)
    except OSError as error:
        raise usage_error(f"the CA file {tls.ca_file} can't be used: {_why(error)}; give certificates in PEM") from None
    context.check_hostname = tls.verify_peer and tls.verify_host
    if not tls.verify_peer:
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"] if protocol == "grpc" else ["http/1.1"])
    if tls.key_file and not tls.certificate_file:
        raise usage_error(f"the key {tls.key_file} has no certificate; give both or neither")
    if tls.certificate_file:
        _show(context, tls)
    return context


def _show(context: ssl.SSLContext, tls: Tls) -> None:
    """Load the client's own certificate. OpenSSL takes files only, so what is DER goes through one in PEM."""
    try:
        certificate = Path(tls.certificate_file).read_bytes()
        key = Path(tls.key_file).read_bytes() if tls.key_file else b""
        if tls.certificate_type == "DER":
            certificate = _pem(certificate, "CERTIFICATE")
        if tls.key_type == "DER" and key:
            key = _pem(key, key_label(key))
        with tempfile.NamedTemporaryFile() as file:  # only its owner can read it
            file.write(certificate + b"\n" + key)
            file.flush()
            context.load_cert_chain(file.name, password=_no_password)
    except (OSError, ValueError) as error:
        named = f"{tls.certificate_file} with the key {tls.key_file or 'in it'}"
        raise usage_error(
            f"the client certificate {named} can't be used: {_why(error)}; check files and types"
        ) from None


def _no_password() -> str:
    """Asked for where the key is encrypted. Without this OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted")


def _pem(der: bytes, label: str) -> bytes:
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (label.encode(), encodebytes(der), label.encode())


def key_label(der: bytes) -> str:
    """The PEM label of a DER key. After the version come an algorithm (PKCS #8), an integer (RSA) or octets (EC)."""
    if len(der) < 2 or der[0] != _DER_SEQUENCE:
        raise ValueError("not a key in DER")
    at = 2 + (der[1] & 0x7F if der[1] & 0x80 else 0)
    if len(der) < at + 4 or der[at] != _DER_INTEGER:
        raise ValueError("not a key in DER")
    match der[at + 2 + der[at + 1]]:
        case 0x30:
            return "PRIVATE KEY"
        case 0x02:
            return "RSA PRIVATE KEY"
        case _:
            return "EC PRIVATE KEY"


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not what it should be").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
