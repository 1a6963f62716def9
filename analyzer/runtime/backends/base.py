"""What a backend is: a file behind this Protocol that turns a version folder into instances that answer requests.

A backend of your own is a class that implements ``Backend`` and that a package declares as an entry point (see
``installed``). One object of it is made for each load of a model:

- ``complete`` is called once, with the configuration as it was read. It fills in what the model's own files say, such
  as ``input``, ``output`` and ``max_batch_size``, or refuses the model with a ModelError of one sentence.
- ``load`` is called for each instance, several at the same time, each in the thread that the instance will execute in.
- ``Instance.execute`` gets the requests of one batch, from that thread only, and gives one answer a request. A backend
  that computes on whole batches implements ``TensorInstance`` and wraps it in ``tensor_batch.TensorBatch``.
- ``close`` frees what ``load`` took; nothing is executed after it.

An instance whose class says ``takes_device_tensors = True`` gets inputs in device memory as they are (see
``device_tensor``). What a client may read in an answer is raised as InferError; any other exception is a fault of the
model, fails the requests of its batch with its words and leaves the instance in use.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from time import monotonic_ns
from typing import Protocol

import msgspec
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.answered import Answered
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Tensors


class ModelError(Exception):
    """A model that can't be loaded: says in one sentence what is wrong and how to mend it."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """One version of one model: its name and configuration, and where its files lie."""

    name: str
    version: int
    model_dir: Path
    version_dir: Path
    config: model_config_pb2.ModelConfig

    def parameter(self, key: str) -> str | None:
        """A value of the configuration's ``parameters``, None where it isn't set."""
        return self.config.parameters[key].string_value if key in self.config.parameters else None


@dataclass(frozen=True, slots=True)
class Placement:
    """Which instance of a model this is (``peers`` are all on the same kind of device), and where it runs."""

    name: str
    index: int
    peers: int
    kind: str
    device: int


class Stream(Protocol):
    """Where the answers of one request to a decoupled model go: any number, from any thread, an error the last."""

    def send(self, answer: "Answer", *, final: bool) -> bool:
        """None is no answer, only the end. False where the stream has ended before. Never blocks."""
        ...

    @property
    def is_cancelled(self) -> bool:
        """The client is gone or wants no answer: what is sent is dropped. May be asked from any thread."""
        ...

    def wait_writable(self) -> bool:
        """Blocks the caller, a thread of a model, while the client takes no more answers. False if it is gone.

        Never blocks on the event loop's thread.
        """
        ...


Worker = tuple[str, int]
"""An instance's name and the id of its thread, 0 where it has none of its own."""


class Watch(Protocol):
    """Told, on the thread that executes, how far an execution is."""

    def begin(self) -> None: ...

    def next_stage(self) -> None:
        """The inputs are there; then: it is computed."""
        ...

    def end(self) -> None: ...

    def close(self) -> None:
        """Called at the end, on the loop's thread, even where the others were not."""
        ...


class Execution(msgspec.Struct, eq=False):
    """Requests to be answered together. The backend tells the ends of two stages, or stamps them itself with
    CLOCK_MONOTONIC, in ns.

    ``streams`` has one for each request where the model is decoupled, and is empty otherwise. ``number`` tells it from
    all others where spans are kept; ``watch`` is there while a tool listens.
    """

    requests: Sequence[InferRequest]
    rows: Sequence[int]
    start_ns: int = 0
    input_end_ns: int = 0
    infer_end_ns: int = 0
    end_ns: int = 0
    streams: Sequence[Stream] = ()
    number: int = 0
    worker: Worker = ("", 0)
    watch: Watch | None = None

    def input_ended(self) -> None:
        """The inputs are where they are computed on."""
        self.input_end_ns = monotonic_ns()
        if self.watch is not None:
            self.watch.next_stage()

    def infer_ended(self) -> None:
        """The outputs are computed."""
        self.infer_end_ns = monotonic_ns()
        if self.watch is not None:
            self.watch.next_stage()


