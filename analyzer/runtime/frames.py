"""HTTP/2 frames (RFC 9113): their numbers, and how the small ones are written."""

DEFAULT_WINDOW_BYTES = 65_535
WINDOW_LIMIT_BYTES = 2**31 - 1
DEFAULT_FRAME_BYTES = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Kind:
    """Frame types. Plain numbers: an enum costs more to compare, once a frame."""

    DATA = 0
    HEADERS = 1
    PRIORITY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PUSH_PROMISE = 5
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


class Flag:
    END_STREAM = 0x1
    ACK = 0x1
    END_HEADERS = 0x4
    PADDED = 0x8
    PRIORITY = 0x20


class Setting:
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code:
    """Error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11


class WholeAnswer:
    """The header and trailer blocks of an answer, as frames that only lack their stream's number."""

    __slots__ = ("headers", "headers_start", "trailers", "trailers_start")

    def __init__(self, headers: bytes, trailers: bytes) -> None:
        end = Flag.END_HEADERS | Flag.END_STREAM
        self.headers, self.trailers = headers, trailers
        self.headers_start = frame_head(len(headers), Kind.HEADERS, Flag.END_HEADERS, 0)[:5]
        self.trailers_start = frame_head(len(trailers), Kind.HEADERS, end, 0)[:5]


class ConnectionFault(Exception):
    """The connection can't go on: GOAWAY with ``code``, then close."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    return (length << 48 | kind << 40 | flags << 32 | stream_id).to_bytes(9, "big")


def settings_frame(settings: dict[int, int]) -> bytes:
    body = b"".join(key.to_bytes(2, "big") + value.to_bytes(4, "big") for key, value in settings.items())
    return frame_head(len(body), Kind.SETTINGS, 0, 0) + body


def read_settings(payload: bytes) -> dict[int, int]:
    """By key, the last one where a key comes again: to obey thousands of them one by one is what an attack asks for."""
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed SETTINGS")
    settings: dict[int, int] = {}
    for at in range(0, len(payload), 6):
        key, value = int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big")
        if key == Setting.INITIAL_WINDOW_SIZE and value > WINDOW_LIMIT_BYTES:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
        if key == Setting.MAX_FRAME_SIZE and not DEFAULT_FRAME_BYTES <= value < 2**24:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
        if key == Setting.ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is neither 0 nor 1")
        settings[key] = value
    return settings


FIXED_SIZES = {Kind.PRIORITY: 5, Kind.RST_STREAM: 4, Kind.PING: 8, Kind.WINDOW_UPDATE: 4}
_OF_STREAMS = frozenset((Kind.DATA, Kind.HEADERS, Kind.PRIORITY, Kind.RST_STREAM, Kind.CONTINUATION))
_OF_CONNECTIONS = frozenset((Kind.SETTINGS, Kind.PING, Kind.GOAWAY))


def check_frame(kind: int, stream_id: int, length: int) -> None:
    """Whether a frame of this type may have this size and be where it is. Raises ConnectionFault."""
    if length != FIXED_SIZES.get(kind, length):
        raise ConnectionFault(
            Code.FRAME_SIZE_ERROR, f"frame of type {kind} has {length} bytes, not {FIXED_SIZES[kind]}"
        )
    if (kind in _OF_STREAMS) if stream_id == 0 else (kind in _OF_CONNECTIONS):
        raise ConnectionFault(Code.PROTOCOL_ERROR, f"frame of type {kind} on stream {stream_id}")


def window_update_frame(stream_id: int, increment: int) -> bytes:
    return frame_head(4, Kind.WINDOW_UPDATE, 0, stream_id) + increment.to_bytes(4, "big")


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame_head(4, Kind.RST_STREAM, 0, stream_id) + code.to_bytes(4, "big")


def go_away_frame(last_id: int, code: int, message: str) -> bytes:
    text = message.encode()
    return frame_head(8 + len(text), Kind.GOAWAY, 0, 0) + last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + text


def without_priority(payload: bytes) -> bytes:
    """A header block's frame without what it says of its priority, which asks nothing of us."""
    if len(payload) < FIXED_SIZES[Kind.PRIORITY]:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
    return payload[FIXED_SIZES[Kind.PRIORITY] :]


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
