"""Requests of the runtime to what the process of a model is sent, and what a model asks of others to requests."""

from time import monotonic_ns
from typing import Any

from analyzer.runtime.answered import Answered, parameter_fault
from analyzer.runtime.backends.base import Answer
from analyzer.runtime.backends.pb_request import (
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_END,
    TRITONSERVER_REQUEST_FLAG_SEQUENCE_START,
    TritonError,
)
from analyzer.runtime.backends.python_arena import Arena, Window
from analyzer.runtime.backends.python_frames import Frame, pack, unpack
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Parameters

_RESERVED = (
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "triton_enable_empty_final_response",
)
"""Parameters that mean something to the server, so a model doesn't find them among its own, as in Triton."""

_KINDS = {
    TritonError.NOT_FOUND: ErrorKind.NOT_FOUND,
    TritonError.INVALID_ARG: ErrorKind.INVALID_ARGUMENT,
    TritonError.UNAVAILABLE: ErrorKind.UNAVAILABLE,
    TritonError.UNSUPPORTED: ErrorKind.UNIMPLEMENTED,
    TritonError.ALREADY_EXISTS: ErrorKind.ALREADY_EXISTS,
    TritonError.CANCELLED: ErrorKind.CANCELLED,
}
_CODES = {kind: code for code, kind in _KINDS.items()}


def error_of(code: int, message: str) -> InferError:
    return InferError(_KINDS.get(code, ErrorKind.INTERNAL), message)


def code_of(error: InferError) -> tuple[int, str]:
    return _CODES.get(error.kind, TritonError.INTERNAL), error.message


def own_parameters(parameters: Parameters) -> tuple[Any, int, int, Parameters]:
    """Correlation id, flags and time-out, which a model asks for by name, and the parameters that are its own."""
    flags = TRITONSERVER_REQUEST_FLAG_SEQUENCE_START if parameters.get("sequence_start") else 0
    flags |= TRITONSERVER_REQUEST_FLAG_SEQUENCE_END if parameters.get("sequence_end") else 0
    own = {name: value for name, value in parameters.items() if name not in _RESERVED}
    timeout = parameters.get("timeout", 0)
    return parameters.get("sequence_id", 0), flags, timeout if isinstance(timeout, int) else 0, own


def packed_request(request: InferRequest, arena: Arena) -> Frame:
    """Raises OSError where there is no memory, ValueError for what can't be sent."""
    correlation, flags, timeout, own = own_parameters(request.parameters) if request.parameters else (0, 0, 0, None)
    tensors = [pack(name, array, arena) for name, array in request.inputs.items()]
    return request.id, correlation, flags, timeout, own, request.requested, tensors


def unpacked_answer(packed: Any, window: Window) -> Answer:
    """What a model gave for one request: tensors, maybe with parameters, (code, message) of an error, or nothing."""
    if packed is None:
        return None
    if type(packed) is tuple:
        return error_of(*packed)
    if type(packed) is dict:
        outputs, parameters = packed["outputs"], packed["parameters"]
        if parameter_fault(parameters):
            raise ValueError(parameter_fault(parameters))
        return Answered({tensor[0]: unpack(tensor, window) for tensor in outputs}, parameters)
    return {tensor[0]: unpack(tensor, window) for tensor in packed}


def asked_request(packed: Frame, window: Window, callers: tuple[str, ...], *, accepts_stream: bool) -> InferRequest:
    """The request that a model sends to another one. ``callers`` are those that wait for its answer."""
    identity, correlation, flags, timeout, own, requested, tensors, model, version = packed
    parameters: Parameters = dict(own)
    if correlation:
        parameters["sequence_id"] = correlation
        parameters["sequence_start"] = bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)
        parameters["sequence_end"] = bool(flags & TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
    if timeout:
        parameters["timeout"] = timeout
    return InferRequest(
        model=model,
        version=str(version) if version > 0 else "",
        inputs={tensor[0]: unpack(tensor, window) for tensor in tensors},
        arrival_ns=monotonic_ns(),
        id=identity,
        requested=requested,
        parameters=parameters,
        accepts_stream=accepts_stream,
        callers=callers,
    )
