"""An ensemble: a graph of steps, each a request to another model, run in parallel wherever the tensors allow."""

import asyncio
from collections.abc import Iterable
from functools import partial
from time import monotonic_ns

import numpy as np
from numpy.typing import NDArray

from analyzer.runtime.device_tensor import on_device, on_host
from analyzer.runtime.durations import Durations
from analyzer.runtime.ensemble_steps import Lookup, Step
from analyzer.runtime.request import CANCELLED, ErrorKind, InferError, InferRequest, InferResponse, Reply, Tensors
from analyzer.runtime.servable import Drained, Servable, call_reply, count_refusal
from analyzer.runtime.signature import Signature
from analyzer.runtime.spans import ModelSpans, RunSpans
from analyzer.runtime.statistics import FailureReason, Statistics
from analyzer.runtime.traces import Trace


class Ensemble:
    """A Servable that calls others. It holds no queue: its figures are the sums of its steps'."""

    def __init__(
        self,
        signature: Signature,
        statistics: Statistics,
        steps: tuple[Step, ...],
        lookup: Lookup,
        loop: asyncio.AbstractEventLoop,
        *,
        spans: ModelSpans | None = None,
    ) -> None:
        self.signature = signature
        self.spans = spans
        self.statistics = statistics
        self.steps = steps
        self.lookup = lookup
        self._takers: dict[str, list[Step]] = {}
        for step in steps:
            for _, tensor in step.inputs:
                self._takers.setdefault(tensor, []).append(step)
        self._loop = loop
        self._in_flight = Drained(loop)

    @property
    def pending_count(self) -> int:
        return 0

    @property
    def takes_device_tensors(self) -> bool:
        """What is given is passed on as it is, so a step that can't use it copies it by itself."""
        return True

    @property
    def failure(self) -> str:
        """Empty while every model that it calls can be reached."""
        try:
            fails = any(self.lookup(step.model, step.version).failure for step in self.steps)
        except InferError:
            fails = True
        return "a model that it calls is not ready" if fails else ""

    def submit(self, request: InferRequest, reply: Reply) -> None:
        rows, _ = self.signature.check(request)
        self._in_flight.count += 1
        # In a turn of its own: a step may refuse its request, and no answer may come before this returns.
        self._loop.call_soon(_Run(self, request, reply, rows).advance, self.steps)

    def kept_on_device(self, step: Step, maker: Servable, request: InferRequest) -> frozenset[str]:
        """The outputs of a step that everyone who takes them can use in device memory."""
        if not maker.takes_device_tensors:
            return frozenset()
        wanted = request.requested or self.signature.output_names
        return frozenset(
            name
            for tensor, name in step.outputs
            if (tensor not in wanted or tensor in request.keep_on_device)
            and all(
                self.lookup(taker.model, taker.version).takes_device_tensors for taker in self._takers.get(tensor, ())
            )
        )

    async def drain(self) -> None:
        await self._in_flight.wait()

    async def close(self) -> None:
        """Nothing is its own."""

    def finish(self, reply: Reply, answer: InferResponse | InferError) -> None:
        call_reply(reply, answer)
        self._in_flight.leave(1)


