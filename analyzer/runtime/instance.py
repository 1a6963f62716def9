"""Instances of a model at work: each in a thread of its own, or on the loop where a thread would cost more."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from time import monotonic_ns
from typing import Protocol, TypeVar

from analyzer.runtime.backends.base import Answers, Execution, Instance, takes_device_tensors
from analyzer.runtime.device_tensor import on_host
from analyzer.runtime.request import CANCELLED, ErrorKind, InferError

log = logging.getLogger(__name__)

OnDone = Callable[[Execution, Answers], None]

UNLOADED = InferError(ErrorKind.UNAVAILABLE, "the model was unloaded before it could answer")


_A = TypeVar("_A")
_B = TypeVar("_B")


class Crew(Protocol):
    """The instances of a model: whichever is free takes what was handed over first."""

    size: int

    @property
    def takes_device_tensors(self) -> bool:
        """True where every instance uses inputs in device memory as they are."""
        ...

    @property
    def failure(self) -> str:
        """Why no instance can execute any more; empty while one can, or soon will."""
        ...

    @property
    def deaths(self) -> int:
        """How often an instance was lost, with all that it remembered, and made anew."""
        ...

    def start(self, execution: Execution, on_done: OnDone) -> None:
        """``on_done`` is called on the loop's thread, once."""
        ...

    async def stop(self) -> None:
        """Fails what no instance has begun, then frees the instances."""
        ...


class Completions:
    """Brings executions and answers back to the loop's thread. Those that end close together share one wake-up."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._done: deque[tuple[Callable[..., None], object, object]] = deque()
        self._is_awake = False

    def post(self, on_done: Callable[[_A, _B], None], execution: _A, answers: _B) -> None:
        """Called from any thread."""
        self._done.append((on_done, execution, answers))
        if not self._is_awake:
            self._is_awake = True
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:
                log.debug("an execution ended after its event loop was closed")

    def _deliver(self) -> None:
        # First the flag, then the queue: what is posted in between is delivered now or wakes the loop again.
        self._is_awake = False
        while self._done:
            on_done, execution, answers = self._done.popleft()
            on_done(execution, answers)


class InlineCrew:
    """Executes on the loop's thread, before ``start`` returns. One instance serves for all: none ever waits."""

    failure = ""
    deaths = 0

    def __init__(self, name: str, instance: Instance) -> None:
        self.size = 1
        self._runner = _Runner(name, instance)

    @property
    def takes_device_tensors(self) -> bool:
        return self._runner.takes_device_tensors

    def start(self, execution: Execution, on_done: OnDone) -> None:
        on_done(execution, self._runner.execute(execution))

    async def stop(self) -> None:
        self._runner.close()


class ThreadCrew:
    """A thread an instance, all on one inbox. A thread loads its instance, executes, and closes it.

    The threads are daemons: an execution that never ends must not keep the process alive after the drain time.
    """

    failure = ""
    deaths = 0

    def __init__(self, loads: Mapping[str, Callable[[], Instance]], loop: asyncio.AbstractEventLoop) -> None:
        """``loads`` gives what makes each instance, by the instance's name."""
        self.size = len(loads)
        self._completions = Completions(loop)
        self._inbox: SimpleQueue[tuple[Execution, OnDone] | None] = SimpleQueue()
        self._members = [_Member(name, load, self._inbox, self._completions) for name, load in loads.items()]

    @property
    def takes_device_tensors(self) -> bool:
        return all(member.takes_device_tensors for member in self._members)

    async def load(self) -> None:
        """Returns when every instance is loaded. Raises what the first to fail raised; then none is left."""
        loading = [asyncio.wrap_future(member.loaded) for member in self._members]
        try:
            results = await asyncio.gather(*loading, return_exceptions=True)
        except asyncio.CancelledError:
            self._dismiss()  # who gave up does not wait for the slowest to load
            raise
        error = next((result for result in results if isinstance(result, BaseException)), None)
        if error is not None:
            await self.stop()
            raise error

    async def resize(self, loads: Mapping[str, Callable[[], Instance]]) -> None:
        """Adds instances, or lets some go. Raises what a new one raised; then as many are there as before."""
        self._members = [member for member in self._members if not member.closed.done()]
        known = {member.name for member in self._members}
        free = [name for name in loads if name not in known]
        wanted = [*free, *loads][: max(0, len(loads) - self.size)]
        fresh = [_Member(name, loads[name], self._inbox, self._completions) for name in wanted]
        results = await asyncio.gather(*(asyncio.wrap_future(one.loaded) for one in fresh), return_exceptions=True)
        error = next((result for result in results if isinstance(result, BaseException)), None)
        loaded = [one for one, result in zip(fresh, results) if not isinstance(result, BaseException)]
        self._members += loaded
        self._let_go(self.size - len(loads) if error is None else len(loaded))
        if error is not None:
            raise error
        self.size = len(loads)

    def _let_go(self, count: int) -> None:
        """Whoever finds the notice first goes, behind what was handed over before. Nobody waits for it."""
        for _ in range(count):
            self._inbox.put(None)

    def start(self, execution: Execution, on_done: OnDone) -> None:
        self._inbox.put((execution, on_done))

    async def stop(self) -> None:
        while not self._inbox.empty():
            try:
                item = self._inbox.get_nowait()
            except Empty:
                break  # a thread was quicker
            if item is not None:
                execution, on_done = item
                on_done(execution, [UNLOADED for _ in execution.requests])
        self._dismiss()
        for member in self._members:
            await asyncio.wrap_future(member.closed)

    def _dismiss(self) -> None:
        for _ in self._members:
            self._inbox.put(None)


