"""A ``model.py`` and what it is asked: import it, make its class, execute requests, hold its answers to the contract.

Used in the process of a model and, for those that run in threads, in the server's. Imports nothing heavy.
"""

import importlib.util
import itertools
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from analyzer.runtime.answered import Answered
from analyzer.runtime.backends import pb_model, pb_utils
from analyzer.runtime.backends.pb_request import InferenceRequest, InferenceResponse, InferenceResponseSender
from analyzer.runtime.backends.pb_tensor import Array, wire_form

Given = dict[str, Array] | Answered | pb_utils.TritonError
"""What a model gave for one request: the outputs that were asked for, or why there are none."""

_IMPORTING = threading.Lock()
_MODULE_NUMBERS = itertools.count()
_PASSED_LIMIT = 1000


class ScriptError(Exception):
    """A ``model.py`` that can't be used, in a sentence."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be run, in plain values: it crosses to another process.

    ``outputs`` are (name, numpy type, dims) as the model gives them, -1 for any size. ``states`` are the names of those
    that a sequence keeps; they are asked for at every request.
    """

    model: str
    version: int
    instance: str
    path: str
    arguments: dict[str, str]
    outputs: tuple[tuple[str, str, tuple[int, ...] | None], ...] = ()
    states: tuple[str, ...] = ()
    is_decoupled: bool = False