class _Run:
    """One request on its way through the steps."""

    def __init__(self, ensemble: Ensemble, request: InferRequest, reply: Reply, rows: int) -> None:
        self._ensemble = ensemble
        spans = ensemble.spans
        self._trace = RunSpans(spans, request, rows) if spans is not None and spans.ring.is_on else None
        self._request = request
        self._reply = reply
        self._rows = rows
        self._spent = Durations()
        self._tensors: Tensors = {}
        self._far: set[str] = set()  # those on a device
        for name, array in request.inputs.items():
            self._keep(name, array)
        self._running: list[InferRequest] = []
        request.watcher = self._on_request_changed
        self._error: InferError | None = None
        self._waiting: list[Step] = []

    def advance(self, steps: Iterable[Step]) -> None:
        """Starts each step whose tensors are all there; ends the run when nothing is left to wait for."""
        self._waiting = []
        for step in steps:
            if self._error is None and all(tensor in self._tensors for _, tensor in step.inputs):
                self._start(step)
            else:
                self._waiting.append(step)
        if not self._running:
            self._end()

    def _on_request_changed(self) -> None:
        if self._request.is_cancelled:
            self._error = self._error or CANCELLED
            for request in list(self._running):
                request.cancel()

    def _start(self, step: Step) -> None:
        try:
            model = self._ensemble.lookup(step.model, step.version)
            request = self._request_to(step, model)
            if self._trace is not None:
                self._trace.begin(step.model, model.statistics.version, request)
            if isinstance(outer := self._request.account, Trace):
                request.account = outer.step(model.signature, model.statistics.version, request, self._spent)
            self._submit(step, model, request)
            self._running.append(request)
        except InferError as error:
            message = f"in ensemble '{self._ensemble.signature.model}', {error.message}"
            self._error = InferError(error.kind, message)

    def _submit(self, step: Step, model: Servable, request: InferRequest) -> None:
        try:
            model.submit(request, partial(self._on_reply, step, request))
        except InferError as error:
            count_refusal(model.statistics, request, error)
            raise

    def _request_to(self, step: Step, model: Servable) -> InferRequest:
        """The same arrays that the step before gave: nothing is copied from step to step."""
        return InferRequest(
            model=step.model,
            inputs={name: self._tensors[tensor] for name, tensor in step.inputs},
            arrival_ns=monotonic_ns(),
            version=step.version,
            id=self._request.id,
            requested=tuple(name for _, name in step.outputs),
            parameters=self._request.parameters,
            callers=self._request.callers,
            account=self._spent,
            on_device=any(tensor in self._far for _, tensor in step.inputs),
            keep_on_device=self._ensemble.kept_on_device(step, model, self._request),
        )

    def _on_reply(self, step: Step, request: InferRequest, answer: InferResponse | InferError) -> None:
        self._running.remove(request)
        if self._trace is not None:
            self._trace.end(request, isinstance(answer, InferError))
        if isinstance(request.account, Trace):
            request.account.answered(answer)
        if isinstance(answer, InferError):
            self._error = self._error or answer
        else:
            for tensor, name in step.outputs:
                self._keep(tensor, answer.outputs[name])
        self.advance(self._waiting)

    def _keep(self, tensor: str, array: NDArray[np.generic]) -> None:
        if on_device(array) is None:
            self._tensors[tensor] = _read_only(array)
        else:
            self._tensors[tensor] = array
            self._far.add(tensor)

    def _end(self) -> None:
        ensemble, request = self._ensemble, self._request
        statistics = ensemble.statistics
        now_ns = monotonic_ns()
        total_ns = now_ns - request.arrival_ns
        names = request.requested or ensemble.signature.output_names
        if self._error is None and not all(name in self._tensors for name in names):
            # Optional inputs that were not given can leave a step without its tensors.
            self._error = InferError(
                ErrorKind.INVALID_ARGUMENT,
                f"in ensemble '{ensemble.signature.model}', the inputs given are not enough for all of its steps",
            )
        if self._trace is not None:
            self._trace.close(self._error is not None)
        if self._error is not None:
            is_cancelled = self._error.kind is ErrorKind.CANCELLED
            statistics.record_failure(total_ns, FailureReason.CANCELED if is_cancelled else FailureReason.OTHER)
            ensemble.finish(self._reply, self._error)
            return
        statistics.record_requests(1, self._rows, total_ns, self._spent.queue_ns)
        statistics.record_latency(total_ns, self._spent.queue_ns, self._spent, now_ns)
        statistics.record_execution(1, self._rows, self._spent, now_ns)
        if request.account is not None:
            request.account.add(self._spent)
        outputs = {name: self._tensors[name] for name in names}
        if self._far and not self._far.isdisjoint(outputs.keys() - request.keep_on_device):
            outputs |= on_host({name: outputs[name] for name in outputs.keys() - request.keep_on_device})
        ensemble.finish(self._reply, InferResponse(ensemble.signature.model, statistics.version, request.id, outputs))


def _read_only(array: NDArray[np.generic]) -> NDArray[np.generic]:
    """The same memory, not writable: several steps may read it, and one that changes its input gets a copy."""
    view = array.view()
    view.flags.writeable = False
    return view
