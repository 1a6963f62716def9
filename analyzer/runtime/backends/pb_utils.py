"""What a Triton ``model.py`` imports as ``triton_python_backend_utils``: the same names, over numpy arrays."""

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.backends.pb_model import Logger, ModelConfig
from analyzer.runtime.dtypes import NUMPY_DTYPES, config_type_of, datatype_of_numpy

TRITONSERVER_REQUEST_FLAG_SEQUENCE_START = 1
TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 2
TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1

__all__ = ["Logger", "ModelConfig"]  # and all that is below: a model.py imports this module as a whole

Array = NDArray[Any]


class TritonModelException(Exception):
    """An error of the model's own; fails the requests it was raised for."""


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


class Tensor:
    """A named tensor on the CPU. ``array`` is ours: models read it through ``as_numpy``."""

    def __init__(self, name: str, array: Array) -> None:
        if not isinstance(array, np.ndarray):
            raise TritonModelException(f"tensor '{name}' must be a numpy array, not {type(array).__name__}")
        if datatype_of_numpy(array.dtype) is None:
            raise TritonModelException(f"tensor '{name}' is of type {array.dtype}, which has no Triton type")
        self._name = name
        self.array = array

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Array:
        """The values, writable: a request's own tensors lie in its body, and are copied the first time."""
        if not self.array.flags.writeable:
            self.array = self.array.copy()
        return self.array

    def shape(self) -> list[int]:
        return list(self.array.shape)

    def triton_dtype(self) -> int:
        """The number of TYPE_... in the model configuration."""
        return numpy_to_triton_type(self.array.dtype)

    def is_cpu(self) -> bool:
        return True

    def to_dlpack(self) -> Any:
        return self.as_numpy().__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        return self.as_numpy().__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()

    @staticmethod
    def from_dlpack(name: str, source: Any) -> "Tensor":
        return Tensor(name, np.from_dlpack(source))


class InferenceResponse:
    def __init__(
        self,
        output_tensors: Sequence[Tensor] = (),
        error: TritonError | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self._tensors = list(output_tensors)
        self._error = error
        self._parameters = dict(parameters or {})

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError | None:
        return self._error

    def parameters(self) -> str:
        return json.dumps(self._parameters)


class InferenceRequest:
    """A request as the model sees it; made by the server, one for each that was batched."""

    def __init__(
        self,
        *,
        request_id: str = "",
        correlation_id: int = 0,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        parameters: Mapping[str, Any] | None = None,
        sender: "InferenceResponseSender | None" = None,
    ) -> None:
        self._sender = sender
        self._id = request_id
        self._correlation_id = correlation_id
        self._inputs = list(inputs)
        self._requested = list(requested_output_names)
        self._model_name = model_name
        self._model_version = model_version
        self._flags = flags
        self._timeout = timeout
        self._parameters = dict(parameters or {})

    def inputs(self) -> list[Tensor]:
        return self._inputs

    def request_id(self) -> str:
        return self._id

    def correlation_id(self) -> int:
        return self._correlation_id

    def requested_output_names(self) -> list[str]:
        return self._requested

    def model_name(self) -> str:
        return self._model_name

    def model_version(self) -> int:
        return self._model_version

    def flags(self) -> int:
        return self._flags

    def timeout(self) -> int:
        return self._timeout

    def parameters(self) -> str:
        return json.dumps(self._parameters)

    def is_cancelled(self) -> bool:
        return False

    def exec(self, decoupled: bool = False) -> InferenceResponse:
        raise TritonModelException("calling another model from a model (exec) is not supported by this runtime")

    async_exec = exec

    def get_response_sender(self) -> "InferenceResponseSender":
        if self._sender is None:
            raise TritonModelException("a response sender needs model_transaction_policy { decoupled: true }")
        return self._sender


class InferenceResponseSender:
    """Sends the answers of one request to a decoupled model, from any thread."""

    def __init__(self, send: Callable[[InferenceResponse | None, bool], bool]) -> None:
        self._send = send

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
        return False


def get_input_tensor_by_name(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def get_output_tensor_by_name(response: InferenceResponse, name: str) -> Tensor | None:
    return next((tensor for tensor in response.output_tensors() if tensor.name() == name), None)


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    return _by_name(model_config.get("input", ()), name)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    return _by_name(model_config.get("output", ()), name)


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def triton_string_to_numpy(triton_type: str) -> Any:
    """``TYPE_FP32`` to ``numpy.float32``."""
    name = triton_type.removeprefix("TYPE_")
    return NUMPY_DTYPES["BYTES" if name == "STRING" else name].type


def triton_to_numpy_type(data_type: int) -> Any:
    """The number of TYPE_FP32 to ``numpy.float32``."""
    return next(
        dtype.type for name, dtype in NUMPY_DTYPES.items() if name != "BF16" and config_type_of(name) == data_type
    )


def numpy_to_triton_type(dtype: Any) -> int:
    """``numpy.float32`` to the number of TYPE_FP32."""
    name = datatype_of_numpy(np.dtype(dtype))
    if name is None:
        raise TritonModelException(f"numpy type {dtype} has no Triton type")
    return config_type_of(name)


def serialize_byte_tensor(array: Array) -> Array:
    """Length-prefixed elements, as BYTES travel on the wire, in an array of one item."""
    items = (item if isinstance(item, bytes) else str(item).encode() for item in array.ravel())
    return np.array([b"".join(struct.pack("<I", len(item)) + item for item in items)], dtype=np.object_)


def deserialize_bytes_tensor(data: bytes) -> Array:
    items, offset = [], 0
    while offset < len(data):
        (length,) = struct.unpack_from("<I", data, offset)
        items.append(bytes(data[offset + 4 : offset + 4 + length]))
        offset += 4 + length
    return np.array(items, dtype=np.object_)


def _by_name(items: Iterable[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((item for item in items if item["name"] == name), None)
