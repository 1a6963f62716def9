"""HTTP routes of Triton's extensions beside inference: shared memory regions, log and trace settings."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from analyzer.runtime.http_exchange import Exchange
from analyzer.runtime.http_message import Head
from analyzer.runtime.log_settings import LogSettings
from analyzer.runtime.shared_memory import SharedMemory
from analyzer.runtime.tracing import Tracing
from analyzer.runtime.wire import Buffer, invalid

Route = tuple[str, str, Callable[..., None]]
"""Pattern of the path, method and what it does; named groups of the pattern are passed on in their order."""

_encode = msgspec.json.Encoder().encode
_T = TypeVar("_T")


class _SystemBody(msgspec.Struct):
    key: str
    byte_size: int
    offset: int = 0


class _Handle(msgspec.Struct):
    b64: bytes
    """Sent in base64."""


class _CudaBody(msgspec.Struct):
    raw_handle: _Handle
    byte_size: int
    device_id: int = 0


class SharedMemoryRoutes:
    """Register, unregister and status of shared memory, of the system and of CUDA devices."""

    def __init__(self, memory: SharedMemory) -> None:
        self._memory = memory

    def table(self) -> list[Route]:
        region = r"(?:/region/(?P<region>[^/]+))?"
        system, cuda = rf"/v2/systemsharedmemory{region}", rf"/v2/cudasharedmemory{region}"
        return [
            (f"{system}/status", "GET", self._status),
            (f"{system}/register", "POST", self._register),
            (f"{system}/unregister", "POST", self._unregister),
            (f"{cuda}/status", "GET", self._cuda_status),
            (f"{cuda}/register", "POST", self._cuda_register),
            (f"{cuda}/unregister", "POST", self._cuda_unregister),
        ]

    def _status(self, exchange: Exchange, _head: Head, _body: Buffer, region: str) -> None:
        shown = [
            {"name": item.name, "key": item.key, "offset": item.offset, "byte_size": item.byte_size}
            for item in self._memory.status(region)
        ]
        exchange.answer([_encode(shown)])

    def _register(self, exchange: Exchange, _head: Head, body: Buffer, region: str) -> None:
        wanted = parse_body(body, _SystemBody)
        self._memory.register(region, wanted.key, wanted.offset, wanted.byte_size)
        exchange.answer([], "")

    def _unregister(self, exchange: Exchange, _head: Head, _body: Buffer, region: str) -> None:
        self._memory.unregister(region)
        exchange.answer([], "")

    def _cuda_status(self, exchange: Exchange, _head: Head, _body: Buffer, region: str) -> None:
        shown = [
            {"name": item.name, "device_id": item.device, "byte_size": item.byte_size}
            for item in self._memory.cuda_status(region)
        ]
        exchange.answer([_encode(shown)])

    def _cuda_register(self, exchange: Exchange, _head: Head, body: Buffer, region: str) -> None:
        wanted = parse_body(body, _CudaBody)
        self._memory.register_cuda(region, wanted.raw_handle.b64, wanted.device_id, wanted.byte_size)
        exchange.answer([], "")

    def _cuda_unregister(self, exchange: Exchange, _head: Head, _body: Buffer, region: str) -> None:
        self._memory.unregister_cuda(region)
        exchange.answer([], "")


class SettingRoutes:
    """Log and trace settings, read and changed."""

    def __init__(self, log: LogSettings, tracing: Tracing) -> None:
        self._log = log
        self._tracing = tracing

    def table(self) -> list[Route]:
        trace = r"/v2(?:/models/(?P<model>[^/]+))?/trace/setting"
        return [
            (r"/v2/logging", "GET", self._logging),
            (r"/v2/logging", "POST", self._change_logging),
            (trace, "GET", self._trace),
            (trace, "POST", self._change_trace),
        ]

    def _logging(self, exchange: Exchange, _head: Head, _body: Buffer) -> None:
        exchange.answer([_encode(self._log.settings())])

    def _change_logging(self, exchange: Exchange, head: Head, body: Buffer) -> None:
        self._log.change(parse_body(body, dict[str, Any]))
        self._logging(exchange, head, body)

    def _trace(self, exchange: Exchange, _head: Head, _body: Buffer, model: str) -> None:
        exchange.answer([_encode(self._tracing.settings(model))])

    def _change_trace(self, exchange: Exchange, head: Head, body: Buffer, model: str) -> None:
        self._tracing.change(parse_body(body, dict[str, Any]), model)
        self._trace(exchange, head, body, model)


def parse_body(body: Buffer, kind: type[_T]) -> _T:
    """Raises InferError."""
    try:
        return msgspec.json.decode(bytes(body) or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"failed to parse the request JSON buffer: {error}") from None
