"""What the serving runtime can be told, as a record and as command-line flags."""

import argparse
from typing import Any, Literal

import msgspec
from msgspec.structs import fields

from analyzer.runtime.flag_parser import FlagParser
from analyzer.runtime.flag_values import Port
from analyzer.runtime.flags import add_addresses, add_figures, add_limits, add_models
from analyzer.runtime.metrics_config import MetricsConfig, metrics_config


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    model_repository: str
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: Port = 8001
    metrics_port: Port = 8002
    metrics_interval_s: float = 2.0
    metrics_settings: tuple[tuple[str, bool | tuple[float, ...]], ...] = ()
    gpu_metrics: bool = True
    cpu_metrics: bool = True
    load_models: tuple[str, ...] = ()
    link_targets: tuple[str, ...] = ()
    model_control_mode: Literal["none", "poll", "explicit"] = "none"
    repository_poll_s: float = 15.0
    rate_limit: Literal["off", "execution_count"] = "off"
    rate_limit_resources: tuple[tuple[str, int, int | None], ...] = ()
    """Name, how much there is, and on which device; None: on each."""
    exit_on_error: bool = True
    exit_timeout_s: float = 30.0
    unload_timeout_s: float = 300.0
    request_limit_bytes: int = 2**30
    body_memory_bytes: int | None = None
    """Of all request bodies together; 0: no limit, None: half of the memory that there is."""
    max_requests_in_flight: int = 0
    max_connections: int = 0
    idle_timeout_s: float = 0.0
    stall_timeout_s: float = 60.0
    cache_bytes: int = 0
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    span_rows: int = 0
    capture_dir: str = ""
    trace_settings: tuple[tuple[str, str, str], ...] = ()
    """Mode ("" for any), name and value, in the order given."""
    exit_with_parent: bool = False
    log_file: str = ""
    log_info: bool = True
    log_warning: bool = True
    log_error: bool = True
    log_verbose: int = 0
    log_format: Literal["default", "ISO8601"] = "default"

    @property
    def log_settings(self) -> dict[str, bool | int | str]:
        """By the names of the protocol."""
        return {
            "log_file": self.log_file,
            "log_info": self.log_info,
            "log_warning": self.log_warning,
            "log_error": self.log_error,
            "log_verbose_level": self.log_verbose,
            "log_format": self.log_format,
        }

    @property
    def metrics_config(self) -> MetricsConfig:
        return metrics_config(self.metrics_settings)

    @property
    def resource_limits(self) -> dict[tuple[str, int | None], int]:
        return {(name, device): amount for name, amount, device in self.rate_limit_resources}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The flags of ``ServerOptions``; their names are Triton's where it has the same thing."""
    add_models(parser.add_argument_group("models").add_argument)
    add_addresses(parser.add_argument_group("addresses").add_argument)
    add_limits(parser.add_argument_group("limits").add_argument)
    add_figures(parser.add_argument_group("figures and logs").add_argument)
    parser.set_defaults(**_defaults())


def _defaults() -> dict[str, Any]:
    """The record's; as lists where a flag may be repeated, since argparse appends to a copy of the default."""
    told = {each.name: each.default for each in fields(ServerOptions) if not each.required}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}


def parse_options(arguments: list[str] | None = None, program: str = "python -m analyzer.runtime") -> ServerOptions:
    parser = FlagParser(
        prog=program,
        usage="%(prog)s --model-repository DIR [option ...]",
        description="Serves a model repository over KServe v2 (HTTP and gRPC) until SIGTERM or SIGINT.",
        epilog="Exit codes: 0 done, 1 requests under way were given up at the end, 2 a wrong flag or address, "
        "3 a model repository that can't be used.",
        allow_abbrev=False,
    )
    add_options(parser)
    return options_from(parser.parse_args(arguments))


def options_from(values: argparse.Namespace) -> ServerOptions:
    """For any parser that ``add_options`` was called on."""
    named = {name: getattr(values, name) for name in ServerOptions.__struct_fields__}
    listed = {name: tuple(value) for name, value in named.items() if isinstance(value, list)}
    return ServerOptions(**{**named, **listed})
