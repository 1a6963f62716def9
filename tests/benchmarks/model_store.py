"""Requests per CPU-second through the runtime's core alone, without a front end. Run by hand, with a repeat count.

Each model is driven in a closed loop of 1, 8 and 32 requests in flight on one event loop.
"""

import asyncio
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import uvloop

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError, InferRequest, InferResponse
from tests.fakes import repositories

REQUESTS = 40_000


async def drive(store: ModelStore, model: str, in_flight: int) -> float:
    """Requests per second of this process's CPU time, all threads."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    inputs = {name: np.ones((1, 4), spec.dtype) for name, spec in store.inputs(model).items()}
    left = REQUESTS

    def on_reply(answer: InferResponse | InferError) -> None:
        nonlocal left
        left -= 1
        if isinstance(answer, InferError):
            done.set_exception(answer)
        elif left >= in_flight:
            store.submit(InferRequest(model, inputs, time.monotonic_ns()), on_reply)
        elif left == 0:
            done.set_result(None)

    began = time.process_time()
    for _ in range(in_flight):
        store.submit(InferRequest(model, inputs, time.monotonic_ns()), on_reply)
    await done
    return REQUESTS / (time.process_time() - began)


async def main(repository: Path, repeats: int) -> None:
    store = ModelStore(repository, loop=asyncio.get_running_loop())
    await store.open()
    for model in ("identity", "batched", "add_sub", "add_sub_batched", "affine", "chain"):
        for in_flight in (1, 8, 32):
            rates = sorted([await drive(store, model, in_flight) for _ in range(repeats)])
            print(f"{model:16} {in_flight:3} in flight: {rates[len(rates) // 2]:9,.0f} requests per CPU-second")
    await store.close(5.0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        repositories.write_simulated(Path(folder), "identity")
        repositories.write_simulated(Path(folder), "batched", max_batch_size=32, extra="dynamic_batching { }")
        repositories.write_ensemble(Path(folder))
        repositories.write_add_sub(Path(folder), "add_sub_batched", max_batch_size=32, extra="dynamic_batching { }")
        repositories.write_onnx(Path(folder), extra="dynamic_batching { }")
        uvloop.run(main(Path(folder), int(sys.argv[1]) if len(sys.argv) > 1 else 3))
