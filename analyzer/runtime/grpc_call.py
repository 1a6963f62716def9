"""gRPC over HTTP/2: messages cut from a stream's data, answers and statuses as header blocks and length prefixes."""

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from analyzer.runtime.body_memory import BodyMemory
from analyzer.runtime.frames import Flag, Kind, WholeAnswer, frame_head
from analyzer.runtime.grpc_messages import PREFIX_BYTES, MessageReader
from analyzer.runtime.header_memo import Headers
from analyzer.runtime.http2_writer import STREAM_WINDOW_BYTES, Http2Writer
from analyzer.runtime.http_message import decompressed
from analyzer.runtime.request import ErrorKind, InferError, InferRequest
from analyzer.runtime.wire import Buffer

OK = 0
_OUTSTANDING_LIMIT = 1024  # messages of a stream under way; the rest waits, and so does its client at last

log = logging.getLogger(__name__)


def _literal(name: str, value: str) -> bytes:
    """An HPACK literal that is not indexed (RFC 7541, 6.2.2), so that our answers need no table."""
    return b"\x00" + _string(name.encode()) + _string(value.encode())


def _string(data: bytes) -> bytes:
    if len(data) < 0x7F:
        return bytes((len(data),)) + data
    rest, out = len(data) - 0x7F, bytearray(b"\x7f")
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out) + data


_STATUS_200 = b"\x88"  # entry 8 of HPACK's static table
_HEADERS_BLOCK = _STATUS_200 + _literal("content-type", "application/grpc")
_OK_BLOCK = _literal("grpc-status", "0")


_ANSWER = WholeAnswer(_HEADERS_BLOCK, _OK_BLOCK)
_MESSAGE_LIMIT_BYTES = 2500  # three times that when escaped, which fits any peer's limit on headers


def answer_headers(stream_id: int) -> bytes:
    return frame_head(len(_HEADERS_BLOCK), Kind.HEADERS, Flag.END_HEADERS, stream_id) + _HEADERS_BLOCK


def status_trailers(stream_id: int, status: int, message: str, *, with_headers: bool) -> bytes:
    """``with_headers``: nothing was sent before, so this one block is the whole answer."""
    message = message.encode()[:_MESSAGE_LIMIT_BYTES].decode(errors="ignore")
    text = quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}~")
    block = _literal("grpc-status", str(status)) + (_literal("grpc-message", text) if text else b"")
    if with_headers:
        block = _HEADERS_BLOCK + block
    return frame_head(len(block), Kind.HEADERS, Flag.END_HEADERS | Flag.END_STREAM, stream_id) + block


@dataclass(frozen=True, slots=True)
class Method:
    """``start`` gets every message. A ``streaming`` method may get any number, another exactly one."""

    start: "Callable[[GrpcCall, Buffer], None]"
    streaming: bool = False


@dataclass(frozen=True, slots=True)
class GrpcHead:
    """What the headers of a call say. ``fault`` is why it can't be served."""

    method: Method
    encoding: str = ""
    fault: InferError | None = None


def read_head(methods: dict[bytes, Method], headers: Headers) -> GrpcHead:
    fields = dict(headers)
    path = fields.get(b":path", b"")
    method = methods.get(path)
    encoding = fields.get(b"grpc-encoding", b"identity").decode("latin-1")
    fault = None
    if method is None:
        fault = InferError(ErrorKind.UNIMPLEMENTED, f"unknown method {path.decode('latin-1')}")
    elif fields.get(b":method") != b"POST" or not fields.get(b"content-type", b"").startswith(b"application/grpc"):
        fault = InferError(ErrorKind.INVALID_ARGUMENT, "not a gRPC call: it must be a POST of application/grpc")
    elif encoding not in ("identity", "gzip", "deflate"):
        fault = InferError(ErrorKind.UNIMPLEMENTED, f"message encoding '{encoding}' is not supported; use gzip")
    return GrpcHead(method or _NOTHING, "" if encoding == "identity" else encoding, fault)


