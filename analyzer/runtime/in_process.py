"""The runtime without a socket: what the front ends do, for a caller in the same process and event loop."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from tritonclient.grpc import model_config_pb2, service_pb2

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Parameters, Tensors
from analyzer.runtime.wire import datatype_dtype, from_raw

Result = TypeVar("Result")

RawTensor = tuple[str, tuple[int, ...], bytes]
"""Data type, shape and bytes of an input, as they would be on the wire."""

Reply = Callable[[str, str, bool], None]
"""Failure class (empty: none), the error's words, and whether this is the last answer."""


class InProcessRuntime:
    """A model repository, served to its own process. What can't be done raises ValueError with a sentence."""

    def __init__(self, repository: str) -> None:
        self._store = ModelStore(
            Path(repository), loop=asyncio.get_running_loop(), link_targets=(Path("/"),)
        )  # who runs us reads what its links lead to anyway

    async def open(self, models: Sequence[str]) -> None:
        if not self._store.repository.is_dir():
            raise ValueError("there is no such folder")
        try:
            await self._store.open(models)
            failed = [entry for entry in self._store.index() if entry.name in models and entry.state == "UNAVAILABLE"]
        except OSError as error:
            raise ValueError(f"the model repository can't be read: {error.strerror}") from None
        for entry in failed:
            raise ValueError(f"model '{entry.name}' failed to load: {entry.reason}")

    def metadata(self, model: str, version: str) -> service_pb2.ModelMetadataResponse:
        return _told(lambda: self._store.metadata(model, version))

    def config(self, model: str, version: str) -> model_config_pb2.ModelConfig:
        return _told(lambda: self._store.config(model, version))

    def statistics(self, model: str, version: str) -> list[service_pb2.ModelStatistics]:
        return _told(lambda: self._store.statistics(model, version))

    def prepare(
        self,
        model: str,
        version: str,
        inputs: Mapping[str, RawTensor],
        outputs: Sequence[str],
        parameters: Mapping[str, bool | int | float | str],
    ) -> Callable[[], InferRequest]:
        """Everything that can be done before the clock starts. Each submission needs a request of its own."""

        def decode() -> Tensors:
            return {
                name: from_raw(name, datatype_dtype(datatype, name), shape, raw)
                for name, (datatype, shape, raw) in inputs.items()
            }

        arrays = _told(decode)
        wanted, settings = tuple(outputs), Parameters(parameters)

        def request() -> InferRequest:
            return InferRequest(
                model=model,
                version=version,
                inputs=dict(arrays),
                arrival_ns=time.monotonic_ns(),
                requested=wanted,
                parameters=settings,
            )

        return request

    def submit(self, request: Callable[[], InferRequest], reply: Reply) -> None:
        """``reply`` comes in a later turn of the loop, or within this call where the request itself is wrong."""

        def told(answer: InferResponse | InferError) -> None:
            if isinstance(answer, InferError):
                reply(f"runtime {answer.kind.name}", answer.message, True)
            else:
                reply("", "", answer.final)

        try:
            self._store.submit(request(), told)
        except InferError as error:
            told(error)

    async def close(self) -> None:
        await self._store.close(0.0)


def _told(ask: Callable[[], Result]) -> Result:
    try:
        return ask()
    except InferError as error:
        raise ValueError(error.message) from None
