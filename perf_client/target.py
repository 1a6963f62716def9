"""Where the load goes and what is there: an address, and the model as its server describes it."""

from dataclasses import dataclass

import msgspec

from perf_client.errors import usage_error
from perf_client.profile import Protocol
from perf_client.tls import Tls

DEFAULT_PORTS: dict[Protocol, int] = {"http": 8000, "grpc": 8001}

VARIABLE = -1
"""A dimension that the request decides."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server. ``tls`` None: in the clear."""

    host: str
    port: int
    protocol: Protocol
    tls: Tls | None = None

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def scheme(self) -> str:
        """As HTTP/1.1 and HTTP/2 name it; gRPC is no scheme there."""
        return "http" if self.tls is None else "https"

    @staticmethod
    def parse(url: str, protocol: Protocol, tls: Tls | None = None) -> "Target":
        """``host``, ``host:port``, ``[v6]:port``, with or without a scheme; ``https`` and ``grpcs`` ask for TLS."""
        scheme, separator, rest = url.strip().rpartition("://")
        match scheme:
            case "" if not separator:
                pass
            case "https" | "grpcs":
                tls = tls or Tls()
            case "http" | "grpc" if tls is None:
                pass
            case "http" | "grpc":
                raise usage_error(
                    f"url {url!r} is in the clear, but TLS was asked for; write {scheme}s:// or no scheme"
                )
            case _:
                raise usage_error(f"url {url!r}: only http, https, grpc and grpcs are spoken; leave the scheme out")
        host, port = _split_port(rest.rstrip("/"), DEFAULT_PORTS[protocol])
        if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise usage_error(f"url {url!r} is not of the form HOST:PORT")
        return Target(host=host, port=int(port), protocol=protocol, tls=tls)


def _split_port(rest: str, default: int) -> tuple[str, str]:
    if rest.startswith("["):
        host, _, after = rest[1:].partition("]")
        return host, after.removeprefix(":") or str(default)
    if rest.count(":") > 1:
        return rest, str(default)
    host, _, port = rest.partition(":")
    return host, port or str(default)


class TensorSpec(msgspec.Struct, frozen=True):
    """One input as the model wants it, or one output as it gives it. ``shape`` leaves the batch dimension out."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


class Step(msgspec.Struct, frozen=True):
    """One model that an ensemble is composed of."""

    model: str
    version: str = ""


class ModelDescription(msgspec.Struct, frozen=True):
    """What has to be known of a model to ask it. ``max_batch_size`` 0 means that it has no batch dimension."""

    name: str
    inputs: tuple[TensorSpec, ...]
    max_batch_size: int
    steps: tuple[Step, ...] = ()
    decoupled: bool = False
    sequential: bool = False
    outputs: tuple[TensorSpec, ...] = ()


class TensorMetadata(msgspec.Struct, frozen=True):
    """An input or output in the answer to a KServe v2 model metadata request, batch dimension included."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    name: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...] = ()


class ModelConfig(msgspec.Struct, frozen=True):
    """The parts of Triton's model configuration that decide how to ask."""

    max_batch_size: int
    optional_inputs: frozenset[str] = frozenset()
    steps: tuple[Step, ...] = ()
    decoupled: bool = False
    sequential: bool = False


def describe(metadata: ModelMetadata, config: ModelConfig | None) -> ModelDescription:
    """Join both answers. Without a configuration a leading variable dimension on all inputs is taken as the batch."""
    if config is None:
        batched = bool(metadata.inputs) and all(spec.shape[:1] == (VARIABLE,) for spec in metadata.inputs)
        config = ModelConfig(max_batch_size=2**31 - 1 if batched else 0)
    skip = 1 if config.max_batch_size > 0 else 0
    return ModelDescription(
        name=metadata.name,
        inputs=tuple(
            TensorSpec(
                name=spec.name,
                datatype=spec.datatype,
                shape=spec.shape[skip:],
                optional=spec.name in config.optional_inputs,
            )
            for spec in metadata.inputs
        ),
        max_batch_size=config.max_batch_size,
        steps=config.steps,
        decoupled=config.decoupled,
        sequential=config.sequential,
        outputs=tuple(TensorSpec(spec.name, spec.datatype, spec.shape[skip:]) for spec in metadata.outputs),
    )
