"""ONNX models through ONNX Runtime, one session an instance, on the CPU or an NVIDIA GPU."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.runtime.backends.base import Instance, ModelError, ModelFiles, OutputCheck, Placement, find_model_file
from analyzer.runtime.backends.tensor_batch import TensorBatch
from analyzer.runtime.devices import gpu_count
from analyzer.runtime.dtypes import NUMPY_DTYPES, config_type_of, datatype_of
from analyzer.runtime.request import Tensors
from analyzer.runtime.sequence_tensors import added_inputs, added_outputs

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

    def complete(self, files: ModelFiles) -> None:
        """Inputs, outputs and batching as the ONNX file says them, where the configuration has no inputs or outputs."""
        config = files.config
        path = find_model_file(files, self.file_names)
        if config.input and config.output:
            return
        session = _open_session(files, path, _description_options(), ["CPUExecutionProvider"])
        tensors = [*session.get_inputs(), *session.get_outputs()]
        batches = all(tensor.shape and not isinstance(tensor.shape[0], int) for tensor in tensors)
        if config.max_batch_size and not batches:
            raise ModelError(
                f"model '{files.name}' has max_batch_size {config.max_batch_size}, but not all of its inputs and "
                "outputs have a variable first dimension; set it to 0"
            )
        if batches and not config.max_batch_size:
            config.max_batch_size = DEFAULT_MAX_BATCH_SIZE
            config.dynamic_batching.SetInParent()
        added = added_inputs(config).keys() | added_outputs(config).keys()
        for listed, found in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
            if not listed:
                for tensor in found:
                    if tensor.name in added:
                        continue
                    _describe(files, tensor, listed.add(), skip=int(batches))

    def default_kind(self) -> str:
        has_cuda = "CUDAExecutionProvider" in _import_onnxruntime().get_available_providers()
        return "KIND_GPU" if has_cuda and gpu_count() else "KIND_CPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return False

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        path = find_model_file(files, self.file_names)
        session = _open_session(files, path, _session_options(files, placement), _providers(files, placement))
        _check_provider(placement, session)
        _check_names(files, session)
        outputs = {output.name: datatype_of(output.data_type) for output in files.config.output}
        outputs |= added_outputs(files.config)
        check = OutputCheck(files.name, {name: NUMPY_DTYPES[datatype] for name, datatype in outputs.items()})
        texts = [tensor.name for tensor in session.get_inputs() if _DATATYPES.get(tensor.type) == "BYTES"]
        return TensorBatch(_OnnxInstance(session, list(outputs), texts), check)


class _OnnxInstance:
    def __init__(self, session: Any, outputs: list[str], texts: list[str]) -> None:
        self._session = session
        self._outputs = outputs
        self._texts = texts

    def execute(self, inputs: Tensors) -> Tensors:
        if self._texts:
            inputs = {**inputs, **{name: _to_text(inputs[name]) for name in self._texts if name in inputs}}
        arrays = self._session.run(self._outputs, inputs)
        return {
            name: _to_bytes(array) if array.dtype.kind in "OU" else array for name, array in zip(self._outputs, arrays)
        }

    def close(self) -> None:
        # The session is freed with its last reference; its thread pool must not outlive the model.
        self._session = None


def _import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            "the onnxruntime backend is not installed; pip install 'serving-analyzer[cpu]' (or [gpu])"
        ) from None
    return onnxruntime


@cache
def _load_cuda_libraries() -> None:
    """CUDA and cuDNN as pip packages lie where the loader does not look; ONNX Runtime knows how to find them."""
    preload = getattr(_import_onnxruntime(), "preload_dlls", None)
    if preload is not None:
        preload()


def _open_session(files: ModelFiles, path: Path, options: Any, providers: list[Any]) -> Any:
    onnxruntime = _import_onnxruntime()
    try:
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise ModelError(f"model '{files.name}' can't be opened by ONNX Runtime: {_first_line(error)}") from None


def _description_options() -> Any:
    """For a session that only tells names and shapes: nothing is optimized, no threads are started."""
    onnxruntime = _import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return options


def _session_options(files: ModelFiles, placement: Placement) -> Any:
    """Session options from the ``parameters`` that Triton's backend knows by the same names."""
    options = _import_onnxruntime().SessionOptions()
    options.intra_op_num_threads = _thread_count(files, "intra_op_thread_count", _default_threads(placement))
    options.inter_op_num_threads = _thread_count(files, "inter_op_thread_count", 0)
    return options


