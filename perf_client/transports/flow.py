"""The sending half of HTTP/2 flow control: messages that the peer's windows can't take yet wait here, in order."""

from collections import deque
from dataclasses import dataclass

from perf_client.transports.http2 import DEFAULT_WINDOW, FRAME_LIMIT, GrpcRequest, data_frame


@dataclass(slots=True)
class _Waiting:
    stream: int
    message: bytes
    window: int
    position: int = 0


class SendWindows:
    """``connection`` is what may be sent on all streams together, ``initial`` what a new stream may send."""

    __slots__ = ("connection", "initial", "waiting")

    def __init__(self) -> None:
        self.connection = DEFAULT_WINDOW
        self.initial = DEFAULT_WINDOW
        self.waiting: deque[_Waiting] = deque()

    def take(self, request: GrpcRequest) -> bool:
        """Whether the whole message may leave now. Nothing overtakes a message that waits."""
        size = request.window_bytes
        if size > self.connection or size > self.initial or self.waiting:
            return False
        self.connection -= size
        return True

    def wait(self, stream: int, request: GrpcRequest) -> None:
        self.waiting.append(_Waiting(stream, request.message(), self.initial))

    def forget(self, stream: int) -> None:
        """The stream ended before its message was sent."""
        if self.waiting:
            self.waiting = deque(entry for entry in self.waiting if entry.stream != stream)

    def widen(self, stream: int, increment: int) -> None:
        """Take a WINDOW_UPDATE; stream 0 is the connection."""
        if stream == 0:
            self.connection += increment
        for entry in self.waiting:
            if entry.stream == stream:
                entry.window += increment

    def change_initial(self, size: int) -> None:
        """Take a new SETTINGS_INITIAL_WINDOW_SIZE, which moves the windows of open streams too (RFC 9113, 6.9.2)."""
        for entry in self.waiting:
            entry.window += size - self.initial
        self.initial = size

    def release(self) -> bytes:
        """The DATA frames that may leave now."""
        if not self.waiting:
            return b""
        frames = []
        for entry in self.waiting:
            while self.connection > 0 and entry.window > 0 and entry.position < len(entry.message):
                size = min(self.connection, entry.window, FRAME_LIMIT)
                piece = entry.message[entry.position : entry.position + size]
                entry.position += len(piece)
                entry.window -= len(piece)
                self.connection -= len(piece)
                frames.append(data_frame(entry.stream, piece, last=entry.position == len(entry.message)))
        while self.waiting and self.waiting[0].position == len(self.waiting[0].message):
            self.waiting.popleft()
        return b"".join(frames)