Answer = Tensors | Answered | InferError | None
"""``Answered`` where there are parameters. None where a decoupled model answers through the request's stream."""

Answers = list[Answer]


class Instance(Protocol):
    """Answers requests, one execution at a time, always from the same thread."""

    def execute(self, execution: Execution) -> Answers:
        """One answer a request, in order. An exception fails all of them."""
        ...

    def close(self) -> None: ...


class TensorInstance(Protocol):
    """An instance of a backend that computes on whole batches: requests are joined and split around it."""

    def execute(self, inputs: Tensors) -> Tensors: ...

    def close(self) -> None: ...


def takes_device_tensors(instance: object) -> bool:
    """Whether an instance uses inputs in device memory as they are; its class says so in an attribute of this name."""
    return bool(getattr(instance, "takes_device_tensors", False))


class Backend(Protocol):
    """Makes instances. ``file_names`` are what a version folder may hold, the first found is used; empty: no files."""

    file_names: Sequence[str]

    def complete(self, files: ModelFiles) -> None:
        """Fills in what the model's own files say and the configuration (changed in place) leaves out."""
        ...

    def default_kind(self) -> str:
        """KIND_CPU or KIND_GPU, for instance groups that don't say."""
        ...

    def runs_inline(self, files: ModelFiles) -> bool:
        """True where executing is so quick that a thread would cost more than it gives."""
        ...

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        """Called in the thread that executes, if there is one. Raises ModelError."""
        ...


@dataclass(frozen=True, slots=True)
class OutputCheck:
    """Holds a backend's outputs against what the configuration declares."""

    model: str
    dtypes: dict[str, object] = field(default_factory=dict)

    def select(self, outputs: Tensors) -> Tensors:
        """The declared outputs in their declared order. Raises InferError where one is missing or of another type."""
        selected: Tensors = {}
        for name, dtype in self.dtypes.items():
            array = outputs.get(name)
            if array is None:
                raise InferError(ErrorKind.INTERNAL, f"model '{self.model}' gave no output '{name}'")
            if array.dtype != dtype:
                raise InferError(
                    ErrorKind.INTERNAL,
                    f"model '{self.model}' gave output '{name}' as {array.dtype}, its config.pbtxt says {dtype}",
                )
            selected[name] = array
        return selected


def find_model_file(files: ModelFiles, file_names: Sequence[str]) -> Path:
    """The model file of a version folder: ``default_model_filename``, or the first known name that is there."""
    names = (files.config.default_model_filename,) if files.config.default_model_filename else file_names
    for name in names:
        # The name may come from a client. By its letters only: where links lead is judged before.
        path = Path(os.path.normpath(files.version_dir / name))
        with suppress(OSError):  # a name that is too long for the file system
            if path.is_relative_to(os.path.normpath(files.version_dir)) and path.exists():
                return path
    wanted = " or ".join(repr(name) for name in names)
    raise ModelError(f"model '{files.name}' has no {wanted} in its version folder {files.version}")


_BUILT_IN = {
    "onnxruntime": "onnxruntime:OnnxRuntimeBackend",
    "openvino": "openvino:OpenvinoBackend",
    "python": "python:PythonBackend",
    "pytorch": "pytorch:PytorchBackend",
    "simulated": "simulated:SimulatedBackend",
    "tensorrt": "tensorrt:TensorrtBackend",
}
"""The modules of this package and their classes. Each imports its heavy library when it loads its first model."""


def make_backend(name: str) -> Backend:
    """The backend of this name: a built-in one, or that of another installed package. Raises ModelError."""
    from analyzer.runtime.backends.installed import installed_backend

    if name not in _BUILT_IN:
        return installed_backend(name, ("ensemble", *_BUILT_IN))
    module, _, made_by = _BUILT_IN[name].partition(":")
    backend: Backend = getattr(import_module(f"analyzer.runtime.backends.{module}"), made_by)()
    return backend
