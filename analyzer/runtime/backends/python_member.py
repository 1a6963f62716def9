"""One instance of a model in its process: what it was given and has not answered, and its next life after a death."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic_ns
from typing import Any, Protocol

from analyzer.runtime.backends.base import Answers, Execution, ModelError, ModelFiles
from analyzer.runtime.backends.python_answers import OpenStreams
from analyzer.runtime.backends.python_calls import Calls
from analyzer.runtime.backends.python_frames import CALL, DONE, EXECUTE, FAILED, READY, SENT, START, Frame
from analyzer.runtime.backends.python_lives import Lives
from analyzer.runtime.backends.python_model import Task
from analyzer.runtime.backends.python_pace import Pace
from analyzer.runtime.backends.python_process import ModelProcess
from analyzer.runtime.backends.python_requests import packed_request, unpacked_answer
from analyzer.runtime.device_tensor import on_host
from analyzer.runtime.instance import OnDone
from analyzer.runtime.request import CANCELLED, ErrorKind, InferError
from analyzer.runtime.warmup import check_answers, warm_up_executions

log = logging.getLogger(__name__)

_FINISH_TIMEOUT_S = 30.0


class Team(Protocol):
    """The crew that a member belongs to."""

    def give_work(self) -> None:
        """Something became free."""
        ...

    def take_back(self, items: "list[Item]") -> None:
        """Executions that were handed over, but not begun."""
        ...


@dataclass(slots=True, eq=False)
class Item:
    execution: Execution
    on_done: OnDone
    number: int = 0
    handed_ns: int = 0


class Member:
    """Used on the event loop's thread only."""

    def __init__(
        self,
        files: ModelFiles,
        task: Task,
        team: Team,
        calls: Calls,
        *,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
    ) -> None:
        """``timeout_s``: how long an execution may take before its process is ended, 0 for ever."""
        self.model = task.model
        self.failure = ""
        self.deaths = 0
        self.is_ready = False
        self.waits_for: list[str] = []
        self.given: deque[Item] = deque()
        self._files = files
        self._task = task
        self._worker = task.instance, 0  # its thread is in another process
        self._team = team
        self._calls = calls
        self._loop = loop
        self._timeout_s = timeout_s
        self._process: ModelProcess | None = None
        self._loaded: asyncio.Future[str] = loop.create_future()
        self._restart: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._number = 0
        self._streams = OpenStreams(loop)
        self._alarm: asyncio.TimerHandle | None = None
        self._pace = Pace()
        self._lives = Lives()

    @property
    def name(self) -> str:
        return self._task.instance

    @property
    def room(self) -> int:
        """How many executions it may be given now."""
        return self._pace.depth - len(self.given) if self.is_ready else 0

    @property
    def is_executing(self) -> bool:
        return bool(self.given)

    @property
    def callers(self) -> tuple[str, ...]:
        if not self.given:
            return (self.model,)
        # Requests of a batch may come from different callers: those of the longest line are the likeliest to hang.
        return (*max((request.callers for request in self.given[0].execution.requests), key=len), self.model)

    async def start(self) -> None:
        """Returns when it is ready for work. Raises ModelError; then nothing is left of it."""
        self._loaded = self._loop.create_future()
        try:
            process = self._process = ModelProcess(self.name, self, self._loop)
        except OSError as error:
            raise ModelError(f"model '{self._task.model}': its process can't be started: {error}") from None
        try:
            await process.connect()
            process.send((START, {name: getattr(self._task, name) for name in Task.__slots__}, None))
            reason = await self._loaded
            if reason:
                raise ModelError(reason)
            await self._warm_up()
        except BaseException:
            process.kill()
            await asyncio.shield(process.ended)  # who gives up waiting must not take the end from the others
            raise
        self.is_ready = True
        self.failure = ""
        self._lives.begin(monotonic_ns())
        self._team.give_work()

    async def stop(self) -> None:
        """Returns when its process is gone: after what it executes, or at once where the caller gives up waiting."""
        self._is_stopping = True
        self.is_ready = False
        if self._restart is not None:
            self._restart.cancel()
            await asyncio.gather(self._restart, return_exceptions=True)
        process = self._process
        if process is None:
            return
        process.finish()
        try:
            await asyncio.wait_for(asyncio.shield(process.ended), _FINISH_TIMEOUT_S)
        except TimeoutError:
            log.warning("model instance '%s' did not end within %g s and is killed", self.name, _FINISH_TIMEOUT_S)
        finally:
            process.kill()
        await process.ended

    def hand(self, item: Item) -> None:
        """Sends it to the process."""
        process, execution = self._process, item.execution
        if process is None:
            self._team.take_back([item])
            return
        if execution.requests[0].is_cancelled and all(request.may_be_skipped for request in execution.requests):
            self._loop.call_soon(self._answer, item, _all(CANCELLED, execution))
            return
        self._number += 1
        item.number, item.handed_ns = self._number, 0 if self.given else monotonic_ns()
        execution.start_ns = item.handed_ns
        try:
            for request in execution.requests:
                if request.on_device:
                    request.inputs, request.on_device = on_host(request.inputs), False
            packed = [packed_request(request, process.arena) for request in execution.requests]
            process.send((EXECUTE, item.number, process.window.unread(), packed))
        except (OSError, ValueError, InferError) as error:
            wrong = InferError(ErrorKind.INTERNAL, f"the inputs could not be handed over: {error}")
            self._loop.call_soon(self._answer, item, _all(wrong, execution))
            return
        if execution.streams:
            self._streams.open(item.number, execution)
        self.given.append(item)
        if len(self.given) == 1:
            self._watch()

    def on_frame(self, frame: Frame) -> None:
        """What its process says. Raises where that makes no sense."""
        process = self._process
        if process is None:
            return
        kind, *rest = frame
        if kind == DONE:
            self._on_done(process, rest)
        elif kind == SENT:
            self._streams.pass_on(process, rest)
        elif kind == CALL:
            call, operation, arguments, freed = rest
            process.arena.give_back(freed)
            if operation == "cancelled":
                process.reply(call, True, self._is_cancelled(*arguments))
            else:
                self._calls.answer(self, process, call, operation, arguments)
        elif kind == READY:
            self._set_loaded("")
        elif kind == FAILED:
            self._set_loaded(rest[0])

    def on_end(self, how: str) -> None:
        """The process is gone: fails what it had begun, gives the rest back, and starts another one."""
        if self._process is not None:
            self._calls.end(self._process)
        was_ready, self.is_ready, self._process = self.is_ready, False, None
        self._set_loaded(f"model '{self.model}': its process {how} while it was loaded")
        text = f"the process of model instance '{self.name}' {how}"
        if was_ready:
            self.deaths += 1
            text += "; it is started again"
            log.error("%s", text)
            self._restart = self._loop.create_task(self._live_again(how))
        # A process executes in order, so it had begun the first. What comes after it can be executed by others.
        kept = 1 if was_ready and not self._task.is_decoupled else len(self.given)
        begun, waiting = list(self.given)[:kept], list(self.given)[kept:]
        self.given.clear()
        self._watch()
        lost = InferError(ErrorKind.UNAVAILABLE if self._is_stopping else ErrorKind.INTERNAL, text)
        self._streams.fail(lost)
        for item in begun:
            self._answer(item, [None if item.execution.streams else lost for _ in item.execution.requests])
        self._team.take_back(waiting)

    def _set_loaded(self, reason: str) -> None:
        if not self._loaded.done():
            self._loaded.set_result(reason)

    async def _warm_up(self) -> None:
        for sample, execution in warm_up_executions(self._files):
            done: asyncio.Future[Answers] = self._loop.create_future()
            self.hand(Item(execution, lambda _, answers, done=done: done.set_result(answers)))  # type: ignore[misc]  # mypy can't type a lambda's default
            check_answers(self._files, sample, await done)

    async def _live_again(self, how: str) -> None:
        """Starts the process until it lives. Waits longer each time, so that one that always dies costs little."""
        while True:
            delay_s, deaths = self._lives.end(monotonic_ns()), self._lives.quick_deaths
            if deaths:
                self.failure = f"the process of instance '{self.name}' ended {deaths} times in a row: it {how}"
                self._team.give_work()
            await asyncio.sleep(delay_s)
            try:
                await self.start()
                return
            except ModelError as error:
                how = f"could not be started again: {error}"
                log.error("%s", how)

    def _on_done(self, process: ModelProcess, frame: Sequence[Any]) -> None:
        number, start_ns, input_end_ns, infer_end_ns, packed, freed = frame
        process.arena.give_back(freed)
        if not self.given or self.given[0].number != number:
            raise ValueError(f"answers to execution {number}, which it was not given next")
        item, execution = self.given[0], self.given[0].execution
        answers = _answers(packed, execution, process)
        self.given.popleft()
        if self.given and not self.given[0].execution.start_ns:
            # About now; its own answer will tell exactly, but answers of a stream may come before that.
            self.given[0].execution.start_ns = monotonic_ns()
        self._watch()
        self._pace.took(infer_end_ns - start_ns)
        execution.start_ns = item.handed_ns or start_ns
        execution.input_end_ns, execution.infer_end_ns = input_end_ns, infer_end_ns
        # Work goes out before these answers do: the instance executes while they are written.
        self._team.give_work()
        self._answer(item, answers)

    def _answer(self, item: Item, answers: Answers) -> None:
        """Stamps what has no stamps, and hands the answers on."""
        execution = item.execution
        execution.end_ns = monotonic_ns()
        execution.worker = self._worker
        execution.start_ns = execution.start_ns or execution.end_ns
        execution.input_end_ns = execution.input_end_ns or execution.start_ns
        execution.infer_end_ns = execution.infer_end_ns or execution.end_ns
        item.on_done(execution, answers)

    def _is_cancelled(self, number: int, index: int) -> bool:
        request = self._streams.request(number, index)
        if request is not None:
            return request.is_cancelled
        return any(item.number == number and item.execution.requests[index].is_cancelled for item in self.given)

    def _watch(self) -> None:
        """Sets the alarm for the execution that is next to be answered."""
        if not self._timeout_s:
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(self._timeout_s, self._expire) if self.given else None

    def _expire(self) -> None:
        if self._process is not None:
            self._process.kill(f"was ended because it did not answer within {self._timeout_s:g} s")


def _answers(packed: Any, execution: Execution, process: ModelProcess) -> Answers:
    """Raises ValueError where they are not one for each request."""
    if isinstance(packed, str):
        return _all(InferError(ErrorKind.INTERNAL, packed), execution)
    if packed is None:
        return [None for _ in execution.requests]
    if len(packed) != len(execution.requests):
        raise ValueError(f"{len(packed)} answers to {len(execution.requests)} requests")
    return [unpacked_answer(one, process.window) for one in packed]


def _all(error: InferError, execution: Execution) -> Answers:
    return [error for _ in execution.requests]
