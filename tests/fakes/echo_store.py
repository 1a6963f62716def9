"""A model store with one model, ``echo``, that answers INPUTx with OUTPUTx; for tests of the front ends alone."""

import asyncio
from collections.abc import Sequence

from tritonclient.grpc import model_config_pb2, service_pb2

from analyzer.runtime.dtypes import NUMPY_DTYPES
from analyzer.runtime.model_store import REFUSALS, ModelStore
from analyzer.runtime.overlay import Override
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse, Reply
from analyzer.runtime.signature import OutputSpec, Signature, make_signature


class EchoStore(ModelStore):
    """Answers in the next turn of the loop, or when ``release`` is called where ``held``. Keeps every request.

    ``datatypes`` are what the model declares for outputs by name; the rest is what the array is.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, held: bool = False, datatypes: dict[str, str] | None = None
    ) -> None:
        self.loop = loop
        self.refused = dict.fromkeys(REFUSALS, 0)
        self.requests: list[InferRequest] = []
        self.loaded: list[tuple[str, str | None]] = []
        self._held = held
        self._datatypes = datatypes or {}
        self._waiting: list[tuple[InferRequest, Reply]] = []

    def submit(self, request: InferRequest, reply: Reply) -> None:
        self._check(request.model)
        self.requests.append(request)
        if self._held:
            self._waiting.append((request, reply))
        else:
            self.loop.call_soon(_answer, request, reply)

    def release(self, position: int = 0) -> None:
        _answer(*self._waiting.pop(position))

    def refuse(self, error: InferError) -> None:
        """Answers what waits longest with an error, which may be one that many requests share."""
        _, reply = self._waiting.pop(0)
        reply(error)

    def _check(self, model: str) -> None:
        if model != "echo":
            raise InferError(ErrorKind.NOT_FOUND, f"Request for unknown model: '{model}' is not found")

    async def open(self, models: Sequence[str] | None = None) -> None:
        return None

    def is_ready(self, model: str, version: str = "") -> bool:
        return model == "echo"

    def all_ready(self) -> bool:
        return True

    def metadata(self, model: str, version: str = "") -> service_pb2.ModelMetadataResponse:
        self._check(model)
        return service_pb2.ModelMetadataResponse(name=model, versions=["1"], platform="echo")

    def config(self, model: str, version: str = "") -> model_config_pb2.ModelConfig:
        self._check(model)
        return model_config_pb2.ModelConfig(name=model)

    def statistics(self, model: str = "", version: str = "") -> list[service_pb2.ModelStatistics]:
        return [service_pb2.ModelStatistics(name="echo", version="1", inference_count=len(self.requests))]

    def pending(self) -> dict[tuple[str, str], int]:
        return {("echo", "1"): len(self._waiting)}

    def index(self) -> list[service_pb2.RepositoryIndexResponse.ModelIndex]:
        return [service_pb2.RepositoryIndexResponse.ModelIndex(name="echo", version="1", state="READY")]

    async def load(self, model: str, override: Override | None = None) -> None:
        self._check(model)
        self.loaded.append((model, override.config_json if override else None))

    async def unload(self, model: str, *, with_called: bool = False) -> None:
        self._check(model)

    def outputs(self, model: str, version: str = "") -> dict[str, OutputSpec]:
        return {
            name: OutputSpec(name, datatype, (-1,), NUMPY_DTYPES[datatype])
            for name, datatype in ({"OUTPUT0": "UINT16"} | self._datatypes).items()
        }

    def signature(self, model: str, version: str = "") -> Signature:
        self._check(model)
        kind = {"data_type": model_config_pb2.TYPE_UINT16, "dims": [-1]}
        config = model_config_pb2.ModelConfig(
            name="echo", input=[{"name": "INPUT0", **kind}], output=[{"name": "OUTPUT0", **kind}]
        )
        return make_signature(config, {})

    async def close(self, drain_timeout_s: float) -> None:
        return None


def _answer(request: InferRequest, reply: Reply) -> None:
    if request.parameters.get("fail"):
        reply(InferError(ErrorKind.INTERNAL, "asked to fail"))
        return
    outputs = {name.replace("INPUT", "OUTPUT"): array for name, array in request.inputs.items()}
    wanted = request.requested or tuple(outputs)
    reply(InferResponse(request.model, request.version or "1", request.id, {name: outputs[name] for name in wanted}))
