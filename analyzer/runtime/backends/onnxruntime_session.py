"""Sessions of ONNX Runtime opened by a plan, and the instance that runs one on arrays of the host."""

import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.backends.fixed_batches import cut, pad, size_for
from analyzer.runtime.backends.onnxruntime_options import SessionPlan
from analyzer.runtime.request import Tensors

log = logging.getLogger(__name__)


def import_onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ModelError(
            "the onnxruntime backend is not installed; pip install 'serving-analyzer[cpu]' (or [gpu])"
        ) from None
    return onnxruntime


@cache
def load_cuda_libraries() -> None:
    """CUDA and cuDNN as pip packages lie where the loader does not look; ONNX Runtime knows how to find them."""
    preload = getattr(import_onnxruntime(), "preload_dlls", None)
    if preload is not None:
        preload()


def open_session(model: str, path: Path, plan: SessionPlan) -> Any:
    """Raises ModelError."""
    onnxruntime = import_onnxruntime()
    providers = [(provider.name, provider.options) for provider in plan.providers]
    try:
        options = _session_options(onnxruntime, plan)
        return onnxruntime.InferenceSession(str(path), sess_options=options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors share no base class of their own
        raise ModelError(f"model '{model}' can't be opened by ONNX Runtime: {_first_line(error)}") from None


def _session_options(onnxruntime: Any, plan: SessionPlan) -> Any:
    options, levels = onnxruntime.SessionOptions(), onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = {
        "ALL": levels.ORT_ENABLE_ALL,
        "EXTENDED": levels.ORT_ENABLE_EXTENDED,
        "BASIC": levels.ORT_ENABLE_BASIC,
        "DISABLE": levels.ORT_DISABLE_ALL,
    }[plan.graph_level]
    options.intra_op_num_threads = plan.intra_op_threads
    options.inter_op_num_threads = plan.inter_op_threads
    modes = onnxruntime.ExecutionMode
    options.execution_mode = modes.ORT_PARALLEL if plan.is_parallel else modes.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = plan.uses_mem_arena
    options.enable_mem_pattern = plan.uses_mem_pattern
    for key, value in plan.entries.items():
        options.add_session_config_entry(key, value)
    if plan.profile_file:
        options.enable_profiling = True
        options.profile_file_prefix = plan.profile_file
    return options


def run_options(plan: SessionPlan) -> Any:
    """None where nothing is asked of single runs."""
    if not plan.run_entries:
        return None
    options = import_onnxruntime().RunOptions()
    for key, value in plan.run_entries.items():
        options.add_run_config_entry(key, value)
    return options


class OpenSession:
    """The session that an instance runs. While its profile is wanted, another of the same plan stands in for it.

    ONNX Runtime profiles a session from its opening to the end of profiling, which comes once; so the one that serves
    is never made to, and costs nothing. The other holds the weights a second time. ``seen`` has shape and type of each
    input of the last run, which the other is run with once before it serves: a session's first run is slow.
    """

    _opened: ClassVar["weakref.WeakSet[OpenSession]"] = weakref.WeakSet()
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, model: str, path: Path, plan: SessionPlan) -> None:
        """Raises ModelError."""
        self.model = model
        self.current = self._own = open_session(model, path, plan)
        self.seen: dict[str, tuple[Sequence[int], Any]] = {}
        self._path = path
        self._plan = plan
        with self._lock:
            self._opened.add(self)

    @classmethod
    def all(cls) -> "list[OpenSession]":
        with cls._lock:
            return list(cls._opened)

    @property
    def is_built(self) -> bool:
        """Whether opening it builds an engine, which takes minutes."""
        return any("tensorrt" in provider.name.lower() for provider in self._plan.providers)

    def profile(self, prefix: Path) -> None:
        """From now on. Raises ModelError."""
        other = open_session(self.model, self._path, replace(self._plan, profile_file=str(prefix)))
        if self.seen:
            self._try(other, self.seen)
        self.current = other

    def warm(self, shapes: Mapping[str, tuple[Sequence[int], Any]]) -> None:
        """Runs once on zeros: what a library plans at its first run is planned before a request waits for it."""
        self._try(self.current, shapes)

    def _try(self, session: Any, shapes: Mapping[str, tuple[Sequence[int], Any]]) -> None:
        try:
            session.run(None, {name: _zeros(shape, dtype) for name, (shape, dtype) in shapes.items()})
        except Exception as error:  # a model may want other values than these
            log.debug("model '%s' was not run before it serves: %s", self.model, error)

    def end_profile(self) -> tuple[Path, int] | None:
        """Its file and, in ns of UTC, when its times begin; None where there is none."""
        profiled, self.current = self.current, self._own
        if profiled is self._own:
            return None
        begin_utc_ns = int(profiled.get_profiling_start_time_ns())
        return Path(profiled.end_profiling()), begin_utc_ns

    def close(self) -> None:
        """Closes the trace that the plan asks for. The session goes with its last reference: others may share it."""
        if self._plan.profile_file:
            log.info("model '%s' wrote its ONNX Runtime profile to %s", self.model, self._own.end_profiling())


class RunInstance:
    """A TensorInstance: arrays of the host in and out."""

    def __init__(
        self, model: str, session: OpenSession, plan: SessionPlan, *, outputs: list[str], texts: list[str]
    ) -> None:
        """``texts`` are the inputs that ONNX Runtime wants as text, not bytes."""
        self._model = model
        self._session: Any = session
        self._plan = plan
        self._run_options = run_options(plan)
        self._outputs = outputs
        self._texts = texts

    def execute(self, inputs: Tensors) -> Tensors:
        if self._texts:
            inputs = {**inputs, **{name: _to_text(inputs[name]) for name in self._texts if name in inputs}}
        if not self._plan.batch_sizes:
            return self._run(inputs)
        rows = next(iter(inputs.values())).shape[0]
        size = size_for(rows, self._plan.batch_sizes)
        return cut(self._model, self._run(pad(inputs, rows, size)), rows, size)

    def close(self) -> None:
        self._session.close()
        self._session = None  # its thread pool must not outlive the model

    def _run(self, inputs: Tensors) -> Tensors:
        self._session.seen = {name: (array.shape, array.dtype) for name, array in inputs.items()}
        arrays = self._session.current.run(self._outputs, inputs, self._run_options)
        return {
            name: _to_bytes(array) if array.dtype.kind in "OU" else array for name, array in zip(self._outputs, arrays)
        }


def _zeros(shape: Sequence[int], dtype: Any) -> np.ndarray[Any, Any]:
    return np.full(shape, "" if np.dtype(dtype).kind in "OSU" else 0, dtype)


def _to_text(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    flat = [item.decode("utf-8") if isinstance(item, bytes) else str(item) for item in array.ravel()]
    return np.array(flat, dtype=np.object_).reshape(array.shape)


def _to_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    flat = [str(item).encode("utf-8") for item in array.ravel()]
    return np.array(flat, dtype=np.object_).reshape(array.shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]
