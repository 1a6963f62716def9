"""Requests and responses of ``triton_python_backend_utils``, those that a model gets and those that it sends."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from analyzer.runtime.answered import parameter_fault
from analyzer.runtime.backends.pb_server import Arriving, Reply, server
from analyzer.runtime.backends.pb_tensor import Tensor, TritonModelException

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_REQUEST_RELEASE_ALL = 1
TRITONSERVER_REQUEST_RELEASE_RESCHEDULE = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
TRITONSERVER_MEMORY_CPU, TRITONSERVER_MEMORY_CPU_PINNED, TRITONSERVER_MEMORY_GPU = range(3)

_TELL_EVERY = 4
"""So many responses of a called model are taken before the server hears of it."""


class TritonError:
    """An error to put into a response."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = message
        self._code = code

    def message(self) -> str:
        return self._message

    def code(self) -> int:
        return self._code


class PreferredMemory:
    """Where the outputs of a called model should be. All are on the CPU here."""

    def __init__(self, preferred_memory_type: int = TRITONSERVER_MEMORY_CPU, preferred_device_id: int = 0) -> None:
        if preferred_memory_type not in (TRITONSERVER_MEMORY_CPU, TRITONSERVER_MEMORY_CPU_PINNED):
            raise TritonModelException("outputs of a called model can't stay on a GPU; prefer TRITONSERVER_MEMORY_CPU")


class InferenceTrace:
    """The trace of a request; nothing is traced here, so it only travels along."""

    def get_context(self) -> None:
        """Never a context of OpenTelemetry."""


class InferenceResponse:
    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        fault = parameter_fault(parameters) if parameters else ""
        if fault:
            raise TritonModelException(fault)
        self._tensors = list(output_tensors)
        self._error = error
        self._parameters = parameters

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def parameters(self) -> str:
        return json.dumps(dict(self._parameters or {}))


class InferenceRequest:
    """A request as the model sees it, and one that it sends to another model with ``exec``."""

    def __init__(  # noqa: PLR0917 - models may give these by position, as Triton's own takes them
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: PreferredMemory | None = None,
        trace: InferenceTrace | None = None,
        parameters: Mapping[str, Any] | None = None,
        *,
        sender: "Callable[[], InferenceResponseSender] | None" = None,
    ) -> None:
        self._sender = sender
        self._id = request_id
        self._correlation_id = correlation_id
        self._inputs = inputs
        self._requested = requested_output_names
        self._model_name = model_name
        self._model_version = model_version
        self._flags = flags
        self._timeout = timeout
        self._preferred_memory = preferred_memory
        self._trace = trace
        self._parameters = parameters

    def inputs(self) -> list[Tensor]:
        return list(self._inputs)

    def request_id(self) -> str:
        return self._id

    def correlation_id(self) -> int | str:
        return self._correlation_id

    def requested_output_names(self) -> list[str]:
        return list(self._requested)

    def model_name(self) -> str:
        return self._model_name

    def model_version(self) -> int:
        return self._model_version

    def flags(self) -> int:
        return self._flags

    def set_flags(self, flags: int) -> None:
        self._flags = flags

    def timeout(self) -> int:
        """In microseconds, 0 where there is none."""
        return self._timeout

    def preferred_memory(self) -> PreferredMemory:
        return self._preferred_memory or PreferredMemory()

    def trace(self) -> InferenceTrace:
        return self._trace or InferenceTrace()

    def parameters(self) -> str:
        return json.dumps(dict(self._parameters or {}))

    def set_release_flags(self, flags: int) -> None:
        if flags == TRITONSERVER_REQUEST_RELEASE_RESCHEDULE:
            raise TritonModelException("a request can't be rescheduled: this runtime has no iterative sequences")
        if flags != TRITONSERVER_REQUEST_RELEASE_ALL:
            raise TritonModelException(f"{flags} is no release flag; give TRITONSERVER_REQUEST_RELEASE_ALL")

    def is_cancelled(self) -> bool:
        return self._sender is not None and self._sender().is_cancelled()

    def get_response_sender(self) -> "InferenceResponseSender":
        if self._sender is None:
            raise TritonModelException("a response sender is only to be had for a request that is being executed")
        return self._sender()

    def exec(self, decoupled: bool = False) -> "InferenceResponse | ResponseIterator":
        """Has another model answer this request. A failure is the response's ``error``."""
        arriving = self._call(decoupled)
        if decoupled:
            return ResponseIterator(arriving)
        return _response(arriving.next().result()[0])

    async def async_exec(self, decoupled: bool = False) -> "InferenceResponse | ResponseIterator":
        """``exec`` for code on an event loop."""
        arriving = self._call(decoupled)
        if decoupled:
            return ResponseIterator(arriving)
        given, _ = await _soon(arriving.next())
        return _response(given)

    def _call(self, decoupled: bool) -> Arriving:
        if not self._model_name:
            raise TritonModelException("exec needs the model_name of the model to call")
        return server("exec").call("infer", self, decoupled)


