"""What models ask of the server: to answer a request of theirs, to load or unload others, to keep metrics, to log."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from analyzer.runtime.backends.pb_server import log_from_model
from analyzer.runtime.backends.python_arena import Arena, Window
from analyzer.runtime.backends.python_backlog import Backlogs
from analyzer.runtime.backends.python_frames import Frame, pack
from analyzer.runtime.backends.python_requests import asked_request, code_of
from analyzer.runtime.custom_metrics import CustomMetrics, MetricError
from analyzer.runtime.overlay import Override
from analyzer.runtime.request import ErrorKind, InferError, InferRequest, InferResponse
from analyzer.runtime.servable import Servable, count_refusal

log = logging.getLogger(__name__)


class Models(Protocol):
    """The models of a server."""

    def find(self, model: str, version: str) -> Servable:
        """Raises InferError."""
        ...

    async def load(self, names: Sequence[str], override: Override = ...) -> dict[str, str]:
        """The reasons of those that failed."""
        ...

    async def unload(self, model: str) -> None: ...


class Caller(Protocol):
    """An instance that executes, and may meanwhile wait for others."""

    model: str
    waits_for: list[str]

    @property
    def is_executing(self) -> bool: ...

    @property
    def callers(self) -> tuple[str, ...]:
        """Who waits for what it executes, and it itself: the model a level."""
        ...


class Asker(Protocol):
    """The process of a caller, as far as answering it goes."""

    arena: Arena
    window: Window

    def reply(self, call: int, succeeded: bool, value: Any, *, final: bool = True) -> None: ...


class Calls:
    """One for all models of a server."""

    def __init__(self, models: Models, loop: asyncio.AbstractEventLoop) -> None:
        self.metrics = CustomMetrics()
        self._models = models
        self._loop = loop
        self._callers: dict[str, list[Caller]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._backlogs = Backlogs(loop)

    def enter(self, caller: Caller) -> None:
        self._callers.setdefault(caller.model, []).append(caller)

    def leave(self, caller: Caller) -> None:
        self._callers[caller.model].remove(caller)

    def end(self, asker: Asker) -> None:
        """Its process is gone: nobody takes what it called for."""
        self._backlogs.end(asker)

    def answer(self, caller: Caller, asker: Asker, call: int, operation: str, arguments: tuple[Any, ...]) -> None:
        """Answers a call, now or later."""
        try:
            match operation:
                case "log":
                    log_from_model(*arguments)
                case "infer":
                    self._infer(caller, asker, call, *arguments)
                case "taken":
                    self._backlogs.of(asker).take(*arguments)
                case "waits":
                    self._backlogs.of(asker).wait(*arguments)
                case "cancel":
                    self._cancel(asker, *arguments)
                case "ready":
                    asker.reply(call, True, self._is_ready(*arguments))
                case "load" | "unload":
                    self._begin(self._change(caller, asker, call, operation, *arguments))
                case _:
                    asker.reply(call, True, self.metrics.apply(operation, *arguments))
        except InferError as error:
            asker.reply(call, False, code_of(error))
        except MetricError as error:
            asker.reply(call, False, code_of(InferError(ErrorKind.INVALID_ARGUMENT, str(error))))

    def _infer(self, caller: Caller, asker: Asker, call: int, packed: Frame, decoupled: bool) -> None:
        callers = caller.callers if caller.is_executing else ()
        request = asked_request(packed, asker.window, callers, accepts_stream=decoupled)
        target = request.model
        servable = self._models.find(target, request.version)
        backlog = self._backlogs.of(asker)
        caller.waits_for.append(target)
        try:
            if callers and would_hang(self._callers, callers, target):
                raise _hang(caller.model, target)
            if decoupled:
                backlog.open(call, request, lambda error: asker.reply(call, False, code_of(error)))
            else:
                backlog.open_single(call)
            servable.submit(request, partial(self._on_answer, caller, asker, call, request))
        except InferError as error:
            caller.waits_for.remove(target)
            backlog.forget(call)
            count_refusal(servable.statistics, request, error)
            raise

    def _on_answer(
        self, caller: Caller, asker: Asker, call: int, request: InferRequest, answer: InferResponse | InferError
    ) -> None:
        if isinstance(answer, InferError) or answer.final:
            caller.waits_for.remove(request.model)
        if self._backlogs.answered(asker, call, answer):
            _pass_on(asker, call, answer)

    def _cancel(self, asker: Asker, call: int) -> None:
        cancelled = self._backlogs.forget(asker, call)
        if cancelled is not None:
            cancelled.request.cancel()

    def _is_ready(self, model: str, version: str) -> bool:
        try:
            return not self._models.find(model, version).failure
        except InferError:
            return False

    async def _change(self, caller: Caller, asker: Asker, call: int, operation: str, model: str, *rest: Any) -> None:
        self._backlogs.of(asker).open_single(call)
        try:
            if not caller.is_executing and operation == "load":
                # Whoever loads the caller waits for it, and holds up all other loads.
                raise _invalid("load_model can only be called while a request is executed, not in initialize")
            if operation == "load":
                failures = await self._models.load([model], Override(rest[0] or None, rest[1]))
                if model in failures:
                    raise _invalid(f"failed to load '{model}', {failures[model]}")
            else:
                if model in caller.callers:
                    raise _invalid(f"model '{model}' can't unload itself: that would wait for the request it executes")
                await self._models.unload(model)
            asker.reply(call, True, None)
        except InferError as error:
            asker.reply(call, False, code_of(error))
        except Exception as error:  # a bug, but who asked must not wait for ever
            log.exception("a model's call failed")
            wrong = InferError(ErrorKind.INTERNAL, f"{type(error).__name__}: {error}")
            asker.reply(call, False, code_of(wrong))
        finally:
            self._backlogs.forget(asker, call)

    def _begin(self, work: Any) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def would_hang(callers: dict[str, list[Caller]], waiting: tuple[str, ...], target: str) -> bool:
    """Whether a request to ``target`` could never be executed: everybody who could do it waits, in the end for itself.

    ``waiting`` are the models that wait for this very request, each in an instance of its own.
    """
    if target not in callers:
        return False
    if waiting.count(target) >= len(callers[target]):
        return True
    stuck = {name for name, members in callers.items() if members}
    while True:
        left = {name for name in stuck if all(_is_stuck(member, stuck) for member in callers[name])}
        if left == stuck:
            return target in stuck
        stuck = left


def _is_stuck(member: Caller, stuck: Iterable[str]) -> bool:
    return member.is_executing and any(name in stuck for name in member.waits_for)


def _hang(model: str, target: str) -> InferError:
    return InferError(
        ErrorKind.UNAVAILABLE,
        f"model '{model}' calls '{target}', all of whose instances wait for this call or each other; that would never "
        f"end, so give '{target}' more instances or break the cycle",
    )


def _pass_on(asker: Asker, call: int, answer: InferResponse | InferError) -> None:
    if isinstance(answer, InferError):
        asker.reply(call, False, code_of(answer))
        return
    try:
        tensors = [pack(name, array, asker.arena) for name, array in answer.outputs.items()]
    except (OSError, ValueError) as error:
        asker.reply(call, False, code_of(InferError(ErrorKind.INTERNAL, f"the outputs can't be handed over: {error}")))
        return
    asker.reply(call, True, (tensors, dict(answer.parameters)), final=answer.final)


def _invalid(message: str) -> InferError:
    return InferError(ErrorKind.INVALID_ARGUMENT, message)
