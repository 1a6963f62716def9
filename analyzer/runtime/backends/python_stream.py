"""Answers of a decoupled model on their way out of its process, and event loops for models that are written for one."""

import threading
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from analyzer.runtime.backends.pb_request import InferenceResponse
from analyzer.runtime.backends.pb_utils import TritonError
from analyzer.runtime.backends.python_channel import Channel

if TYPE_CHECKING:
    import asyncio

_UNHEARD_ANSWERS = 16
"""So many answers of a request may be on their way before its model waits until the server has room for more."""


class Outgoing:
    """The answers of one request. An error is the last of them."""

    def __init__(self, channel: Channel, number: int, index: int, check: Callable[[InferenceResponse], Any]) -> None:
        self._channel = channel
        self._number = number
        self._index = index
        self._check = check
        self._lock = threading.Lock()
        self._is_ended = self._has_failed = False
        self._count = 0

    def send(self, response: InferenceResponse | None, final: bool) -> bool:
        """False where the last answer was sent before. Waits while the client is slower than the model."""
        given = None if response is None else self._check(response)
        with self._lock:
            if self._is_ended:
                # Triton's models may send a final flag after an error.
                return self._has_failed and response is None
            self._has_failed = isinstance(given, TritonError)
            self._is_ended = final or self._has_failed
            self._count += 1
            waits = not self._is_ended and self._count % _UNHEARD_ANSWERS == 0
            arriving = self._channel.send_answer(
                self._number, self._index, given, final=self._is_ended, acknowledged=waits
            )
        if arriving is not None:
            arriving.next().result()
        return True

    def fail(self, error: TritonError) -> None:
        """Ends it, unless it has ended."""
        with self._lock:
            if not self._is_ended:
                self._is_ended = self._has_failed = True
                self._channel.send_answer(self._number, self._index, error, final=True, acknowledged=False)


class Background:
    """Event loops for ``async def execute``, made when the first one is seen."""

    def __init__(self) -> None:
        self._own: asyncio.AbstractEventLoop | None = None
        self._aside: asyncio.AbstractEventLoop | None = None

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """To its end, on this thread."""
        import asyncio

        if self._own is None:
            self._own = asyncio.new_event_loop()
        return self._own.run_until_complete(work)

    def start(self, work: Coroutine[Any, Any, Any], on_error: Callable[[BaseException], None]) -> None:
        """On a thread of its own, beside whatever comes next."""
        import asyncio

        if self._aside is None:
            self._aside = asyncio.new_event_loop()
            threading.Thread(target=self._aside.run_forever, name="async execute", daemon=True).start()

        async def watched() -> None:
            try:
                await work
            except (Exception, SystemExit) as error:
                on_error(error)

        asyncio.run_coroutine_threadsafe(watched(), self._aside)