class ResponseIterator:
    """The responses of a decoupled model that was called, as they come; the empty last one is left out."""

    def __init__(self, arriving: Arriving) -> None:
        self._arriving = arriving
        self._server = server("exec")
        self._is_over = False
        self._untold = 0  # responses taken that the server does not know of

    def __del__(self) -> None:
        if not self._is_over:
            self._server.abandon(self._arriving.number)

    def __iter__(self) -> Iterator[InferenceResponse]:
        return self

    def __next__(self) -> InferenceResponse:
        while not self._is_over:
            response = self._taken(*self._next().result())
            if response is not None:
                return response
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[InferenceResponse]:
        return self

    async def __anext__(self) -> InferenceResponse:
        while not self._is_over:
            response = self._taken(*await _soon(self._next()))
            if response is not None:
                return response
        raise StopAsyncIteration

    def cancel(self) -> None:
        """Takes no more responses; the called model is told."""
        if not self._is_over:
            self._is_over = True
            self._server.tell("cancel", self._arriving.number)

    def _next(self) -> "Future[Reply]":
        """The server is told of waits, as it holds the models whose answers lie untaken: this one may need them."""
        arriving = self._arriving
        if arriving.is_empty:
            self._server.tell("waits", arriving.number, arriving.total)
        return arriving.next()

    def _taken(self, given: Any, final: bool) -> InferenceResponse | None:
        self._is_over = final
        self._untold += 1
        if self._untold == _TELL_EVERY and not final:
            self._server.tell("taken", self._arriving.number, self._untold)
            self._untold = 0
        response = _response(given)
        return None if final and not response.has_error() and not response.output_tensors() else response


class InferenceResponseSender:
    """Sends the answers of one request, from any thread."""

    def __init__(
        self, send: Callable[[InferenceResponse | None, bool], bool], asks: Callable[[], bool] | None = None
    ) -> None:
        """``asks`` says whether the client has gone."""
        self._send = send
        self._asks = asks

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        final = flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if flags not in (0, TRITONSERVER_RESPONSE_COMPLETE_FINAL):
            raise TritonModelException(
                f"the flags of a response must be 0 or TRITONSERVER_RESPONSE_COMPLETE_FINAL, not {flags}"
            )
        if response is None and not final:
            raise TritonModelException("a response may be left out only with TRITONSERVER_RESPONSE_COMPLETE_FINAL")
        if response is not None and not isinstance(response, InferenceResponse):
            raise TritonModelException(f"a response must be an InferenceResponse, not {type(response).__name__}")
        if not self._send(response, final):
            raise TritonModelException("the final response of this request has been sent already")

    def is_cancelled(self) -> bool:
        return self._asks is not None and self._asks()


def _soon(answer: "Future[Reply]") -> Awaitable[tuple[Any, bool]]:
    """The next answer, for code on an event loop. Imported here: most models have none, and it is slow to import."""
    import asyncio

    return asyncio.wrap_future(answer)


def _response(given: Any) -> InferenceResponse:
    """What the server answered: (True, (tensors, parameters)) or (False, (code, message))."""
    succeeded, value = given
    if not succeeded:
        return InferenceResponse(error=TritonError(value[1], value[0]))
    tensors, parameters = value
    return InferenceResponse([Tensor(name, array) for name, array in tensors], parameters=parameters)
