"""Rows per second of an ONNX model through the runtime's core, over those of a bare loop at the same batch size.

Run as ``python -m tests.benchmarks.onnx_saturation [--width N] [--layers N] [--batch N]``, by hand: it asserts nothing.
Both take turns on sessions with one thread; the ratio of each pair is printed. On a machine that is busy with other
work the ratio says little: the served model needs a second core for the event loop.
"""

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import uvloop
from onnx import TensorProto, helper, numpy_helper

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError, InferRequest, InferResponse
from tests.fakes.repositories import write_model

_BATCHES_IN_FLIGHT = 4


def layers_model(width: int, layers: int) -> bytes:
    """Dense layers, each followed by a ReLU."""
    rng = np.random.default_rng(0)
    weights = [(rng.standard_normal((width, width)) / width**0.5).astype(np.float32) for _ in range(layers)]
    nodes, source = [], "X"
    for number in range(layers):
        nodes.append(helper.make_node("MatMul", [source, f"W{number}"], [f"M{number}"]))
        source = f"R{number}" if number < layers - 1 else "Y"
        nodes.append(helper.make_node("Relu", [f"M{number}"], [source]))
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", width])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, ["rows", width])],
        [numpy_helper.from_array(array, f"W{number}") for number, array in enumerate(weights)],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    encoded: bytes = model.SerializeToString()
    return encoded


def bare_rate(path: Path, batch: int, width: int, duration_s: float) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    inputs = {"X": np.ones((batch, width), np.float32)}
    session.run(["Y"], inputs)
    count, start_s = 0, time.monotonic()
    while time.monotonic() < start_s + duration_s:
        session.run(["Y"], inputs)
        count += batch
    return count / (time.monotonic() - start_s)


async def served_rate(store: ModelStore, batch: int, width: int, duration_s: float) -> float:
    """A closed loop with several batches' worth of requests of one row in flight."""
    ended = asyncio.get_running_loop().create_future()
    row = np.ones((1, width), np.float32)
    in_flight, answered, is_stopping = _BATCHES_IN_FLIGHT * batch, 0, False

    def on_reply(answer: InferResponse | InferError) -> None:
        nonlocal in_flight, answered
        if isinstance(answer, InferError):
            raise answer
        answered += 1
        if not is_stopping:
            submit()
            return
        in_flight -= 1
        if not in_flight:
            ended.set_result(None)

    def submit() -> None:
        store.submit(InferRequest("layers", {"X": row}, time.monotonic_ns()), on_reply)

    start_s = time.monotonic()
    for _ in range(in_flight):
        submit()
    await asyncio.sleep(duration_s)
    rate = answered / (time.monotonic() - start_s)
    is_stopping = True
    await ended
    return rate


async def main(repository: Path, options: argparse.Namespace) -> None:
    width, batch = options.width, options.batch
    store = ModelStore(repository, loop=asyncio.get_running_loop())
    await store.open()
    ratios = []
    for _ in range(options.repeats):
        bare = bare_rate(repository / "layers" / "1" / "model.onnx", batch, width, options.seconds)
        served = await served_rate(store, batch, width, options.seconds)
        ratios.append(served / bare)
        print(f"bare {bare:8,.0f} rows/s, served {served:8,.0f} rows/s, ratio {ratios[-1]:.2f}")
    print(f"median ratio {sorted(ratios)[len(ratios) // 2]:.2f}")
    await store.close(5.0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    shape = (given.width,)
    one_thread = 'parameters { key: "intra_op_thread_count" value { string_value: "1" } }'
    with tempfile.TemporaryDirectory() as folder:
        write_model(
            Path(folder),
            "layers",
            backend="onnxruntime",
            inputs=[("X", "TYPE_FP32", shape)],
            outputs=[("Y", "TYPE_FP32", shape)],
            max_batch_size=given.batch,
            extra=f"dynamic_batching {{ }}\ninstance_group [ {{ count: 1 kind: KIND_CPU }} ]\n{one_thread}",
            files={"model.onnx": layers_model(given.width, given.layers)},
        )
        uvloop.run(main(Path(folder), given))
