"""OpenVINO models (IR or ONNX): compiled once, with an infer request of its own for each instance."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.runtime.backends.base import Instance, ModelError, ModelFiles, OutputCheck, Placement, find_model_file
from analyzer.runtime.backends.fixed_batches import cut, pad, size_for
from analyzer.runtime.backends.openvino_options import CompilePlan, make_plan, unknown_parameters
from analyzer.runtime.backends.tensor_batch import TensorBatch
from analyzer.runtime.dtypes import NUMPY_DTYPES, config_type_of, datatype_of
from analyzer.runtime.request import Tensors
from analyzer.runtime.sequence_tensors import added_inputs, added_outputs

log = logging.getLogger(__name__)

DEFAULT_MAX_BATCH_SIZE = 4

_DATATYPES = {
    "boolean": "BOOL",
    "u8": "UINT8",
    "u16": "UINT16",
    "u32": "UINT32",
    "u64": "UINT64",
    "i8": "INT8",
    "i16": "INT16",
    "i32": "INT32",
    "i64": "INT64",
    "f16": "FP16",
    "f32": "FP32",
    "f64": "FP64",
}


class OpenvinoBackend:
    file_names: Sequence[str] = ("model.xml", "model.onnx")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._compiled: dict[int, Any] = {}

    def complete(self, files: ModelFiles) -> None:
        """Inputs, outputs and batching as the model says them, where the configuration has no inputs or outputs."""
        config = files.config
        unknown = unknown_parameters(files)
        if unknown:
            names = ", ".join(unknown)
            log.warning("model '%s' sets the parameters %s, which the openvino backend ignores", files.name, names)
        model = _read(files, find_model_file(files, self.file_names))
        ports = [*model.inputs, *model.outputs]
        batches = all(_can_batch(port) for port in ports)
        if config.max_batch_size and not batches:
            raise ModelError(
                f"model '{files.name}' has max_batch_size {config.max_batch_size}, but not all of its inputs and "
                "outputs have a variable first dimension; set it to 0"
            )
        if config.input and config.output:
            return
        if batches and not config.max_batch_size:
            config.max_batch_size = DEFAULT_MAX_BATCH_SIZE
            if not config.HasField("sequence_batching"):
                config.dynamic_batching.SetInParent()
        added = added_inputs(config).keys() | added_outputs(config).keys()
        for listed, found in ((config.input, model.inputs), (config.output, model.outputs)):
            if not listed:
                for port in found:
                    if not port.names & added:
                        _describe(files, port, listed.add(), skip=int(config.max_batch_size > 0))

    def default_kind(self) -> str:
        return "KIND_CPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return False

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        plan = make_plan(files, placement)
        with self._lock:
            if files.version not in self._compiled:
                self._compiled[files.version] = _compile(files, find_model_file(files, self.file_names), plan)
            compiled = self._compiled[files.version]
        inputs = {item.name: datatype_of(item.data_type) for item in files.config.input} | added_inputs(files.config)
        outputs = {item.name: datatype_of(item.data_type) for item in files.config.output}
        outputs |= added_outputs(files.config)
        _check(files, "input", inputs, compiled.inputs)
        _check(files, "output", outputs, compiled.outputs)
        check = OutputCheck(files.name, {name: NUMPY_DTYPES[datatype] for name, datatype in outputs.items()})
        return TensorBatch(_OpenvinoInstance(files.name, compiled, plan.batch_sizes, inputs, outputs), check)


class _OpenvinoInstance:
    def __init__(
        self,
        model: str,
        compiled: Any,
        batch_sizes: tuple[int, ...],
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
    ) -> None:
        self._model = model
        self._request = compiled.create_infer_request()
        self._batch_sizes = batch_sizes
        self._inputs = {name: _index(compiled.inputs, name) for name in inputs}
        self._outputs = {name: _index(compiled.outputs, name) for name in outputs}

    def execute(self, inputs: Tensors) -> Tensors:
        if not self._batch_sizes:
            return self._infer(inputs)
        rows = next(iter(inputs.values())).shape[0]
        size = size_for(rows, self._batch_sizes)
        return cut(self._model, self._infer(pad(inputs, rows, size)), rows, size)

    def close(self) -> None:
        self._request = None

    def _infer(self, inputs: Tensors) -> Tensors:
        # Contiguous arrays are read where they lie; the outputs belong to the request, which writes them each time.
        arrays = {self._inputs[name]: np.ascontiguousarray(array) for name, array in inputs.items()}
        self._request.start_async(arrays, share_inputs=True)
        self._request.wait()
        return {name: np.array(self._request.get_output_tensor(at).data) for name, at in self._outputs.items()}


def _import_openvino() -> Any:
    try:
        import openvino
    except ImportError:
        raise ModelError("the openvino backend is not installed; pip install 'serving-analyzer[openvino]'") from None
    return openvino


def _read(files: ModelFiles, path: Path) -> Any:
    openvino = _import_openvino()
    try:
        return openvino.Core().read_model(str(path))
    except Exception as error:  # OpenVINO raises RuntimeError and others
        raise ModelError(f"model '{files.name}' can't be opened by OpenVINO: {_reason(error)}") from None


def _compile(files: ModelFiles, path: Path, plan: CompilePlan) -> Any:
    model, core = _read(files, path), _import_openvino().Core()
    devices = core.available_devices
    if plan.device.split(":")[0].split(".")[0] not in {*(name.split(".")[0] for name in devices), "AUTO"}:
        raise ModelError(
            f"model '{files.name}' asks for the OpenVINO device '{plan.device}'; this machine has {', '.join(devices)}"
        )
    try:
        return core.compile_model(model, plan.device, plan.properties)
    except Exception as error:  # likewise
        raise ModelError(f"model '{files.name}' can't be compiled by OpenVINO: {_reason(error)}") from None


def _check(files: ModelFiles, field: str, wanted: Mapping[str, str], ports: Sequence[Any]) -> None:
    """Names and types of the configuration against those of the model, so that a slip shows at load."""
    known = [_name(port) for port in ports]
    for name, datatype in wanted.items():
        index = _index(ports, name)
        if index < 0:
            raise ModelError(
                f"model '{files.name}' has no {field} '{name}' in its OpenVINO file; it has {', '.join(known)}"
            )
        found = _datatype(files, ports[index])
        if found != datatype:
            raise ModelError(
                f"{field} '{name}' of model '{files.name}' is {found} in its OpenVINO file, "
                f"its config.pbtxt says {datatype}"
            )
    if field == "input":
        absent = [_name(port) for port in ports if not any(name in port.names for name in wanted)]
        if absent:
            raise ModelError(f"model '{files.name}' needs the input '{absent[0]}', which its config.pbtxt leaves out")


def _describe(files: ModelFiles, port: Any, item: Any, skip: int) -> None:
    item.name = _name(port)
    item.data_type = config_type_of(_datatype(files, port))
    if port.partial_shape.rank.is_dynamic:
        raise ModelError(f"'{item.name}' of model '{files.name}' has no fixed rank; state its dims in config.pbtxt")
    dims = [-1 if dim.is_dynamic else dim.get_length() for dim in port.partial_shape][skip:]
    if not dims:
        item.reshape.SetInParent()
    item.dims.extend(dims or [1])


def _datatype(files: ModelFiles, port: Any) -> str:
    name = port.element_type.get_type_name()
    if name not in _DATATYPES:
        raise ModelError(
            f"'{_name(port)}' of model '{files.name}' is of the type {name}, which this backend does not serve"
        )
    return _DATATYPES[name]


def _can_batch(port: Any) -> bool:
    shape = port.partial_shape
    return bool(shape.rank.is_static and len(shape) and shape[0].is_dynamic)


def _name(port: Any) -> str:
    names: set[str] = port.names
    return min(names) if names else str(port.index)


def _index(ports: Sequence[Any], name: str) -> int:
    """-1 where no port has this name."""
    return next((at for at, port in enumerate(ports) if name in port.names), -1)


def _reason(error: Exception) -> str:
    """OpenVINO tells the place in its source first, and what is wrong last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
