"""Answers of decoupled models that wait for a slow client, and end with one that is gone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np

from analyzer.runtime.decoupled import ResponseStream
from analyzer.runtime.instance import Completions
from analyzer.runtime.request import CANCELLED, InferRequest

Got = list[tuple[object, bool]]
SMALL = {"X": np.zeros(1, np.float32)}
LARGE = {"X": np.zeros(2**18, np.float32)}


class Sender:
    """A model's thread that sends until it is told that nobody reads any more."""

    def __init__(self, stream: ResponseStream, answer: dict[str, np.ndarray]) -> None:
        self.stream = stream
        self.sent = 0
        self.thread = threading.Thread(target=self._work, args=(answer,), daemon=True)
        self.thread.start()

    def _work(self, answer: dict[str, np.ndarray]) -> None:
        while self.stream.wait_writable():
            self.stream.send(answer, final=False)
            self.sent += 1


def play(scene: Callable[[InferRequest, ResponseStream, Got], Awaitable[None]]) -> None:
    async def run() -> None:
        request, got = InferRequest("m", {}, 0), []
        completions = Completions(asyncio.get_running_loop())
        stream = ResponseStream(
            completions, request, threading.get_ident(), lambda answer, final: got.append((answer, final))
        )
        request.watcher = stream.on_request_changed
        async with asyncio.timeout(20):
            await scene(request, stream, got)

    asyncio.run(run())


def test_model_waits_while_the_loop_has_not_taken_what_was_sent():
    async def scene(request, stream, got):
        sender = Sender(stream, LARGE)
        seen = -1
        while seen != sender.sent or not seen:  # the loop is kept: nothing is delivered
            seen = sender.sent
            sender.thread.join(0.05)
        assert seen == 1
        while len(got) < 5:
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.to_thread(sender.thread.join)

    play(scene)


def test_held_model_goes_on_when_the_client_reads_again():
    async def scene(request, stream, got):
        request.hold(True)
        sender = Sender(stream, SMALL)
        sender.thread.join(0.05)
        assert sender.sent == 0
        request.hold(False)
        while not got:
            await asyncio.sleep(0)
        request.cancel()
        await asyncio.to_thread(sender.thread.join)

    play(scene)


def test_cancelled_request_ends_once_and_what_is_sent_later_is_dropped_without_complaint():
    async def scene(request, stream, got):
        stream.send(SMALL, final=False)
        request.cancel()
        request.cancel()
        assert stream.is_cancelled
        assert stream.send(SMALL, final=False)
        assert stream.send(None, final=True)
        assert not stream.wait_writable()
        while len(got) < 2:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert got == [(SMALL, False), (CANCELLED, True)]

    play(scene)


def test_loop_itself_is_never_blocked():
    async def scene(request, stream, got):
        request.hold(True)
        assert stream.wait_writable()

    play(scene)