def import_model(task: Task, *, alone: bool = False) -> ModuleType:
    """Executes the file as a new module. Files beside it can be imported by it, and only by it. Raises ScriptError.

    ``alone`` says that the process runs nothing else: then the module keeps its name and its folder stays on the path.
    """
    path = Path(task.path)
    name = path.stem if alone else f"_model_{next(_MODULE_NUMBERS)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ScriptError(f"model '{task.model}': {path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("triton_python_backend_utils", pb_utils)
    pb_model.set_model_dir(str(path.parent))
    with _lasting(path.parent) if alone else _importable(path.parent):
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ScriptError(f"model '{task.model}' can't import its {path.name}: {describe(error)}") from error
    return module


@contextmanager
def _lasting(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    yield


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Puts a version folder on the path for one import.

    What was imported from it is forgotten afterwards: the next model may have another file of the same name.
    """
    with _IMPORTING:
        known = set(sys.modules)
        sys.path.insert(0, str(folder))
        try:
            yield
        finally:
            sys.path.remove(str(folder))
            for name in set(sys.modules) - known:
                file = getattr(sys.modules[name], "__file__", None)
                if file and not name.startswith("_model_") and Path(file).is_relative_to(folder):
                    del sys.modules[name]


def model_class(task: Task, module: ModuleType) -> Any:
    model = getattr(module, "TritonPythonModel", None)
    if not isinstance(model, type) or not hasattr(model, "execute"):
        raise ScriptError(f"model '{task.model}' has no class TritonPythonModel with a method execute in its model.py")
    return model


def complete_config(task: Task, config: dict[str, Any], *, alone: bool = False) -> str:
    """The configuration, as JSON, as the model's own ``auto_complete_config`` completes it. Raises ScriptError."""
    module = import_model(task, alone=alone)
    try:
        complete = getattr(model_class(task, module), "auto_complete_config", None)
        completed = pb_utils.ModelConfig(config) if complete is None else complete(pb_utils.ModelConfig(config))
        return json.dumps(completed.as_dict())
    except ScriptError:
        raise
    except (Exception, SystemExit) as error:
        raise ScriptError(f"model '{task.model}' failed in auto_complete_config: {describe(error)}") from error
    finally:
        sys.modules.pop(module.__name__, None)


class Script:
    """One instance of a model: it has a module of its own, so globals are not shared, as they aren't in Triton."""

    def __init__(self, task: Task, *, alone: bool = False) -> None:
        """Imports and initializes. Raises ScriptError."""
        self._task = task
        self.model = task.model
        self.version = task.version
        self.is_decoupled = task.is_decoupled
        self.output_names = tuple(name for name, _, _ in task.outputs if name not in task.states)
        self._expected = {name: (np.dtype(dtype), dims) for name, dtype, dims in task.outputs}
        self._passed: set[tuple[str, np.dtype[Any], tuple[int, ...]]] = set()
        self._module = import_model(task, alone=alone)
        self._model = model_class(task, self._module)()
        self._execute: Callable[[list[InferenceRequest]], Any] = self._model.execute
        if hasattr(self._model, "initialize"):
            try:
                self._model.initialize(dict(task.arguments))
            except (Exception, SystemExit) as error:
                sys.modules.pop(self._module.__name__, None)
                raise ScriptError(f"model '{task.model}' failed in initialize: {describe(error)}") from error

    def execute(self, requests: list[InferenceRequest]) -> Any:
        """What the model returns. Raises whatever it raises."""
        return self._execute(requests)

    def check(self, requests: Sequence[InferenceRequest], returned: Any) -> list[Given]:
        """The answers, one a request. Raises TypeError where they can't be told apart."""
        count = len(requests)
        if not isinstance(returned, Sequence) or len(returned) != count:
            raise TypeError(f"execute must return a list of {count} responses, one a request")
        return [self.given(request, response) for request, response in zip(requests, returned)]

    def given(self, request: InferenceRequest, response: Any) -> Given:
        """The outputs that a request asks for, of the types and shapes that the configuration states."""
        if not isinstance(response, InferenceResponse):
            what = f"execute gave a {type(response).__name__} in the place of an InferenceResponse"
            return _wrong(f"model '{self._task.model}': {what}")
        error = response.error()
        if error is not None:
            return error
        found = {tensor.name(): tensor.array for tensor in response.output_tensors()}
        outputs: dict[str, Array] = {}
        for name in (*request.requested_output_names(), *self._task.states):
            array = found.get(name)
            if array is None:
                return _wrong(f"model '{self._task.model}' gave no output '{name}'")
            if (name, array.dtype, array.shape) not in self._passed:
                array = wire_form(array)
                what = self._mismatch(name, array)
                if what:
                    return _wrong(f"model '{self._task.model}' gave output '{name}' {what}")
            outputs[name] = array
        return Answered(outputs, dict(response._parameters)) if response._parameters else outputs

    def _mismatch(self, name: str, array: Array) -> str:
        """What of an output is not as the configuration says; numbers of a type and shape that fit pass again."""
        dtype, dims = self._expected[name]
        if array.dtype != dtype:
            return f"as {array.dtype}, its config.pbtxt says {dtype}"
        if dims is not None and not _fits(array.shape, dims):
            return f"with shape {list(array.shape)}, its config.pbtxt says {list(dims)}"
        if not dtype.hasobject and len(self._passed) < _PASSED_LIMIT:
            self._passed.add((name, array.dtype, array.shape))
        return ""

    def close(self) -> None:
        """Raises whatever ``finalize`` raises."""
        sys.modules.pop(self._module.__name__, None)
        if hasattr(self._model, "finalize"):
            self._model.finalize()


class Gathering:
    """Answers of a model that is not decoupled, but sends some through response senders: one for each request."""

    def __init__(self, script: Script, requests: list[InferenceRequest]) -> None:
        self._script = script
        self._requests = requests
        self._given: dict[int, Given] = {}
        self._open: set[int] = set()
        self._used: set[int] = set()
        self._changed = threading.Condition()

    def sender(self, index: int, asks: Callable[[], bool]) -> InferenceResponseSender:
        with self._changed:
            self._used.add(index)
            self._open.add(index)
        return InferenceResponseSender(partial(self._take, index), asks)

    def answers(self, returned: Any) -> list[Given]:
        """What was returned, and where that is None what was sent: waits until it is."""
        count = len(self._requests)
        listed = [None] * count if returned is None and self._used else returned
        if not isinstance(listed, Sequence) or len(listed) != count:
            raise TypeError(f"execute must return a list of {count} responses, one a request")
        waited = {index for index in self._used if listed[index] is None}
        with self._changed:
            self._changed.wait_for(lambda: not self._open & waited)
        nothing = _wrong(f"a response sender of model '{self._script.model}' sent its final flag, but no response")
        return [
            self._given.get(index, nothing) if index in waited else self._script.given(request, listed[index])
            for index, request in enumerate(self._requests)
        ]

    def _take(self, index: int, response: InferenceResponse | None, final: bool) -> bool:
        with self._changed:
            if index not in self._open:
                return False
            if response is not None:
                if index in self._given:
                    raise pb_utils.TritonModelException(
                        "a request has one response, unless its model sets model_transaction_policy { decoupled: true }"
                    )
                self._given[index] = self._script.given(self._requests[index], response)
            if final:
                self._open.discard(index)
            self._changed.notify_all()
        return True


def describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _wrong(message: str) -> pb_utils.TritonError:
    return pb_utils.TritonError(message, pb_utils.TritonError.INTERNAL)


def _fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    return len(shape) == len(dims) and all(dim in (-1, size) for size, dim in zip(shape, dims))
