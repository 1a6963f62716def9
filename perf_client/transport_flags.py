"""The options about how requests travel: their flags, what contradicts what, and the settings they become."""

import argparse
from typing import Any

from perf_client import values
from perf_client.errors import usage_error
from perf_client.tls import Tls

_COMPRESSIONS = ("none", "gzip", "deflate")
_SSL_GRPC_FILES = {
    "root-certifications": ("ca_file", "authorities to trust, PEM"),
    "private-key": ("key_file", "the client's key, PEM"),
    "certificate-chain": ("certificate_file", "the client's certificates, PEM"),
}
_SSL_HTTPS_FILES = {
    "ca-certificates-file": ("ca_file", "authorities to trust, PEM"),
    "client-certificate-file": ("certificate_file", "the client's certificate"),
    "private-key-file": ("key_file", "the client's key"),
}
_SSL_HTTPS_TYPES = {
    "client-certificate-type": "certificate_type",
    "private-key-type": "key_type",
}


def add_transport(group: Any) -> None:
    group.add_argument(
        "--streaming", action="store_true", help="several answers a request: gRPC streams, or openai's events"
    )
    group.add_argument(
        "--grpc-compression-algorithm", choices=_COMPRESSIONS, default="none", help="of requests and answers over gRPC"
    )
    group.add_argument("--http-compression", choices=_COMPRESSIONS, default="none", help="the same over HTTP")
    group.add_argument(
        "--shared-memory", choices=("none", "system", "cuda"), default="none", help="where tensors lie; default none"
    )
    group.add_argument(
        "--output-shared-memory-size",
        metavar="BYTES",
        type=values.whole_number(1),
        help="for each output whose size the model doesn't say; default 102400",
    )
    group.add_argument(
        "--service-kind",
        metavar="KIND",
        type=_service_kind,
        default="triton",
        help="triton: any KServe v2 server; openai: an API like OpenAI's; in_process: the runtime without a socket",
    )
    group.add_argument("--endpoint", metavar="PATH", default="", help="openai: such as v1/chat/completions")
    group.add_argument("--model-repository", metavar="DIR", default="", help="in_process: where its models are")
    group.add_argument(
        "--workers",
        metavar="N",
        type=values.whole_number(1),
        default=1,
        help="processes that share the load, where one core is not enough; default 1",
    )


def _service_kind(text: str) -> str:
    match text:
        case "triton" | "openai" | "in_process":
            return text
        case "triton_c_api":
            raise argparse.ArgumentTypeError("Triton isn't loaded into this process; start it and use triton")
        case "tfserving" | "torchserve" | "dynamic_grpc":
            raise argparse.ArgumentTypeError(f"{text} is not supported; its server must speak KServe v2 (triton)")
        case _:
            raise argparse.ArgumentTypeError(f"{text!r} is none of triton, openai, in_process")


def add_tls(group: Any) -> None:
    group.add_argument("--ssl-grpc-use-ssl", action="store_true", help="gRPC over TLS")
    for name, (_, what) in _SSL_GRPC_FILES.items():
        group.add_argument(f"--ssl-grpc-{name}-file", metavar="FILE", help=what)
    for name, (_, what) in _SSL_HTTPS_FILES.items():
        group.add_argument(f"--ssl-https-{name}", metavar="FILE", help=what)
    for name in _SSL_HTTPS_TYPES:
        group.add_argument(f"--ssl-https-{name}", choices=("PEM", "DER"), help="default PEM")
    group.add_argument("--ssl-https-verify-peer", type=int, choices=(0, 1), help="check its certificate; default 1")
    group.add_argument("--ssl-https-verify-host", type=int, choices=(0, 1, 2), help="and its name; default 2")


def tls_of(given: argparse.Namespace) -> Tls | None:
    """None where no flag asks for TLS; the address may still do so."""
    over_grpc = given.protocol == "grpc"
    grpc = {setting: _value(given, f"ssl_grpc_{name}_file") for name, (setting, _) in _SSL_GRPC_FILES.items()}
    https: dict[str, Any] = {
        setting: _value(given, f"ssl_https_{name}")
        for name, setting in (
            *((name, setting) for name, (setting, _) in _SSL_HTTPS_FILES.items()),
            *_SSL_HTTPS_TYPES.items(),
            ("verify-peer", "verify_peer"),
            ("verify-host", "verify_host"),
        )
    }
    grpc = {name: value for name, value in grpc.items() if value is not None}
    https = {name: value for name, value in https.items() if value is not None}
    if (grpc or given.ssl_grpc_use_ssl) and not over_grpc:
        raise usage_error("--ssl-grpc-* needs -i grpc; over HTTP use --ssl-https-*")
    if https and over_grpc:
        raise usage_error("--ssl-https-* needs -i http; over gRPC use --ssl-grpc-*")
    if grpc and not given.ssl_grpc_use_ssl:
        raise usage_error("the --ssl-grpc-*-file flags need --ssl-grpc-use-ssl")
    if over_grpc:
        return Tls(**grpc) if given.ssl_grpc_use_ssl else None
    for name in ("verify_peer", "verify_host"):
        if name in https:
            https[name] = bool(https[name])
    return Tls(**https) if https else None


def _value(given: argparse.Namespace, name: str) -> Any:
    return getattr(given, name.replace("-", "_"))


def transport_settings(given: argparse.Namespace) -> dict[str, Any]:
    """The fields of a LoadProfile that say how requests travel."""
    _check(given)
    return {
        "compression": given.grpc_compression_algorithm if given.protocol == "grpc" else given.http_compression,
        "streaming": given.streaming,
        "shared_memory": given.shared_memory,
        "output_shared_memory_bytes": given.output_shared_memory_size or 102_400,
        "service": given.service_kind,
        "endpoint": given.model_repository if given.service_kind == "in_process" else given.endpoint,
        "workers": given.workers,
    }


def _check(given: argparse.Namespace) -> None:
    over_grpc, kind = given.protocol == "grpc", given.service_kind
    if given.grpc_compression_algorithm != "none" and not over_grpc:
        raise usage_error("--grpc-compression-algorithm needs -i grpc; over HTTP use --http-compression")
    if given.http_compression != "none" and over_grpc:
        raise usage_error("--http-compression needs -i http; over gRPC use --grpc-compression-algorithm")
    if given.output_shared_memory_size and given.shared_memory == "none":
        raise usage_error("--output-shared-memory-size needs --shared-memory system or cuda")
    if (kind == "openai") != bool(given.endpoint):
        raise usage_error("--service-kind openai and --endpoint PATH need each other")
    if (kind == "in_process") != bool(given.model_repository):
        raise usage_error("--service-kind in_process and --model-repository DIR need each other")
