"""HTTP/2 frames (RFC 9113): their numbers, and how the small ones are written."""

DEFAULT_WINDOW_BYTES = 65_535
WINDOW_LIMIT_BYTES = 2**31 - 1
DEFAULT_FRAME_BYTES = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Kind:
    """Frame types. Plain numbers: an enum costs more to compare, once a frame."""

    DATA = 0
    HEADERS = 1
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
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Code:
    """Error codes of RST_STREAM and GOAWAY."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    FLOW_CONTROL_ERROR = 3
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


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "malformed SETTINGS")
    return [
        (int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        for at in range(0, len(payload), 6)
    ]


def window_update_frame(stream_id: int, increment: int) -> bytes:
    return frame_head(4, Kind.WINDOW_UPDATE, 0, stream_id) + increment.to_bytes(4, "big")


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame_head(4, Kind.RST_STREAM, 0, stream_id) + code.to_bytes(4, "big")


def go_away_frame(last_id: int, code: int, message: str) -> bytes:
    text = message.encode()
    return frame_head(8 + len(text), Kind.GOAWAY, 0, 0) + last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + text


def unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ConnectionFault(Code.PROTOCOL_ERROR, "padding is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
