"""A plan to an engine: deserialized by TensorRT, its tensors and optimization profiles as plain records."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analyzer.runtime.backends.base import ModelError, ModelFiles

Shape = tuple[int, ...]

_DATATYPES = {
    "FLOAT": "FP32",
    "HALF": "FP16",
    "BF16": "BF16",
    "INT8": "INT8",
    "INT32": "INT32",
    "INT64": "INT64",
    "UINT8": "UINT8",
    "BOOL": "BOOL",
}


@dataclass(frozen=True, slots=True)
class EngineTensor:
    """A variable dim is -1."""

    name: str
    is_input: bool
    datatype: str
    shape: Shape


@dataclass(frozen=True, slots=True)
class Profile:
    """The smallest and the largest shape that an optimization profile takes, by input."""

    number: int
    limits: Mapping[str, tuple[Shape, Shape]]

    def fits(self, shapes: Mapping[str, Shape]) -> bool:
        return all(_lies_between(shape, *self.limits[name]) for name, shape in shapes.items())


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Engine:
    """``runtime`` is kept because the engine must not outlive it."""

    engine: Any
    runtime: Any
    tensors: tuple[EngineTensor, ...]
    profiles: tuple[Profile, ...]

    @property
    def inputs(self) -> tuple[EngineTensor, ...]:
        return tuple(tensor for tensor in self.tensors if tensor.is_input)

    @property
    def outputs(self) -> tuple[EngineTensor, ...]:
        return tuple(tensor for tensor in self.tensors if not tensor.is_input)


def import_tensorrt() -> Any:
    """TensorRT, or TensorRT for RTX where only that is installed. Raises ModelError."""
    try:
        import tensorrt
    except ImportError:
        try:
            import tensorrt_rtx as tensorrt
        except ImportError:
            text = "the tensorrt backend is not installed; pip install 'serving-analyzer[tensorrt]'"
            raise ModelError(text) from None
    if int(tensorrt.__version__.split(".")[0]) < 10 and tensorrt.__name__ == "tensorrt":
        raise ModelError(f"the tensorrt backend needs TensorRT 10 or newer; {tensorrt.__version__} is installed")
    return tensorrt


def open_engine(library: Any, files: ModelFiles, path: Path) -> Engine:
    """For the device that is current in this thread. Raises ModelError."""
    log = _make_log(library)
    runtime = library.Runtime(log)
    if hasattr(library, "init_libnvinfer_plugins"):
        library.init_libnvinfer_plugins(log, "")
    engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        reason = log.errors[-1] if log.errors else "it gave no reason"
        raise ModelError(
            f"the {path.name} of model '{files.name}' can't be loaded by TensorRT {library.__version__} on this GPU: "
            f"{reason}; build it with this version and for this GPU"
        )
    tensors = tuple(_describe(library, files, engine, number) for number in range(engine.num_io_tensors))
    return Engine(engine, runtime, tensors, tuple(_profiles(engine, tensors)))


def choose_profiles(files: ModelFiles, engine: Engine, wanted: tuple[str, ...]) -> tuple[Profile, ...]:
    """Those that an instance group names, the first where it names none. Raises ModelError."""
    known = {str(profile.number): profile for profile in engine.profiles}
    for name in wanted:
        if name not in known:
            raise ModelError(
                f"an instance_group of model '{files.name}' names profile '{name}', its plan has {', '.join(known)}"
            )
    return tuple(known[name] for name in wanted) or engine.profiles[:1]


def _make_log(library: Any) -> Any:
    """TensorRT says why it fails to its logger only."""

    class Log(library.ILogger):  # type: ignore[misc]  # a class of the library that is given
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.ERROR, library.ILogger.INTERNAL_ERROR):
                self.errors.append(" ".join(message.split()))

    return Log()


def _describe(library: Any, files: ModelFiles, engine: Any, number: int) -> EngineTensor:
    name = engine.get_tensor_name(number)
    if engine.is_shape_inference_io(name):
        raise ModelError(f"'{name}' of model '{files.name}' is a shape tensor, which this backend does not support")
    datatype = _DATATYPES.get(engine.get_tensor_dtype(name).name)
    if datatype is None:
        kind = engine.get_tensor_dtype(name).name
        raise ModelError(f"'{name}' of model '{files.name}' is of TensorRT's type {kind}, which no request can carry")
    is_input = engine.get_tensor_mode(name) == library.TensorIOMode.INPUT
    return EngineTensor(name, is_input, datatype, tuple(engine.get_tensor_shape(name)))


def _profiles(engine: Any, tensors: tuple[EngineTensor, ...]) -> list[Profile]:
    inputs = [tensor.name for tensor in tensors if tensor.is_input]
    found = []
    for number in range(max(1, engine.num_optimization_profiles)):
        shapes = {name: engine.get_tensor_profile_shape(name, number) for name in inputs}
        limits = {name: (tuple(smallest), tuple(largest)) for name, (smallest, _, largest) in shapes.items()}
        found.append(Profile(number, limits))
    return found


def _lies_between(shape: Shape, smallest: Shape, largest: Shape) -> bool:
    return len(shape) == len(smallest) and all(
        least <= size <= most for least, size, most in zip(smallest, shape, largest)
    )
