"""The sending half of HTTP/2 flow control for streams that live on: each has a window that many messages share."""

from perf_client.transports.http2 import DATA, DEFAULT_WINDOW, FRAME_LIMIT, frame


class StreamWindows:
    """``connection`` is what all streams together may send. A message that doesn't fit leaves piece by piece."""

    __slots__ = ("_initial", "_unsent", "_windows", "connection")

    def __init__(self) -> None:
        self.connection = DEFAULT_WINDOW
        self._initial = DEFAULT_WINDOW
        self._windows: dict[int, int] = {}
        self._unsent: dict[int, bytes] = {}

    def open(self, stream: int) -> None:
        self._windows[stream] = self._initial

    def forget(self, stream: int) -> None:
        self._windows.pop(stream, None)
        self._unsent.pop(stream, None)

    def send(self, stream: int, message: bytes) -> bytes:
        """The frames of it that may leave now; the rest waits for ``release``. The stream has no other message."""
        size = len(message)
        if size <= FRAME_LIMIT and size <= self.connection and size <= self._windows[stream]:
            self.connection -= size
            self._windows[stream] -= size
            return frame(DATA, 0, stream, message)
        self._unsent[stream] = message
        return self.release()

    def widen(self, stream: int, increment: int) -> None:
        """Take a WINDOW_UPDATE; stream 0 is the connection."""
        if stream == 0:
            self.connection += increment
        elif stream in self._windows:
            self._windows[stream] += increment

    def change_initial(self, size: int) -> None:
        """Take a new SETTINGS_INITIAL_WINDOW_SIZE, which moves the windows of open streams too (RFC 9113, 6.9.2)."""
        for stream in self._windows:
            self._windows[stream] += size - self._initial
        self._initial = size

    def release(self) -> bytes:
        """What may leave by now, of all that waits."""
        if not self._unsent:
            return b""
        frames = []
        for stream, unsent in list(self._unsent.items()):
            position = 0
            while (size := min(len(unsent) - position, self.connection, self._windows[stream], FRAME_LIMIT)) > 0:
                frames.append(frame(DATA, 0, stream, unsent[position : position + size]))
                position += size
                self.connection -= size
                self._windows[stream] -= size
            if position == len(unsent):
                del self._unsent[stream]
            elif position:
                self._unsent[stream] = unsent[position:]
        return b"".join(frames)
