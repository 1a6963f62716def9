"""Runs a Triton ``model.py`` as it is: ``TritonPythonModel`` with ``initialize``, ``execute`` and ``finalize``.

Each instance is a process of its own, so that instances are parallel and a model's faults stay its own. The parameter
``execution: thread`` has them run in threads of the server instead, where answers are quicker and nothing is isolated.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import Instance, ModelError, ModelFiles, Placement, find_model_file
from analyzer.runtime.backends.python_calls import Calls
from analyzer.runtime.backends.python_complete import complete_in_process
from analyzer.runtime.backends.python_crew import ProcessCrew
from analyzer.runtime.backends.python_model import Script, ScriptError, Task
from analyzer.runtime.backends.python_thread import ThreadInstance
from analyzer.runtime.dtypes import NUMPY_DTYPES, datatype_of
from analyzer.runtime.message_dict import message_dict
from analyzer.runtime.sequence_tensors import added_outputs

_EXECUTIONS = ("process", "thread")


class PythonBackend:
    file_names: Sequence[str] = ("model.py",)

    def complete(self, files: ModelFiles) -> None:
        """Asks the model's own ``auto_complete_config``, if it has one, in a process that ends thereafter."""
        path = find_model_file(files, self.file_names)
        if files.parameter("EXECUTION_ENV_PATH") is not None:
            raise ModelError(
                f"model '{files.name}' sets EXECUTION_ENV_PATH, but models run in the server's own Python environment; "
                "install what it needs there and leave the parameter out"
            )
        if not _may_complete(path):
            return
        task = Task(files.name, files.version, f"{files.name} completion", str(path), {})
        text = complete_in_process(task, message_dict(files.config))
        try:
            files.config.Clear()
            json_format.Parse(text, files.config)
        except json_format.ParseError as error:
            raise ModelError(f"model '{files.name}' failed in auto_complete_config: {error}") from None

    def default_kind(self) -> str:
        return "KIND_CPU"

    def runs_inline(self, files: ModelFiles) -> bool:
        return False

    def load(self, files: ModelFiles, placement: Placement) -> Instance:
        """An instance for a thread of the server."""
        try:
            return ThreadInstance(Script(self._task(files, placement)))
        except ScriptError as error:
            raise ModelError(str(error)) from error

    def process_crew(
        self, files: ModelFiles, placements: Sequence[Placement], calls: Calls, loop: asyncio.AbstractEventLoop
    ) -> ProcessCrew | None:
        """Instances in processes, not yet loaded; None where the configuration wants threads. Raises ModelError."""
        execution = files.parameter("execution") or _EXECUTIONS[0]
        if execution not in _EXECUTIONS:
            raise ModelError(f"model '{files.name}' has the parameter execution '{execution}'; give process or thread")
        if execution == "thread":
            return None
        return ProcessCrew(files, self.tasks(files, placements), calls, loop, timeout_s=_timeout_s(files))

    def tasks(self, files: ModelFiles, placements: Sequence[Placement]) -> list[Task]:
        """What the process of each instance is told."""
        return [self._task(files, placement) for placement in placements]

    def _task(self, files: ModelFiles, placement: Placement) -> Task:
        path = find_model_file(files, self.file_names)
        states = added_outputs(files.config)
        batch = (-1,) if files.config.max_batch_size > 0 else ()
        outputs = [
            (output.name, NUMPY_DTYPES[datatype_of(output.data_type)].str, _dims(output, batch))
            for output in files.config.output
        ]
        return Task(
            model=files.name,
            version=files.version,
            instance=placement.name,
            path=str(path),
            arguments=_initialize_args(files, placement),
            outputs=(*outputs, *((name, NUMPY_DTYPES[datatype].str, None) for name, datatype in states.items())),
            states=tuple(states),
            is_decoupled=files.config.model_transaction_policy.decoupled,
        )


def _may_complete(path: Path) -> bool:
    """Whether some file of the version folder speaks of ``auto_complete_config``: asking takes a process."""
    return any(b"auto_complete_config" in file.read_bytes() for file in path.parent.rglob("*.py"))


def _dims(output: model_config_pb2.ModelOutput, batch: tuple[int, ...]) -> tuple[int, ...] | None:
    """None where the server reshapes what the model gives, and says so where that doesn't fit."""
    return None if output.HasField("reshape") else (*batch, *output.dims)


def _timeout_s(files: ModelFiles) -> float:
    text = files.parameter("execution_timeout_s")
    if text is None:
        return 0.0
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < float("inf"):
        raise ModelError(f"model '{files.name}' has execution_timeout_s '{text}', which is not a number of seconds")
    return value


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
