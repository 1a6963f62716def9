"""Flow control of what HTTP/2 streams send: DATA frames as far as the peer's windows allow, the rest kept in order."""

from collections import deque
from collections.abc import Mapping

from analyzer.runtime.frames import (
    DEFAULT_FRAME_BYTES,
    DEFAULT_WINDOW_BYTES,
    WINDOW_LIMIT_BYTES,
    Code,
    ConnectionFault,
    Kind,
    Setting,
    frame_head,
)
from analyzer.runtime.wire import Buffer


class Outbox:
    """A stream is known here only while it has something waiting or a window that differs from the initial one."""

    def __init__(self) -> None:
        self.window_bytes = DEFAULT_WINDOW_BYTES
        self.initial_bytes = DEFAULT_WINDOW_BYTES
        self.frame_bytes = DEFAULT_FRAME_BYTES
        self._windows: dict[int, int] = {}
        self._waiting: dict[int, deque[memoryview]] = {}
        self._trailers: dict[int, bytes] = {}
        self.waiting_bytes = 0

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def is_waiting(self, stream_id: int) -> bool:
        return stream_id in self._waiting

    def fits(self, stream_id: int, length: int) -> bool:
        """True where ``length`` bytes may go out at once as one frame, taken from the connection's window by that.

        Only for a stream that sends nothing else, whose own window need not be remembered.
        """
        limit = min(self.window_bytes, self.initial_bytes, self.frame_bytes)
        if length > limit or self._waiting or stream_id in self._windows:
            return False
        self.window_bytes -= length
        return True

    def send(self, stream_id: int, parts: list[Buffer], trailers: bytes = b"") -> list[Buffer]:
        """The frames that may go out now. ``trailers`` (a whole frame) end the stream behind the data."""
        queue = self._waiting.setdefault(stream_id, deque())
        for part in parts:
            if len(part):
                queue.append(memoryview(part).cast("B"))
                self.waiting_bytes += len(queue[-1])
        if trailers:
            self._trailers[stream_id] = trailers
        return self._pump(stream_id)

    def grant(self, stream_id: int, increment: int) -> list[Buffer]:
        """A WINDOW_UPDATE; stream 0 is the connection. The caller knows that the stream is open."""
        if stream_id:
            self._windows[stream_id] = _grown(self._windows.get(stream_id, self.initial_bytes), increment)
            return self._pump(stream_id) if stream_id in self._waiting else []
        was_shut = self.window_bytes <= 0
        self.window_bytes = _grown(self.window_bytes, increment)
        return self._pump_all() if was_shut else []  # else what waits does so for windows of its own

    def obey(self, settings: Mapping[int, int]) -> list[Buffer]:
        """The peer's SETTINGS. Gives the frames that may go out by them."""
        self.frame_bytes = settings.get(Setting.MAX_FRAME_SIZE, self.frame_bytes)
        return self.set_initial(settings.get(Setting.INITIAL_WINDOW_SIZE, self.initial_bytes))

    def set_initial(self, size: int) -> list[Buffer]:
        """SETTINGS_INITIAL_WINDOW_SIZE: open streams move by the difference, which may leave them below zero."""
        change = size - self.initial_bytes
        if not change:
            return []
        self.initial_bytes = size
        for stream_id, window in self._windows.items():
            self._windows[stream_id] = _grown(window, change)
        return self._pump_all()

    def forget(self, stream_id: int) -> None:
        self._windows.pop(stream_id, None)
        self.waiting_bytes -= sum(map(len, self._waiting.pop(stream_id, ())))
        self._trailers.pop(stream_id, None)

    def _pump_all(self) -> list[Buffer]:
        frames: list[Buffer] = []
        for stream_id in list(self._waiting):
            if self.window_bytes <= 0:
                break
            frames += self._pump(stream_id)
        return frames

    def _pump(self, stream_id: int) -> list[Buffer]:
        queue = self._waiting[stream_id]
        window = self._windows.get(stream_id, self.initial_bytes)
        frames: list[Buffer] = []
        while queue:
            part = queue[0]
            size = min(len(part), window, self.window_bytes, self.frame_bytes)
            if size <= 0:
                self._windows[stream_id] = window
                return frames
            frames.append(frame_head(size, Kind.DATA, 0, stream_id))
            frames.append(part[:size])
            window -= size
            self.window_bytes -= size
            self.waiting_bytes -= size
            if size == len(part):
                queue.popleft()
            else:
                queue[0] = part[size:]
        self._windows[stream_id] = window
        del self._waiting[stream_id]
        trailers = self._trailers.get(stream_id)
        if trailers:
            frames.append(trailers)
            self.forget(stream_id)
        return frames


def _grown(window: int, change: int) -> int:
    if window + change > WINDOW_LIMIT_BYTES:
        raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "flow-control window grew beyond 2**31-1 bytes")
    return window + change
