"""Runs a Triton ``model.py`` as it is: ``TritonPythonModel`` with ``initialize``, ``execute`` and ``finalize``."""

import importlib.util
import itertools
import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic_ns
from types import ModuleType
from typing import Any

import numpy as np
from google.protobuf import json_format

from analyzer.runtime.backends import pb_utils
from analyzer.runtime.backends.base import (
    Answers,
    Execution,
    Instance,
    ModelError,
    ModelFiles,
    OutputCheck,
    Placement,
    Stream,
    find_model_file,
)
from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of
from analyzer.runtime.message_dict import message_dict
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, Parameters, Tensors
from analyzer.runtime.sequence_tensors import added_outputs

_IMPORTING = threading.Lock()
_MODULE_NUMBERS = itertools.count()

_RESERVED = (
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "triton_enable_empty_final_response",
)
"""Parameters that mean something to the server, so a model doesn't find them among its own, as in Triton."""

_KINDS = {
    pb_utils.TritonError.NOT_FOUND: ErrorKind.NOT_FOUND,
    pb_utils.TritonError.INVALID_ARG: ErrorKind.INVALID_ARGUMENT,
    pb_utils.TritonError.UNAVAILABLE: ErrorKind.UNAVAILABLE,
    pb_utils.TritonError.UNSUPPORTED: ErrorKind.UNIMPLEMENTED,
}


class PythonBackend:
    file_names: Sequence[str] = ("model.py",)

    def complete(self, files: ModelFiles) -> None:
        """Asks the model's own ``auto_complete_config``, if it has one."""
        module = _import_model(files, find_model_file(files, self.file_names))
        try:
            complete = getattr(_model_class(files, module), "auto_complete_config", None)
            if complete is not None:
                _auto_complete(files, complete)
        finally:
            sys.modules.pop(module.__name__, None)

    def default_kind(self) -> str:
        return "KIND_CPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return False

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        module = _import_model(files, find_model_file(files, self.file_names))
        model = _model_class(files, module)()
        if hasattr(model, "initialize"):
            try:
                model.initialize(_initialize_args(files, placement))
            except Exception as error:
                sys.modules.pop(module.__name__, None)
                raise ModelError(f"model '{files.name}' failed in initialize: {_describe(error)}") from error
        return _PythonInstance(files, module, model)


class _PythonInstance:
    """Each instance has a module of its own: globals of a ``model.py`` are not shared, as they aren't in Triton."""

    def __init__(self, files: ModelFiles, module: ModuleType, model: Any) -> None:
        self._files = files
        self._module = module
        self._model = model
        self._outputs = tuple(output.name for output in files.config.output)
        dtypes = {output.name: NUMPY_DTYPES[datatype_of(output.data_type)] for output in files.config.output}
        added = added_outputs(files.config)
        self._states = tuple(added)
        self._dtypes = dtypes | {name: NUMPY_DTYPES[datatype] for name, datatype in added.items()}
        self._is_decoupled = files.config.model_transaction_policy.decoupled

    def execute(self, execution: Execution) -> Answers:
        if self._is_decoupled:
            return self._execute_decoupled(execution)
        requests = [self._wrap(request) for request in execution.requests]
        execution.input_end_ns = monotonic_ns()
        responses = self._model.execute(requests)
        execution.infer_end_ns = monotonic_ns()
        if not isinstance(responses, Sequence) or len(responses) != len(requests):
            raise TypeError(f"execute must return a list of {len(requests)} responses, one a request")
        return [self._unwrap(request, response) for request, response in zip(execution.requests, responses)]

    def _execute_decoupled(self, execution: Execution) -> Answers:
        requests = [
            self._wrap(request, pb_utils.InferenceResponseSender(partial(self._send, request, stream)))
            for request, stream in zip(execution.requests, execution.streams)
        ]
        execution.input_end_ns = monotonic_ns()
        if self._model.execute(requests) is not None:
            raise TypeError("execute of a decoupled model must return None, its answers go through response senders")
        execution.infer_end_ns = monotonic_ns()
        return [None for _ in requests]

    def _send(
        self, request: InferRequest, stream: Stream, response: pb_utils.InferenceResponse | None, final: bool
    ) -> bool:
        stream.wait_writable()
        return stream.send(None if response is None else self._unwrap(request, response), final=final)

    def close(self) -> None:
        sys.modules.pop(self._module.__name__, None)
        if hasattr(self._model, "finalize"):
            self._model.finalize()

    def _wrap(
        self, request: InferRequest, sender: pb_utils.InferenceResponseSender | None = None
    ) -> pb_utils.InferenceRequest:
        return pb_utils.InferenceRequest(
            request_id=request.id,
            inputs=[pb_utils.Tensor(name, array) for name, array in request.inputs.items()],
            requested_output_names=request.requested or self._outputs,
            model_name=self._files.name,
            model_version=self._files.version,
            sender=sender,
            **(_sequence(request.parameters) if request.parameters else {}),
        )

    def _unwrap(self, request: InferRequest, response: Any) -> Tensors | InferError:
        if not isinstance(response, pb_utils.InferenceResponse):
            return self._nonsense(f"execute gave a {type(response).__name__} in the place of an InferenceResponse")
        error = response.error()
        if error is not None:
            return InferError(_KINDS.get(error.code(), ErrorKind.INTERNAL), str(error.message()))
        given = {tensor.name(): tensor.array for tensor in response.output_tensors()}
        for name, array in given.items():
            if array.dtype.kind in "OSU":
                given[name] = _bytes_array(array)
        wanted = (*(request.requested or self._outputs), *self._states)
        try:
            return OutputCheck(self._files.name, {name: self._dtypes[name] for name in wanted}).select(given)
        except InferError as wrong:
            return wrong

    def _nonsense(self, what: str) -> InferError:
        return InferError(ErrorKind.INTERNAL, f"model '{self._files.name}': {what}")


