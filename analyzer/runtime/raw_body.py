"""The raw binary request: a body that is nothing but the one input of a model, its shape deduced from its size."""

from math import prod

import numpy as np

from analyzer.runtime.request import InferRequest
from analyzer.runtime.signature import InputSpec, Signature
from analyzer.runtime.wire import Buffer, bytes_array, from_raw, invalid
from analyzer.runtime.wire_json import AnswerForm


def read_raw(signature: Signature, version: str, body: Buffer, arrival_ns: int) -> tuple[InferRequest, AnswerForm]:
    """A batch of one where the model batches; outputs go out as binary. Raises InferError."""
    if len(signature.inputs) != 1:
        raise invalid(
            f"Raw request must only have 1 input (found 1) to be deduced but got {len(signature.inputs)} inputs in "
            f"'{signature.model}' model configuration"
        )
    (spec,) = signature.inputs.values()
    dims = spec.dims[1:] if signature.max_batch_size > 0 else spec.dims
    shape = ((1,) if signature.max_batch_size > 0 else ()) + _deduced(spec, dims, len(body))
    if spec.datatype == "BYTES":
        array = bytes_array(spec.name, shape, [bytes(body)])
    else:
        array = from_raw(spec.name, np.dtype(spec.dtype), shape, body)
    request = InferRequest(signature.model, {spec.name: array}, arrival_ns, version)
    return request, AnswerForm(binary=True, by_output={})


def _deduced(spec: InputSpec, dims: tuple[int, ...], byte_size: int) -> tuple[int, ...]:
    """The one dimension that varies is what the size leaves for it."""
    if spec.datatype == "BYTES":
        if dims != (1,):
            raise invalid(f"For BYTE datatype raw input '{spec.name}', the model must have input shape [1]")
        return dims
    if dims.count(-1) > 1:
        raise invalid(f"The shape of the raw input '{spec.name}' can not be deduced: more than one dimension varies")
    known = prod(dim for dim in dims if dim != -1) * spec.dtype.itemsize
    return tuple(byte_size // known if dim == -1 and known else dim for dim in dims)
