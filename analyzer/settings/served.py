"""Where the models are served while they are measured, as options."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from msgspec import field

from analyzer.settings.options import option
from analyzer.settings.tried import TriedSettings
from analyzer.settings.values import at_least, items, seconds, switch, text


def mode_of_launch(raw: object) -> str:
    """Model Analyzer's other two are named with what to use instead."""
    if raw in ("docker", "c_api"):
        raise ValueError("takes local (this machine) or remote (a server that runs already, in a container too)")
    if raw not in ("local", "remote"):
        raise ValueError("takes local or remote")
    return str(raw)


def pairs(raw: object) -> dict[str, str]:
    """``NAME=VALUE``, a list of such, or a YAML mapping."""
    if isinstance(raw, Mapping):
        return {text(name): text(value) for name, value in raw.items()}
    parts = [text(item).partition("=") for item in (raw if isinstance(raw, (list, tuple)) else items(raw))]
    if not all(name and equals for name, equals, _ in parts):
        raise ValueError("takes NAME=VALUE")
    return {name: value for name, _, value in parts}


class ServedSettings(TriedSettings, frozen=True, kw_only=True):
    """The server: our runtime, a tritonserver that is started here, or one that runs already."""

    launch_mode: Annotated[
        str,
        option(
            mode_of_launch,
            "local starts a server for each configuration; remote drives one that runs.",
            "NAME",
            key="triton_launch_mode",
            section="Where it is served",
        ),
    ] = "local"
    server_path: Annotated[
        str | None,
        option(text, "A tritonserver to start.  [our own runtime]", "PATH", key="triton_server_path"),
    ] = None
    server_flags: Annotated[
        dict[str, str],
        option(
            pairs,
            "Flags of that tritonserver. May be repeated.",
            "NAME=VALUE",
            key="triton_server_flags",
            repeated=True,
        ),
    ] = field(default_factory=dict)
    server_environment: Annotated[
        dict[str, str],
        option(
            pairs,
            "Environment variables of the server. May be repeated.",
            "NAME=VALUE",
            key="triton_server_environment",
            repeated=True,
        ),
    ] = field(default_factory=dict)
    http_endpoint: Annotated[
        str, option(text, "HTTP of the running server.", "HOST:PORT", key="triton_http_endpoint")
    ] = "localhost:8000"
    grpc_endpoint: Annotated[
        str, option(text, "gRPC of the running server.", "HOST:PORT", key="triton_grpc_endpoint")
    ] = "localhost:8001"
    metrics_url: Annotated[
        str | None,
        option(
            text,
            "Where the running server tells its GPUs' figures.",
            "URL",
            key="triton_metrics_url",
        ),
    ] = None
    idle_duration_s: Annotated[
        float,
        option(
            at_least(0, seconds),
            "How long the GPUs are watched while the server has no model loaded, for the server's own share.",
            "3s",
            key="idle_duration",
        ),
    ] = 0.0
    reload_model_disable: Annotated[
        bool, option(switch, "Measure the running server's models as they are; load nothing.", "")
    ] = False

    def complaints(self) -> Iterator[str]:
        yield from super().complaints()
        if self.launch_mode == "remote" and self.server_path is not None:
            yield "--triton-server-path starts a server: leave it out, or give --triton-launch-mode local"
        if self.server_flags and self.server_path is None:
            yield "--triton-server-flags are of a tritonserver: name it with --triton-server-path"
        if self.launch_mode == "remote" and self.server_environment:
            yield "--triton-server-environment can't reach a server that is running: set it where that is started"
        if self.reload_model_disable and self.launch_mode != "remote":
            yield "--reload-model-disable is for --triton-launch-mode remote"
