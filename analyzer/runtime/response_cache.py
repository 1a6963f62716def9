"""Answers kept by what was asked, where a configuration allows it: the same inputs need not be computed again."""

import asyncio
import itertools
from collections import OrderedDict
from functools import partial
from hashlib import blake2b
from time import monotonic_ns

import numpy as np

from analyzer.runtime.device_tensor import on_host
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Reply, Tensors
from analyzer.runtime.servable import Drained, Servable, call_reply
from analyzer.runtime.wire import to_raw

_ENTRY_BYTES = 512
"""Roughly what an entry costs besides its tensors."""


class ResponseCache:
    """The least recently used answers go first once ``limit_bytes`` are full. One cache serves all models."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._used_bytes = 0
        self._entries: OrderedDict[bytes, tuple[Tensors, int]] = OrderedDict()

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def find(self, key: bytes) -> Tensors | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def keep(self, key: bytes, outputs: Tensors) -> None:
        """Copies what fits: an output may lie in memory that its owner writes to again."""
        size = _ENTRY_BYTES + sum(len(to_raw(a)) if a.dtype.hasobject else a.nbytes for a in outputs.values())
        if key in self._entries or size > self._limit_bytes:
            return
        while self._used_bytes + size > self._limit_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self._used_bytes -= freed
        kept = {name: np.array(array) for name, array in outputs.items()}
        for array in kept.values():
            array.flags.writeable = False
        self._entries[key] = kept, size
        self._used_bytes += size


_NUMBERS = itertools.count()


class CachedModel:
    """A Servable that asks another only what it has not been asked before. A model loaded anew starts with nothing."""

    def __init__(self, model: Servable, cache: ResponseCache, loop: asyncio.AbstractEventLoop) -> None:
        self.signature = model.signature
        self.statistics = model.statistics
        self._model = model
        self._cache = cache
        self._loop = loop
        self._salt = next(_NUMBERS).to_bytes(8, "big")
        self._in_flight = Drained(loop)

    @property
    def pending_count(self) -> int:
        return self._model.pending_count

    @property
    def takes_device_tensors(self) -> bool:
        return False

    @property
    def failure(self) -> str:
        return self._model.failure

    def submit(self, request: InferRequest, reply: Reply) -> None:
        if request.on_device:
            request.inputs, request.on_device = on_host(request.inputs), False
        request.keep_on_device = frozenset()  # what is kept here lies on the host
        began_ns = monotonic_ns()
        if request.on_device:  # the key is made of the bytes
            request.inputs, request.on_device = on_host(request.inputs), False
        key = request_key(self._salt, request)
        request.keep_on_device = frozenset()
        outputs = self._cache.find(key)
        lookup_ns = monotonic_ns() - began_ns
        if outputs is None:
            self._model.submit(request, partial(self._on_miss, key, lookup_ns, reply))
            return
        self.statistics.record_cache_hit(lookup_ns)
        answer = InferResponse(self.signature.model, self.statistics.version, request.id, outputs)
        self._in_flight.count += 1
        # In a turn of its own: no answer may come before this returns.
        self._loop.call_soon(self._answer, request, reply, answer)

    async def drain(self) -> None:
        await self._in_flight.wait()
        await self._model.drain()

    async def close(self) -> None:
        await self._model.close()

    def _answer(self, request: InferRequest, reply: Reply, answer: InferResponse) -> None:
        now_ns = monotonic_ns()
        self.statistics.record_cached_request(now_ns - request.arrival_ns, now_ns)
        call_reply(reply, answer)
        self._in_flight.leave(1)

    def _on_miss(self, key: bytes, lookup_ns: int, reply: Reply, answer: InferResponse | InferError) -> None:
        if isinstance(answer, InferResponse):
            began_ns = monotonic_ns()
            self._cache.keep(key, answer.outputs)
            self.statistics.record_cache_miss(lookup_ns + monotonic_ns() - began_ns)
        reply(answer)


def request_key(salt: bytes, request: InferRequest) -> bytes:
    """Equal for requests with the same tensors that ask for the same outputs."""
    digest = blake2b(salt, digest_size=32)
    for name, array in sorted(request.inputs.items()):
        raw = to_raw(array)
        digest.update(repr((name, array.dtype.str, array.shape, len(raw))).encode())
        digest.update(raw)
    digest.update(repr(request.requested).encode())
    return digest.digest()
