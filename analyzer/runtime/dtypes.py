"""Names of data types: KServe v2 (``FP32``), ``config.pbtxt`` (``TYPE_FP32``) and numpy, one table for all three."""

import numpy as np

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

_CONFIG_TYPES = (
    *("INVALID", "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64"),
    *("FP16", "FP32", "FP64", "BYTES", "BF16"),
)
"""By their numbers in the model configuration. A list of our own: processes of models do without protobuf."""


def datatype_of(config_type: int) -> str:
    """``TYPE_FP32`` (its number) to ``FP32``; ``TYPE_STRING`` is BYTES. Raises ValueError for TYPE_INVALID."""
    if not 0 <= config_type < len(_CONFIG_TYPES):
        raise ValueError(f"data_type {config_type} is not known")
    if config_type == 0:
        raise ValueError("data_type is missing")
    return _CONFIG_TYPES[config_type]


def config_type_of(datatype: str) -> int:
    """``FP32`` to the number of ``TYPE_FP32``. Raises ValueError for an unknown name."""
    if datatype not in NUMPY_DTYPES:
        raise ValueError(f"data type '{datatype}' is not known")
    return _CONFIG_TYPES.index(datatype)


def datatype_of_numpy(dtype: np.dtype[np.generic]) -> str | None:
    """The KServe name of a numpy type, None where there is none. Text and bytes of any width are BYTES."""
    if dtype.kind in "OSU":
        return "BYTES"
    return _BY_NUMPY.get(dtype) or _BY_NUMPY.get(dtype.newbyteorder("="))


_BY_NUMPY = {dtype: name for name, dtype in NUMPY_DTYPES.items() if name not in ("BF16", "BYTES")}