def _sequence(parameters: Parameters) -> dict[str, Any]:
    """The parameters that the server itself knows as what a model asks for by name, and the rest."""
    identity = parameters.get("sequence_id", 0)
    flags = pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START if parameters.get("sequence_start") else 0
    flags |= pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END if parameters.get("sequence_end") else 0
    own = {name: value for name, value in parameters.items() if name not in _RESERVED}
    return {"correlation_id": identity, "flags": flags, "timeout": parameters.get("timeout", 0), "parameters": own}


def _import_model(files: ModelFiles, path: Path) -> ModuleType:
    """Executes the file as a new module. Files beside it can be imported by it, and only by it."""
    name = f"_model_{next(_MODULE_NUMBERS)}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"model '{files.name}': {path.name} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault("triton_python_backend_utils", pb_utils)
    with _importable(path.parent):
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:
            del sys.modules[name]
            raise ModelError(f"model '{files.name}' can't import its {path.name}: {_describe(error)}") from error
    return module


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


def _model_class(files: ModelFiles, module: ModuleType) -> Any:
    model = getattr(module, "TritonPythonModel", None)
    if not isinstance(model, type) or not hasattr(model, "execute"):
        raise ModelError(f"model '{files.name}' has no class TritonPythonModel with a method execute in its model.py")
    return model


def _initialize_args(files: ModelFiles, placement: Placement) -> dict[str, str]:
    return {
        "model_config": json.dumps(message_dict(files.config)),
        "model_instance_kind": placement.kind.removeprefix("KIND_"),
        "model_instance_name": placement.name,
        "model_instance_device_id": str(placement.device),
        "model_repository": str(files.model_dir),
        "model_version": str(files.version),
        "model_name": files.name,
    }


def _auto_complete(files: ModelFiles, complete: Any) -> None:
    try:
        completed = complete(pb_utils.ModelConfig(message_dict(files.config)))
        text = json.dumps(completed.as_dict())
        files.config.Clear()
        json_format.Parse(text, files.config)
    except Exception as error:
        raise ModelError(f"model '{files.name}' failed in auto_complete_config: {_describe(error)}") from error


def _bytes_array(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    flat = [item if isinstance(item, bytes) else str(item).encode("utf-8") for item in array.ravel().tolist()]
    result = np.empty(len(flat), dtype=np.object_)
    result[:] = flat
    return result.reshape(array.shape)


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
