"""ONNX models through ONNX Runtime, one session an instance, on the CPU or an NVIDIA GPU."""

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyzer.runtime.backends.base import Instance, ModelError, ModelFiles, OutputCheck, Placement, find_model_file
from analyzer.runtime.backends.onnxruntime_binding import BoundDevice, BoundInstance
from analyzer.runtime.backends.onnxruntime_options import (
    CPU,
    SessionPlan,
    check_available,
    check_in_use,
    make_plan,
    unknown_parameters,
)
from analyzer.runtime.backends.onnxruntime_session import (
    OpenSession,
    RunInstance,
    import_onnxruntime,
    load_cuda_libraries,
    open_session,
)
from analyzer.runtime.backends.tensor_batch import TensorBatch
from analyzer.runtime.cuda_memory import CudaError, LibCuda
from analyzer.runtime.devices import gpu_count
from analyzer.runtime.dtypes import NUMPY_DTYPES, config_type_of, datatype_of
from analyzer.runtime.sequence_tensors import added_inputs, added_outputs

log = logging.getLogger(__name__)

DEFAULT_MAX_BATCH_SIZE = 4
"""What Triton gives a model that can batch and whose configuration doesn't say how much."""

_DATATYPES = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}


class OnnxRuntimeBackend:
    file_names: Sequence[str] = ("model.onnx",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shared: dict[tuple[int, str], dict[int, OpenSession]] = {}

    def complete(self, files: ModelFiles) -> None:
        """Inputs, outputs and batching as the ONNX file says them, where the configuration has no inputs or outputs."""
        config = files.config
        path = find_model_file(files, self.file_names)
        unknown = unknown_parameters(files)
        if unknown:
            log.warning(
                "model '%s' sets the parameters %s, which the onnxruntime backend ignores",
                files.name,
                ", ".join(unknown),
            )
        if config.input and config.output:
            return
        session = open_session(files.name, path, SessionPlan((CPU,), intra_op_threads=1, graph_level="DISABLE"))
        tensors = [*session.get_inputs(), *session.get_outputs()]
        for tensor in tensors:
            _refuse_type(files, tensor)
        batches = all(tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors)
        if config.max_batch_size and not batches:
            raise ModelError(
                f"model '{files.name}' has max_batch_size {config.max_batch_size}, but not all of its inputs and "
                "outputs have a variable first dimension; set it to 0"
            )
        if batches and not config.max_batch_size:
            config.max_batch_size = DEFAULT_MAX_BATCH_SIZE
            if not config.HasField("sequence_batching"):
                config.dynamic_batching.SetInParent()
        added = added_inputs(config).keys() | added_outputs(config).keys()
        for listed, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            if not listed:
                for tensor in found:
                    if tensor.name in added:
                        continue
                    _describe(tensor, listed.add(), skip=int(batches))

    def default_kind(self) -> str:
        has_cuda = "CUDAExecutionProvider" in import_onnxruntime().get_available_providers()
        return "KIND_GPU" if has_cuda and gpu_count() else "KIND_CPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return False

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        path = find_model_file(files, self.file_names)
        plan = make_plan(files, placement, len(os.sched_getaffinity(0)))
        check_available(files, plan, import_onnxruntime().get_available_providers())
        if placement.kind == "KIND_GPU":
            load_cuda_libraries()
        sessions = self._sessions(files, placement, path, plan)
        opened = next(iter(sessions.values()))
        session = opened.current
        _check_names(files, session)
        outputs = {output.name: datatype_of(output.data_type) for output in files.config.output}
        outputs |= added_outputs(files.config)
        check = OutputCheck(files.name, {name: NUMPY_DTYPES[datatype] for name, datatype in outputs.items()})
        tensors = [*session.get_inputs(), *session.get_outputs()]
        if placement.kind == "KIND_GPU" and not any(_DATATYPES.get(tensor.type) == "BYTES" for tensor in tensors):
            device = BoundDevice("cuda", placement.device, _driver(), outputs)
            return BoundInstance(files.name, sessions, plan, check=check, device=device)
        texts = [tensor.name for tensor in session.get_inputs() if _DATATYPES.get(tensor.type) == "BYTES"]
        return TensorBatch(RunInstance(files.name, opened, plan, outputs=list(outputs), texts=texts), check)

    def _sessions(
        self, files: ModelFiles, placement: Placement, path: Path, plan: SessionPlan
    ) -> dict[int, OpenSession]:
        """By batch size; one of size 0 where no sizes are fixed.

        On a GPU each fixed size has a session of its own, as one session would plan its convolutions anew at every
        change of size; each of them holds the weights. The CPU plans nothing, so one session is enough there.
        """
        sizes = plan.batch_sizes if placement.kind == "KIND_GPU" else ()
        if not plan.shares_session:
            return _opened(files, path, plan, sizes)
        group = placement.name.rpartition("_")[0]
        with self._lock:
            key = files.version, f"{group} {placement.device}"
            if key not in self._shared:
                self._shared[key] = _opened(files, path, plan, sizes)
            return self._shared[key]


def _opened(files: ModelFiles, path: Path, plan: SessionPlan, sizes: Sequence[int]) -> dict[int, OpenSession]:
    if not sizes:
        return {0: _open(files, path, plan)}
    sessions = {size: _open(files, path, plan) for size in sizes}
    for size, opened in sessions.items():
        shapes = fixed_shapes(opened.current.get_inputs(), size)
        if shapes is not None:
            opened.warm(shapes)
    return sessions


def fixed_shapes(inputs: Sequence[Any], rows: int) -> dict[str, tuple[Sequence[int], Any]] | None:
    """Shape and type of each input with so many rows; None where another dim than the first is left open."""
    found: dict[str, tuple[Sequence[int], Any]] = {}
    for each in inputs:
        dims, datatype = list(each.shape)[1:], _DATATYPES.get(each.type)
        if datatype is None or not all(isinstance(dim, int) and dim > 0 for dim in dims):
            return None
        found[each.name] = (rows, *dims), NUMPY_DTYPES[datatype]
    return found


def _open(files: ModelFiles, path: Path, plan: SessionPlan) -> OpenSession:
    opened = OpenSession(files.name, path, plan)
    check_in_use(files, plan, opened.current.get_providers())
    return opened


def _driver() -> LibCuda:
    try:
        return LibCuda()
    except CudaError as error:
        raise ModelError(f"an instance is KIND_GPU, but {error}; use KIND_CPU") from None


def _check_names(files: ModelFiles, session: Any) -> None:
    """Names and types of the configuration against those of the file, so that a slip shows at load."""
    for field, listed, tensors in (
        ("input", files.config.input, session.get_inputs()),
        ("output", files.config.output, session.get_outputs()),
    ):
        found = {tensor.name: _DATATYPES.get(tensor.type, tensor.type) for tensor in tensors}
        by_name = {tensor.name: tensor for tensor in tensors}
        for item in listed:
            if item.name in by_name:
                _refuse_type(files, by_name[item.name])
            datatype = datatype_of(item.data_type)
            if item.name not in found:
                raise ModelError(
                    f"model '{files.name}' has no {field} '{item.name}' in its ONNX file; it has {', '.join(found)}"
                )
            if found[item.name] != datatype:
                raise ModelError(
                    f"{field} '{item.name}' of model '{files.name}' is {found[item.name]} in its ONNX file, "
                    f"its config.pbtxt says {datatype}"
                )
    required = {tensor.name for tensor in session.get_inputs()}
    absent = sorted(required - {item.name for item in files.config.input} - added_inputs(files.config).keys())
    if absent:
        raise ModelError(f"model '{files.name}' needs the input '{absent[0]}', which its config.pbtxt leaves out")


def _refuse_type(files: ModelFiles, tensor: Any) -> None:
    """Raises ModelError for what is no tensor, or of elements that no client knows."""
    if tensor.type in _DATATYPES:
        return
    if tensor.type.startswith("seq(map("):
        raise ModelError(
            f"output '{tensor.name}' of model '{files.name}' is a list of dictionaries (ZipMap), which no client can "
            "receive; convert the model with zipmap=False, then it is one tensor of probabilities"
        )
    raise ModelError(f"'{tensor.name}' of model '{files.name}' is of the unsupported type {tensor.type}")


def _describe(tensor: Any, item: Any, skip: int) -> None:
    item.name = tensor.name
    item.data_type = config_type_of(_DATATYPES[tensor.type])
    dims = [dim if isinstance(dim, int) and dim > 0 else -1 for dim in tensor.shape[skip:]]
    if not dims:  # clients see one element
        item.reshape.SetInParent()
    item.dims.extend(dims or [1])
