"""An authority, a server's and a client's certificate, made by the ``openssl`` command for one test run."""

import shutil
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

import grpc

_EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: each name's ``.pem`` certificate and ``.key``, for ``ca``, ``server`` and ``client``."""

    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def server_context(self, client_needed: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file("server.pem"), self.file("server.key"))
        if client_needed:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file("ca.pem"))
        return context

    def grpc_credentials(self, client_needed: bool = False) -> grpc.ServerCredentials:
        key, chain, ca = (Path(self.file(name)).read_bytes() for name in ("server.key", "server.pem", "ca.pem"))
        return grpc.ssl_server_credentials(
            [(key, chain)], root_certificates=ca if client_needed else None, require_client_auth=client_needed
        )

    def to_der(self, name: str, kind: str) -> str:
        """The same certificate (``x509``) or key (``pkcs8``, ``ec``) in DER."""
        out = self.file(f"{name}.{kind}.der")
        more = ["-topk8", "-nocrypt"] if kind == "pkcs8" else []
        _openssl(kind, "-in", self.file(name), "-outform", "DER", "-out", out, *more)
        return out


def openssl_is_there() -> bool:
    return shutil.which("openssl") is not None


def make_certificates(folder: Path, server_name: str = "IP:127.0.0.1") -> Certificates:
    made = Certificates(folder)
    _openssl(
        "req", "-x509", *_EC_KEY, "-keyout", made.file("ca.key"), "-out", made.file("ca.pem"), "-subj", "/CN=test ca"
    )
    for name, usage in (("server", f"subjectAltName={server_name}"), ("client", "extendedKeyUsage=clientAuth")):
        request = made.file(f"{name}.csr")
        _openssl("req", *_EC_KEY, "-keyout", made.file(f"{name}.key"), "-out", request, "-subj", f"/CN={name}")
        extensions = folder / f"{name}.ext"
        extensions.write_text(usage)
        signing = ["-CA", made.file("ca.pem"), "-CAkey", made.file("ca.key"), "-CAcreateserial"]
        out = made.file(f"{name}.pem")
        _openssl("x509", "-req", "-in", request, "-out", out, *signing, "-extfile", str(extensions))
    return made


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
