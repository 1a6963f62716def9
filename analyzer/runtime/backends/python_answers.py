"""Answers that a decoupled model sends one by one, on their way from its process to the streams of their requests."""

import asyncio
from collections.abc import Sequence
from typing import Any

from analyzer.runtime.backends.base import Execution, Stream
from analyzer.runtime.backends.python_process import ModelProcess
from analyzer.runtime.backends.python_requests import unpacked_answer
from analyzer.runtime.request import InferError, InferRequest

_HELD_POLL_S = 0.005


class OpenStreams:
    """The streams of one process that have not ended, by the number of the execution and the request's place in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._streams: dict[tuple[int, int], tuple[Stream, InferRequest]] = {}

    def open(self, number: int, execution: Execution) -> None:
        for index, stream in enumerate(execution.streams):
            self._streams[number, index] = stream, execution.requests[index]

    def pass_on(self, process: ModelProcess, frame: Sequence[Any]) -> None:
        """One answer, or the end."""
        number, index, packed, final, call, freed = frame
        process.arena.give_back(freed)
        answer = unpacked_answer(packed, process.window)
        entry = self._streams.get((number, index))
        if entry is None:
            process.reply(call, True, False)
            return
        stream, request = entry
        stream.send(answer, final=final)
        if final:
            del self._streams[number, index]
        if call:
            self._acknowledge(process, call, request)

    def fail(self, error: InferError) -> None:
        """Ends them all: their process is gone."""
        streams, self._streams = self._streams, {}
        for stream, _ in streams.values():
            stream.send(error, final=True)

    def request(self, number: int, index: int) -> InferRequest | None:
        entry = self._streams.get((number, index))
        return None if entry is None else entry[1]

    def _acknowledge(self, process: ModelProcess, call: int, request: InferRequest) -> None:
        """Lets the model send on as soon as the client takes more."""
        if request.is_held and not request.is_cancelled:
            self._loop.call_later(_HELD_POLL_S, self._acknowledge, process, call, request)
        else:
            process.reply(call, True, True)
