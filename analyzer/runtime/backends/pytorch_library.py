"""PyTorch itself: imported by the modules of its backend, which are imported when a model asks for it."""

import warnings

from analyzer.runtime.backends.base import ModelError

try:
    import torch
except ImportError:
    raise ModelError("the pytorch backend is not installed; pip install 'serving-analyzer[torch]'") from None

from analyzer.runtime.dtypes import NUMPY_DTYPES

__all__ = ["DTYPES", "allow_torchscript", "datatype_of_torch", "first_sentence", "torch"]

DTYPES = {
    "BOOL": torch.bool,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
    "FP64": torch.float64,
}
"""All but BYTES, for which PyTorch has no tensors."""

assert DTYPES.keys() == NUMPY_DTYPES.keys() - {"BYTES"}


def datatype_of_torch(dtype: object) -> str:
    """The KServe name; of a type that has none, its own."""
    return next((name for name, known in DTYPES.items() if known is dtype), str(dtype))


def allow_torchscript() -> None:
    """TorchScript is deprecated, which who serves such a file cannot mend: no warning at every load."""
    warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)


def first_sentence(error: BaseException) -> str:
    """What an error of PyTorch says, without the stack and the advice that follow."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ", 1)[0].rstrip(".:")