class GrpcCall:
    """One call: its messages as they arrive, and its answers. Answers to a call that is gone are dropped."""

    __slots__ = ("_backlog", "_bodies", "_head", "_headers_sent", "_is_held", "_is_taking", "_limit_bytes", "_messages",
                 "_outstanding", "_reader", "_remote_done", "_requests", "_stream_id", "_writer",
                 "unacknowledged_bytes", "window_bytes")  # fmt: skip

    def __init__(
        self, writer: Http2Writer, stream_id: int, head: GrpcHead, limit_bytes: int, bodies: BodyMemory
    ) -> None:
        self._writer = writer
        self._bodies = bodies
        self._backlog: deque[Buffer] | None = None
        self._is_held = False  # the client leaves our answers lying
        self._is_taking = False  # from the backlog
        self._requests: list[InferRequest] | None = None
        self._stream_id = stream_id
        self._head = head
        self._limit_bytes = limit_bytes
        self._reader: MessageReader | None = None
        self._messages = 0
        self._outstanding = 0
        self._remote_done = False
        self._headers_sent = False
        self.unacknowledged_bytes = 0
        self.window_bytes = STREAM_WINDOW_BYTES

    def data(self, payload: bytes, end: bool) -> None:
        if end and self._reader is None and self._head.fault is None and payload[:1] == b"\x00":
            length = int.from_bytes(payload[1:PREFIX_BYTES], "big")
            if length == len(payload) - PREFIX_BYTES and length <= self._limit_bytes:
                self._remote_done = True
                self._start(payload[PREFIX_BYTES:])
                return
        try:
            self._collect(payload, end)
        except InferError as error:
            self.fail(error, reset=not end)

    @property
    def is_ended(self) -> bool:
        return self._remote_done

    @property
    def missing(self) -> int | None:
        if self._remote_done:
            return None
        if self._reader is not None and self._reader.is_inside:
            return self._reader.filled_bytes
        return None if self._head.method.streaming else 0

    def track(self, request: InferRequest) -> None:
        """A request that this call waits for the answers of."""
        if self._requests is None:
            self._requests = [request]
        else:
            self._requests.append(request)
        if self._is_held:
            request.hold(True)

    def cancel(self) -> None:
        """The client wants no answer any more. What a model has begun runs on, and its answer is dropped."""
        for request in self._requests or ():
            request.cancel()
        if self._backlog:
            self._writer.acknowledge(sum(map(len, self._backlog)))
        self._requests = self._backlog = None

    def resume(self) -> None:
        self._hold(False)
        self._take_backlog()

    def respond(self, message: list[Buffer]) -> None:
        """The one answer of a unary call."""
        length = sum(map(len, message))
        prefix = length.to_bytes(PREFIX_BYTES, "big")  # its first byte: not compressed
        self._writer.respond(self._stream_id, _ANSWER, PREFIX_BYTES + length, [prefix, *message])

    def send(self, message: list[Buffer], request: InferRequest | None, *, final: bool = True) -> None:
        """One answer of a stream. The stream ends when each message that came in has its final one.

        ``request`` is what it answers, None where the message could not be made a request.
        """
        prefix = sum(map(len, message)).to_bytes(PREFIX_BYTES, "big")
        headers = b"" if self._headers_sent else answer_headers(self._stream_id)
        self._headers_sent = True
        if not self._writer.send(self._stream_id, headers, [prefix, *message]):
            self._hold(True)
        if final:
            self.answered(request)

    def answered(self, request: InferRequest | None) -> None:
        """A message that came in has all its answers."""
        if request is not None and self._requests is not None:
            self._requests.remove(request)
        self._outstanding -= 1
        if self._backlog:
            self._take_backlog()
        self._end_if_done()

    def fail(self, error: InferError, *, reset: bool = False) -> None:
        if self._head.method.streaming:
            self.cancel()
        status = error.kind.value[1]
        block = status_trailers(self._stream_id, status, error.message, with_headers=not self._headers_sent)
        self._writer.finish(self._stream_id, block, reset=reset)

    def _hold(self, held: bool) -> None:
        self._is_held = held
        for request in self._requests or ():
            request.hold(held)

    def _take(self, message: Buffer) -> None:
        """Starts a message, or puts it aside while the client has much to take before."""
        if not self._backlog and not self._is_held and self._outstanding < _OUTSTANDING_LIMIT:
            self._start(message)
            return
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(message)
        self._writer.acknowledge(-len(message))
        self.unacknowledged_bytes -= len(message)

    def _take_backlog(self) -> None:
        if self._is_taking:
            return  # a message that is refused at once calls this from within
        self._is_taking = True
        while self._backlog and not self._is_held and self._outstanding < _OUTSTANDING_LIMIT:
            message = self._backlog.popleft()
            self._writer.acknowledge(len(message))
            self._writer.acknowledge_stream(self._stream_id, self, len(message))
            self._start(message)
        self._is_taking = False

    def _start(self, message: Buffer) -> None:
        self._outstanding += 1
        self._messages += 1
        try:
            self._head.method.start(self, message)
        except InferError as error:
            self.fail(error)
        except Exception:
            log.exception("gRPC call failed")
            self.fail(InferError(ErrorKind.INTERNAL, "internal error; the server's log has the details"))

    def _collect(self, payload: bytes, end: bool) -> None:
        if self._head.fault is not None:
            raise self._head.fault
        if self._reader is None:
            self._reader = MessageReader(self._limit_bytes, self._bodies)
        for flag, message in self._reader.feed(payload):
            if self._messages and not self._head.method.streaming:
                raise InferError(ErrorKind.UNIMPLEMENTED, "this call takes one message, not a stream")
            self._take(self._plain(flag, message))
        if not end:
            return
        self._remote_done = True
        if self._reader.is_inside:
            raise InferError(ErrorKind.INTERNAL, "the call ended inside a message")
        if self._head.method.streaming:
            self._end_if_done()
        elif not self._messages:
            raise InferError(ErrorKind.UNIMPLEMENTED, "the call carries no message")

    def _plain(self, flag: int, message: Buffer) -> Buffer:
        if not flag:
            return message
        if flag != 1 or not self._head.encoding:
            raise InferError(ErrorKind.INTERNAL, "a message is marked compressed but the call names no grpc-encoding")
        return self._bodies.keep(decompressed(message, self._head.encoding, self._limit_bytes))

    def _end_if_done(self) -> None:
        if self._remote_done and not self._outstanding and not self._backlog:
            block = status_trailers(self._stream_id, OK, "", with_headers=not self._headers_sent)
            self._writer.finish(self._stream_id, block)


def _no_method(call: GrpcCall, _message: Buffer) -> None:
    call.fail(InferError(ErrorKind.UNIMPLEMENTED, "unknown method"))


_NOTHING = Method(_no_method, streaming=True)
