"""A configuration against what a PyTorch file says of itself: completed where it is silent, checked where it speaks."""

from collections.abc import Iterable
from typing import Any

from analyzer.runtime.backends.base import ModelError, ModelFiles
from analyzer.runtime.backends.pytorch_library import DTYPES
from analyzer.runtime.backends.pytorch_program import ExportedTensor, Program
from analyzer.runtime.dtypes import config_type_of, datatype_of
from analyzer.runtime.sequence_tensors import added_inputs, added_outputs

DEFAULT_MAX_BATCH_SIZE = 4
"""What a model gets that can batch and whose configuration doesn't say how much, as with ONNX files."""

_FLOATS = ("FP16", "BF16", "FP32", "FP64")


def complete_config(files: ModelFiles, program: Program) -> None:
    """Inputs, outputs and batching as an exported program says them. Raises ModelError."""
    config = files.config
    if not program.outputs:
        takes = ", ".join(argument.name for argument in program.arguments)
        raise ModelError(
            f"model '{files.name}' needs its input and output in a config.pbtxt: its file says that forward takes "
            f"{takes}, but neither types nor shapes"
        )
    tensors = (*program.inputs, *program.outputs)
    batches = all(tensor.shape and tensor.shape[0] < 0 for tensor in tensors)
    if batches and not config.max_batch_size:
        config.max_batch_size = min(DEFAULT_MAX_BATCH_SIZE, *(_most_rows(tensors) or [DEFAULT_MAX_BATCH_SIZE]))
        config.dynamic_batching.SetInParent()
    check_exported(files, program)
    added = added_inputs(config).keys() | added_outputs(config).keys()
    for listed, found in ((config.input, program.inputs), (config.output, program.outputs)):
        if not listed:
            for tensor in found:
                if tensor.name not in added:
                    _describe(files, tensor, listed.add(), skip=int(config.max_batch_size > 0))


def check_exported(files: ModelFiles, program: Program) -> None:
    """Types, dims and batch sizes of the configuration against those of an exported program. Raises ModelError."""
    tensors = (*program.inputs, *program.outputs)
    rows = files.config.max_batch_size
    if rows and not all(tensor.shape and tensor.shape[0] < 0 for tensor in tensors):
        raise ModelError(
            f"model '{files.name}' has max_batch_size {rows}, but not all of its inputs and outputs were exported with "
            "a variable first dimension; set it to 0"
        )
    most = min(_most_rows(tensors), default=rows)
    if rows > most:
        raise ModelError(f"model '{files.name}' has max_batch_size {rows}, but was exported for at most {most} rows")
    for field, listed, found in (
        ("input", files.config.input, program.inputs),
        ("output", files.config.output, program.outputs),
    ):
        by_name = {tensor.name: tensor for tensor in found}
        for item in listed:
            if item.name in by_name:
                _check_tensor(files, field, item, by_name[item.name])


def check_types(files: ModelFiles) -> None:
    """PyTorch has no tensors of text. Raises ModelError."""
    for field, listed in (("input", files.config.input), ("output", files.config.output)):
        for item in listed:
            if datatype_of(item.data_type) not in DTYPES:
                raise ModelError(
                    f"{field} '{item.name}' of model '{files.name}' is TYPE_STRING, for which PyTorch has no tensor; "
                    "turn text into numbers in a step before it"
                )


def _most_rows(tensors: Iterable[ExportedTensor]) -> list[int]:
    return [tensor.most_rows for tensor in tensors if tensor.most_rows is not None]


def _check_tensor(files: ModelFiles, field: str, item: Any, tensor: ExportedTensor) -> None:
    datatype = datatype_of(item.data_type)
    are_floats = datatype in _FLOATS and tensor.datatype in _FLOATS
    may_differ = are_floats and (files.parameter("precision") or files.parameter("autocast"))
    if datatype != tensor.datatype and not may_differ:
        raise ModelError(
            f"{field} '{item.name}' of model '{files.name}' is {tensor.datatype} in its exported program, its "
            f"config.pbtxt says {datatype}"
        )
    dims = list(item.reshape.shape) if item.HasField("reshape") else list(item.dims)
    shape = tensor.shape[int(files.config.max_batch_size > 0) :]
    if len(dims) != len(shape) or any(dim >= 0 and size >= 0 and dim != size for dim, size in zip(dims, shape)):
        raise ModelError(
            f"{field} '{item.name}' of model '{files.name}' has the dims {list(shape)} in its exported program, its "
            f"config.pbtxt says {dims}"
        )


def _describe(files: ModelFiles, tensor: ExportedTensor, item: Any, skip: int) -> None:
    if tensor.datatype not in DTYPES:
        raise ModelError(f"'{tensor.name}' of model '{files.name}' is of the unsupported type {tensor.datatype}")
    item.name = tensor.name
    item.data_type = config_type_of(tensor.datatype)
    item.dims.extend(tensor.shape[skip:])
