"""An instance of a ``model.py`` in a thread of the server."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from analyzer.runtime.backends.base import Answer, Answers, Execution, Stream
from analyzer.runtime.backends.pb_request import InferenceRequest, InferenceResponse, InferenceResponseSender
from analyzer.runtime.backends.pb_tensor import Tensor
from analyzer.runtime.backends.pb_utils import TritonError
from analyzer.runtime.backends.python_model import Gathering, Given, Script
from analyzer.runtime.backends.python_requests import error_of, own_parameters
from analyzer.runtime.request import InferRequest


class ThreadInstance:
    """An Instance."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def execute(self, execution: Execution) -> Answers:
        requests = [self._wrap(request) for request in execution.requests]
        gathering = Gathering(self._script, requests)
        for index, (request, made) in enumerate(zip(execution.requests, requests)):
            made._sender = (
                partial(self._sender, made, execution.streams[index])
                if self._script.is_decoupled
                else partial(gathering.sender, index, lambda request=request: request.is_cancelled)  # type: ignore[misc]  # mypy can't type a lambda's default
            )
        execution.input_ended()
        returned = self._script.execute(requests)
        execution.infer_ended()
        if hasattr(returned, "__await__"):
            raise TypeError("async def execute needs a process of the model's own; leave out 'execution: thread'")
        if self._script.is_decoupled:
            return _nothing(requests, returned)
        return [answer_of(given) for given in gathering.answers(returned)]

    def close(self) -> None:
        self._script.close()

    def _wrap(self, request: InferRequest) -> InferenceRequest:
        correlation, flags, timeout, own = own_parameters(request.parameters) if request.parameters else (0, 0, 0, None)
        return InferenceRequest(
            request.id,
            correlation,
            [Tensor(name, array) for name, array in request.inputs.items()],
            request.requested or self._script.output_names,
            self._script.model,
            self._script.version,
            flags,
            timeout,
            parameters=own,
        )

    def _sender(self, request: InferenceRequest, stream: Stream) -> InferenceResponseSender:
        return InferenceResponseSender(partial(self._send, request, stream), lambda: stream.is_cancelled)

    def _send(self, request: InferenceRequest, stream: Stream, response: InferenceResponse | None, final: bool) -> bool:
        stream.wait_writable()
        answer = None if response is None else answer_of(self._script.given(request, response))
        return stream.send(answer, final=final)


def answer_of(given: Given) -> Answer:
    if isinstance(given, TritonError):
        return error_of(given.code(), str(given.message()))
    return given


def _nothing(requests: Sequence[InferenceRequest], returned: Any) -> Answers:
    if returned is not None:
        raise TypeError("execute of a decoupled model must return None, its answers go through response senders")
    return [None for _ in requests]
