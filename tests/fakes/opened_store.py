"""A model store over a folder, open for as long as a block lasts, and requests that are waited for."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Tensors

Use = Callable[[ModelStore], Awaitable[None]]


@asynccontextmanager
async def opened_store(
    repository: Path, models: Sequence[str] | None = None, *, timeout_s: float = 60.0, **options: Any
) -> AsyncIterator[ModelStore]:
    """``options`` are the store's own. What takes longer than ``timeout_s`` fails."""
    store = ModelStore(repository, loop=asyncio.get_running_loop(), **options)
    await store.open(models)
    try:
        async with asyncio.timeout(timeout_s):
            yield store
    finally:
        await store.close(5.0)


def serve(repository: Path, use: Use, models: Sequence[str] | None = None, **options: Any) -> None:
    """No thread may be left behind."""

    async def run() -> None:
        async with opened_store(repository, models, **options) as store:
            await use(store)

    threads = set(threading.enumerate())
    asyncio.run(run())
    for thread in set(threading.enumerate()) - threads:
        thread.join(timeout=30)
        assert not thread.is_alive()


def asked(
    store: ModelStore, model: str, inputs: Tensors, **fields: Any
) -> "asyncio.Future[InferResponse | InferError]":
    """Sends a request, of which ``fields`` are more of. An error is an answer like any other."""
    done: asyncio.Future[InferResponse | InferError] = asyncio.get_running_loop().create_future()

    def reply(answer: InferResponse | InferError) -> None:
        if not done.done():  # a test may have given up waiting
            done.set_result(answer)

    store.submit(InferRequest(model, inputs, time.monotonic_ns(), **fields), reply)
    return done


async def infer(store: ModelStore, model: str, inputs: Tensors, **fields: Any) -> InferResponse:
    """Raises InferError."""
    answer = await asked(store, model, inputs, **fields)
    if isinstance(answer, InferError):
        raise answer
    return answer


def answers(repository: Path, model: str, sent: Sequence[Tensors]) -> list[InferResponse | InferError]:
    """Serves the model for as long as it takes: sends all at once and gives the answers, in order."""

    async def run() -> list[InferResponse | InferError]:
        async with opened_store(repository, [model]) as store:
            return await asyncio.gather(*(asked(store, model, inputs) for inputs in sent))

    return asyncio.run(run())
