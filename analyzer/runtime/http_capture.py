"""HTTP routes of our own: captures of the running server, started and stopped by a client."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec

from analyzer.runtime.capture import Capture
from analyzer.runtime.http_exchange import Exchange
from analyzer.runtime.http_extensions import Route, parse_body
from analyzer.runtime.http_message import Head
from analyzer.runtime.request import InferError
from analyzer.runtime.wire import Buffer

_encode = msgspec.json.Encoder().encode


class _StartBody(msgspec.Struct):
    collect: tuple[str, ...] = ("spans",)


class CaptureRoutes:
    """What can be captured, and the begin and the end of a capture. The files go where the server was told to."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._tasks: set[asyncio.Task[None]] = set()

    def table(self) -> list[Route]:
        return [
            (r"/v2/analyzer/capture", "GET", self._probe),
            (r"/v2/analyzer/capture/start", "POST", self._start),
            (r"/v2/analyzer/capture/stop", "POST", self._stop),
        ]

    def _probe(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        self._answer(exchange, self._capture.probe())

    def _start(self, exchange: Exchange, _head: Head, body: Buffer) -> None:
        self._answer(exchange, self._capture.start(parse_body(body, _StartBody).collect))

    def _stop(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        self._answer(exchange, self._capture.stop())

    def _answer(self, exchange: Exchange, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.ensure_future(_answer_when_done(exchange, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _answer_when_done(exchange: Exchange, work: Coroutine[Any, Any, object]) -> None:
    try:
        exchange.answer([_encode(await work)])
    except InferError as error:
        exchange.fail(error)
