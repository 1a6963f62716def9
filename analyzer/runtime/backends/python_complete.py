"""Has a ``model.py`` complete its configuration, in a process of its own: to import it may take long, or worse."""

import asyncio
from typing import Any

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.backends.pb_server import log_from_model
from analyzer.runtime.backends.python_frames import CALL, FAILED, READY, START, Frame
from analyzer.runtime.backends.python_model import Task
from analyzer.runtime.backends.python_process import ModelProcess


def complete_in_process(task: Task, config: dict[str, Any]) -> str:
    """The completed configuration as JSON. Blocks; called in a thread without an event loop. Raises ModelError."""
    return asyncio.run(_complete(task, config))


async def _complete(task: Task, config: dict[str, Any]) -> str:
    said = _Said(task.model)
    try:
        process = ModelProcess(task.instance, said, asyncio.get_running_loop())
    except OSError as error:
        raise ModelError(f"model '{task.model}': its process can't be started: {error}") from None
    try:
        await process.connect()
        process.send((START, {name: getattr(task, name) for name in Task.__slots__}, config))
        process.finish()
        await process.ended
    finally:
        process.kill()
        await process.ended
    if said.completed is None:
        raise ModelError(said.reason)
    return said.completed


class _Said:
    """What the process says."""

    def __init__(self, model: str) -> None:
        self.completed: str | None = None
        self.reason = ""
        self._model = model

    def on_frame(self, frame: Frame) -> None:
        match frame:
            case (kind, text) if kind == READY:
                self.completed = text
            case (kind, text) if kind == FAILED:
                self.reason = text
            case (kind, _, "log", (level, text), _) if kind == CALL:
                log_from_model(level, text)

    def on_end(self, how: str) -> None:
        self.reason = self.reason or f"model '{self._model}': its process {how} in auto_complete_config"
