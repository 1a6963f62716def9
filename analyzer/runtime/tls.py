"""Certificates that a server is told of to what its sockets need."""

import ssl

import msgspec


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM form. ``client_ca``: only clients with a certificate of this authority may connect."""

    certificate: str
    key: str
    client_ca: str = ""


class TlsError(Exception):
    """Certificates that can't be used; says which and why."""


def make_context(options: TlsOptions, protocol: str) -> ssl.SSLContext:
    """For a port that speaks ``protocol``, by its name in ALPN (http/1.1 or h2)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise TlsError(
            f"the certificate '{options.certificate}' with the key '{options.key}' can't be used: {error}"
        ) from None
    if options.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(options.client_ca)
        except (OSError, ssl.SSLError) as error:
            raise TlsError(f"the authority of clients '{options.client_ca}' can't be used: {error}") from None
    return context
