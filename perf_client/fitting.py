"""Raw bytes and shapes against what the model wants: what fits becomes a tensor, what doesn't a sentence."""

from math import prod

from perf_client.errors import data_error
from perf_client.target import VARIABLE, TensorSpec
from perf_client.tensors import SIZES, Shape, Tensor, bytes_elements


def fit(data: bytes, spec: TensorSpec, shape: Shape | None) -> Tensor:
    """Check the bytes against the shape; a single variable dimension is found from their number."""
    count = _element_count(data, spec.datatype)
    if shape is None:
        shape = _infer(spec.shape, count)
    check_shape(spec, shape)
    if prod(shape) != count:
        raise data_error(f"it has {count} values, but shape {list(shape)} needs {prod(shape)}")
    return Tensor(datatype=spec.datatype, shape=shape, data=data)


def check_shape(spec: TensorSpec, shape: Shape) -> None:
    """Raise LoadError where a shape is not one that the model has."""
    if VARIABLE in shape:
        raise data_error(
            f"{spec.name} has the variable shape {list(shape)}; give its sizes with --shape {spec.name}:D1,D2,... or, "
            'in a JSON file, with {"content": [...], "shape": [...]}'
        )
    same_rank = len(shape) == len(spec.shape)
    if not same_rank or any(wanted not in (VARIABLE, size) for size, wanted in zip(shape, spec.shape)):
        raise data_error(f"shape {list(shape)} of {spec.name} doesn't fit the model's {list(spec.shape)}")


def _infer(shape: Shape, count: int) -> Shape:
    if shape.count(VARIABLE) != 1:
        return shape
    known = prod(size for size in shape if size != VARIABLE)
    if known == 0 or count % known:
        return shape
    return tuple(count // known if size == VARIABLE else size for size in shape)


def _element_count(data: bytes, datatype: str) -> int:
    if datatype == "BYTES":
        return len(bytes_elements(data))
    if datatype not in SIZES:
        raise data_error(f"the model has it in the unknown type {datatype!r}")
    if len(data) % SIZES[datatype]:
        raise data_error(f"{len(data)} bytes are not a whole number of {datatype} values")
    return len(data) // SIZES[datatype]