def _default_threads(placement: Placement) -> int:
    """0 leaves a single instance to ONNX Runtime, which takes a thread a core.

    Several instances on the CPU share the cores: with a full pool each, N pools of spinning threads would fight for
    the same cores and the instances would slow each other down. ``intra_op_thread_count`` overrides it.
    """
    if placement.kind != "KIND_CPU" or placement.peers == 1:
        return 0
    return max(1, len(os.sched_getaffinity(0)) // placement.peers)


def _thread_count(files: ModelFiles, key: str, default: int) -> int:
    text = files.parameter(key)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit():
        raise ModelError(f"model '{files.name}' has the parameter {key} '{text}', which is not a number of threads")
    return int(text)


def _providers(files: ModelFiles, placement: Placement) -> list[Any]:
    if placement.kind != "KIND_GPU":
        return ["CPUExecutionProvider"]
    if "CUDAExecutionProvider" not in _import_onnxruntime().get_available_providers():
        raise ModelError(
            f"instance '{placement.name}' is KIND_GPU, but this ONNX Runtime has no CUDA; "
            "pip install 'serving-analyzer[gpu]' or use KIND_CPU"
        )
    _load_cuda_libraries()
    options = {"device_id": placement.device, "cudnn_conv_algo_search": _algorithm_search(files)}
    return [("CUDAExecutionProvider", options), "CPUExecutionProvider"]


def _algorithm_search(files: ModelFiles) -> str:
    """How cuDNN picks a convolution, by Triton's parameter ``cudnn_conv_algo_search``: 0, 1 or 2.

    Where nothing is said: HEURISTIC. An exhaustive search, ONNX Runtime's own choice, stops an instance for about a
    second at every batch size that it has not seen, and dynamic batching makes many.
    """
    searches = {"0": "EXHAUSTIVE", "1": "HEURISTIC", "2": "DEFAULT"}
    text = files.parameter("cudnn_conv_algo_search") or "1"
    if text not in searches:
        raise ModelError(f"model '{files.name}' has cudnn_conv_algo_search '{text}'; it takes 0, 1 or 2")
    return searches[text]


def _check_provider(placement: Placement, session: Any) -> None:
    """ONNX Runtime falls back to the CPU where CUDA can't start: that must not pass for a GPU's figures."""
    if placement.kind == "KIND_GPU" and "CUDAExecutionProvider" not in session.get_providers():
        raise ModelError(
            f"instance '{placement.name}' is KIND_GPU, but ONNX Runtime could not start CUDA; install the CUDA and "
            "cuDNN libraries it was built for, or use KIND_CPU"
        )


def _check_names(files: ModelFiles, session: Any) -> None:
    """Names and types of the configuration against those of the file, so that a slip shows at load."""
    for field, listed, tensors in (
        ("input", files.config.input, session.get_inputs()),
        ("output", files.config.output, session.get_outputs()),
    ):
        found = {tensor.name: _DATATYPES.get(tensor.type, tensor.type) for tensor in tensors}
        for item in listed:
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


def _describe(files: ModelFiles, tensor: Any, item: Any, skip: int) -> None:
    datatype = _DATATYPES.get(tensor.type)
    if datatype is None:
        raise ModelError(f"'{tensor.name}' of model '{files.name}' is of the unsupported type {tensor.type}")
    item.name = tensor.name
    item.data_type = config_type_of(datatype)
    item.dims.extend(dim if isinstance(dim, int) and dim > 0 else -1 for dim in tensor.shape[skip:])


def _to_text(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    flat = [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in array.ravel()]
    return np.array(flat, dtype=np.object_).reshape(array.shape)


def _to_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    flat = [str(item).encode("utf-8") for item in array.ravel()]
    return np.array(flat, dtype=np.object_).reshape(array.shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
