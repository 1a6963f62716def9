"""Questions over HTTP: KServe v2 metadata, Triton's configuration and statistics extensions."""

import asyncio
from base64 import b64encode
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec

from perf_client.control import Refused, config_of, server_times_of
from perf_client.profile import ServerTimes
from perf_client.regions import RegionName
from perf_client.target import ModelConfig, ModelMetadata, Target
from perf_client.transports.base import BadAnswer
from perf_client.transports.dial import Dial
from perf_client.transports.http import Head, parse_head
from perf_client.wire import model_path

_TIMEOUT_S = 10.0
_BODY_LIMIT_BYTES = 64 << 20

Answer = TypeVar("Answer")


class _Duration(msgspec.Struct, frozen=True):
    count: int = 0
    ns: int = 0


class _InferStatistics(msgspec.Struct, frozen=True):
    success: _Duration = _Duration()
    fail: _Duration = _Duration()
    queue: _Duration = _Duration()
    compute_input: _Duration = _Duration()
    compute_infer: _Duration = _Duration()
    compute_output: _Duration = _Duration()
    cache_hit: _Duration = _Duration()
    cache_miss: _Duration = _Duration()


class _ModelStatistics(msgspec.Struct, frozen=True):
    name: str
    version: str = ""
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: _InferStatistics = _InferStatistics()


class _Statistics(msgspec.Struct, frozen=True):
    model_stats: tuple[_ModelStatistics, ...]


class _Input(msgspec.Struct, frozen=True):
    name: str
    optional: bool = False


class _Step(msgspec.Struct, frozen=True):
    model_name: str
    model_version: int = -1


class _Ensemble(msgspec.Struct, frozen=True):
    step: tuple[_Step, ...] = ()


class _Policy(msgspec.Struct, frozen=True):
    decoupled: bool = False


class _Config(msgspec.Struct, frozen=True):
    max_batch_size: int = 0
    input: tuple[_Input, ...] = ()
    ensemble_scheduling: _Ensemble = _Ensemble()
    model_transaction_policy: _Policy = _Policy()
    sequence_batching: Any = None


class HttpControl:
    """Keeps one connection open and opens it again when the server has closed it."""

    def __init__(self, target: Target, headers: tuple[tuple[str, str], ...] = ()) -> None:
        self._target = target
        self._fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        self._dial = Dial(target)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def metadata(self, model: str, version: str) -> ModelMetadata:
        return await self._get(model_path(model, version), ModelMetadata)

    async def config(self, model: str, version: str) -> ModelConfig:
        config = await self._get(f"{model_path(model, version)}/config", _Config)
        return config_of(config, sequential=config.sequence_batching is not None)

    async def statistics(self, model: str, version: str) -> tuple[ServerTimes, ...]:
        answer = await self._get(f"{model_path(model, version)}/stats", _Statistics)
        return tuple(server_times_of(entry) for entry in answer.model_stats)

    async def register(self, region: RegionName) -> None:
        wanted: dict[str, Any] = dict(region.terms)
        if "raw_handle" in wanted:
            wanted["raw_handle"] = {"b64": b64encode(region.handle).decode()}
        await self._answer(f"{_region_path(region)}/register", msgspec.json.encode(wanted))

    async def unregister(self, region: RegionName) -> None:
        await self._answer(f"{_region_path(region)}/unregister", b"")

    async def _get(self, path: str, kind: type[Answer]) -> Answer:
        body = await self._answer(path, None)
        try:
            return msgspec.json.decode(body, type=kind, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise OSError(f"the answer for {path} is not one of KServe v2") from None

    async def _answer(self, path: str, content: bytes | None) -> bytes:
        """The body of a good answer; ``content`` is posted, None asks by GET."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                head, body = await self._ask(_request(path, self._target.authority, self._fields, content))
        except (BadAnswer, EOFError, ValueError) as error:
            self.close()
            raise OSError(str(error) or "the connection was closed") from None
        except BaseException:
            self.close()
            raise
        if head.status != 200:
            said = _error_text(body)
            missing = head.status in (404, 405, 501)
            raise Refused(said or f"status {head.status} for {path}", missing, foreign=not said)
        return body

    async def _ask(self, request: bytes) -> tuple[Head, bytes]:
        """One exchange; a second attempt where the kept connection turns out to be closed."""
        if self._streams is not None:
            try:
                return await self._exchange(*self._streams, request)
            except (OSError, EOFError):
                self.close()
        self._streams = await self._dial.open_streams()
        return await self._exchange(*self._streams, request)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
    ) -> tuple[Head, bytes]:
        writer.write(request)
        head = parse_head(await reader.readuntil(b"\r\n\r\n"))
        body = await read_body(reader, head.length)
        if not head.keep_alive or head.length == -1:
            self.close()
        return head, body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


def _request(path: str, authority: str, fields: str, content: bytes | None) -> bytes:
    method = "GET" if content is None else "POST"
    length = "" if content is None else f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    head = f"{method} {path} HTTP/1.1\r\nHost: {authority}\r\nAccept: */*\r\n{fields}{length}\r\n"
    return head.encode() + (content or b"")


def _region_path(region: RegionName) -> str:
    return f"/v2/{region.kind}sharedmemory/region/{quote(region.name, safe='')}"


async def read_body(reader: asyncio.StreamReader, length: int) -> bytes:
    if length >= 0:
        return await reader.readexactly(min(length, _BODY_LIMIT_BYTES))
    if length == -1:
        return await reader.read()
    body = bytearray()
    while size := int((await reader.readline()).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readline()
    while (await reader.readline()).strip():
        pass
    return bytes(body)


def _error_text(body: bytes) -> str:
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return str(document.get("error", "")) if isinstance(document, dict) else ""
