"""Names of data types: KServe v2 (``FP32``), ``config.pbtxt`` (``TYPE_FP32``) and numpy, one table for all three."""

import numpy as np
from tritonclient.grpc import model_config_pb2

NUMPY_DTYPES: dict[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    "BYTES": np.dtype(np.object_),
    "BF16": np.dtype(np.uint16),
}
"""BF16, which numpy lacks, is carried in words of 16 bits."""


def datatype_of(config_type: int) -> str:
    """``TYPE_FP32`` (its number) to ``FP32``; ``TYPE_STRING`` is BYTES. Raises ValueError for TYPE_INVALID."""
    name: str = model_config_pb2.DataType.Name(config_type).removeprefix("TYPE_")
    if name == "INVALID":
        raise ValueError("data_type is missing")
    return "BYTES" if name == "STRING" else name


def config_type_of(datatype: str) -> int:
    """``FP32`` to the number of ``TYPE_FP32``. Raises ValueError for an unknown name."""
    number: int = model_config_pb2.DataType.Value("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}")
    return number


def datatype_of_numpy(dtype: np.dtype[np.generic]) -> str | None:
    """The KServe name of a numpy type, None where there is none. Text and bytes of any width are BYTES."""
    if dtype.kind in "OSU":
        return "BYTES"
    return _BY_NUMPY.get(dtype) or _BY_NUMPY.get(dtype.newbyteorder("="))


_BY_NUMPY = {dtype: name for name, dtype in NUMPY_DTYPES.items() if name not in ("BF16", "BYTES")}