class _Member:
    """One thread of a crew."""

    def __init__(
        self,
        name: str,
        load: Callable[[], Instance],
        inbox: "SimpleQueue[tuple[Execution, OnDone] | None]",
        completions: Completions,
    ) -> None:
        self.name = name
        self._load = load
        self._inbox = inbox
        self._completions = completions
        self.takes_device_tensors = False
        self.loaded: Future[None] = Future()
        self.closed: Future[None] = Future()
        for future in (self.loaded, self.closed):
            # From here on who waits for it can give up waiting, but not cancel it under the thread's hands.
            future.set_running_or_notify_cancel()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        try:
            runner = _Runner(self.name, self._load())
        except BaseException as error:  # whatever it is belongs to who waits for the load
            self.loaded.set_exception(error)
            self.closed.set_result(None)
            return
        self.takes_device_tensors = runner.takes_device_tensors
        self.loaded.set_result(None)
        while (item := self._inbox.get()) is not None:
            execution, on_done = item
            self._completions.post(on_done, execution, runner.execute(execution))
            del item, execution, on_done  # an idle thread must not hold the last request's tensors
        runner.close()
        self.closed.set_result(None)


class _Runner:
    """Stamps an execution and turns what goes wrong in it into answers."""

    def __init__(self, name: str, instance: Instance) -> None:
        self._name = name
        self._worker = name, threading.get_native_id()  # it is made in the thread that it executes in
        self._instance = instance
        self._has_failed = False
        self.takes_device_tensors = takes_device_tensors(instance)

    def execute(self, execution: Execution) -> Answers:
        execution.start_ns = monotonic_ns()
        execution.worker = self._worker
        watch = execution.watch
        if watch is not None:
            watch.begin()
        try:
            answers = self._answers(execution)
        except InferError as error:
            answers = [error for _ in execution.requests]
        except (Exception, SystemExit) as error:
            self._log(error)
            message = f"model instance '{self._name}' failed: {type(error).__name__}: {error}"
            answers = [InferError(ErrorKind.INTERNAL, message) for _ in execution.requests]
        if watch is not None:
            watch.end()
        execution.end_ns = monotonic_ns()
        execution.input_end_ns = execution.input_end_ns or execution.start_ns
        execution.infer_end_ns = execution.infer_end_ns or execution.end_ns
        return answers

    def _answers(self, execution: Execution) -> Answers:
        if execution.requests[0].is_cancelled and all(request.may_be_skipped for request in execution.requests):
            return [CANCELLED for _ in execution.requests]
        if not self.takes_device_tensors:
            for request in execution.requests:
                if request.on_device:
                    request.inputs, request.on_device = on_host(request.inputs), False
        answers = self._instance.execute(execution)
        if len(answers) != len(execution.requests):
            raise ValueError(f"{len(execution.requests)} responses expected, {len(answers)} given")
        return answers

    def close(self) -> None:
        try:
            self._instance.close()
        except (Exception, SystemExit):
            log.warning("model instance '%s' failed while it was closed", self._name, exc_info=True)

    def _log(self, error: BaseException) -> None:
        """The first failure with its traceback; the rest are only counted, as they may come at every request."""
        if not self._has_failed:
            self._has_failed = True
            log.warning("model instance '%s' failed; later failures are only counted", self._name, exc_info=error)
