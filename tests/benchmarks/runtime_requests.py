"""Requests per server CPU-second over HTTP and gRPC, small identity model. By hand: it measures, it asserts nothing.

Run as ``python -m tests.benchmarks.runtime_requests``.

The client side is raw sockets with requests encoded beforehand, several in flight on each of several connections, so
that it is never the limit: what is reported is the server's own CPU time, not how fast the answers came.
"""

import argparse
import json
import os
import selectors
import socket
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2

from tests.fakes.repositories import write_add_sub, write_simulated
from tests.fakes.running_server import RunningServer, running_server


def http_request(model: str, inputs: int) -> bytes:
    raw = np.arange(4, dtype=np.int32).tobytes()
    tensors = [
        {"name": f"INPUT{n}", "datatype": "INT32", "shape": [1, 4], "parameters": {"binary_data_size": len(raw)}}
        for n in range(inputs)
    ]
    text = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
    body = text + raw * inputs
    return (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: {len(text)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def grpc_opening() -> bytes:
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
        + (b"\x00\x00\x04\x08\x00\x00\x00\x00\x00" + (2**30).to_bytes(4, "big"))
    )


def grpc_call(model: str, inputs: int) -> Callable[[int], bytes]:
    import hpack

    message = service_pb2.ModelInferRequest(model_name=model)
    for n in range(inputs):
        message.inputs.add(name=f"INPUT{n}", datatype="INT32", shape=[1, 4])
        message.raw_input_contents.append(np.arange(4, dtype=np.int32).tobytes())
    payload = message.SerializeToString()
    data = b"\x00" + len(payload).to_bytes(4, "big") + payload
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    block = encoder.encode(
        [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
            (b":authority", b"x"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        ]
    )
    head = len(block).to_bytes(3, "big") + b"\x01\x04"
    body = len(data).to_bytes(3, "big") + b"\x00\x01"
    return lambda stream: head + stream.to_bytes(4, "big") + block + body + stream.to_bytes(4, "big") + data


class Stream:
    """One connection that keeps ``depth`` requests in flight and counts answers by a mark in their bytes."""

    def __init__(self, address: str, mark: bytes, depth: int, request: Callable[[int], bytes], opening: bytes) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.answered = 0
        self._mark, self._request, self._tail, self._number = mark, request, b"", 1
        self.socket.sendall(opening + self._next(depth))

    def turn(self) -> None:
        data = self._tail + self.socket.recv(1 << 16)
        count = data.count(self._mark)
        self._tail = data[-(len(self._mark) - 1) :] if len(self._mark) > 1 else b""
        self.answered += count
        if count:
            self.socket.sendall(self._next(count))

    def _next(self, count: int) -> bytes:
        first, self._number = self._number, self._number + 2 * count
        return b"".join(self._request(number) for number in range(first, self._number, 2))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(server: RunningServer, streams: list[Stream], duration_s: float) -> tuple[float, float]:
    """Requests per second of the server's CPU, and per second."""
    selector = selectors.DefaultSelector()
    for stream in streams:
        selector.register(stream.socket, selectors.EVENT_READ, stream)

    def drive(until_s: float) -> int:
        before = sum(stream.answered for stream in streams)
        while time.monotonic() < until_s:
            for key, _ in selector.select(1):
                key.data.turn()
        return sum(stream.answered for stream in streams) - before

    drive(time.monotonic() + 0.5)
    start_cpu_s, start_s = cpu_s(server.process.pid), time.monotonic()
    count = drive(start_s + duration_s)
    used_s, took_s = cpu_s(server.process.pid) - start_cpu_s, time.monotonic() - start_s
    for stream in streams:
        stream.socket.close()
    return count / used_s, count / took_s


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--model", choices=("echo", "add_sub"), default="echo")
    options = parser.parse_args()
    inputs = 2 if options.model == "add_sub" else 1
    with tempfile.TemporaryDirectory() as folder:
        write_simulated(Path(folder), "echo", type_name="TYPE_INT32")
        write_add_sub(Path(folder))
        with running_server(Path(folder)) as server:
            plain, call = http_request(options.model, inputs), grpc_call(options.model, inputs)
            for connections, depth in ((1, 1), (8, 1), (1, 8), (32, 1)):
                http = [Stream(server.http, b"HTTP/1.1 200", depth, lambda _: plain, b"") for _ in range(connections)]
                grpc = [
                    Stream(server.grpc, b"grpc-status\x010", depth, call, grpc_opening()) for _ in range(connections)
                ]
                for name, streams in (("http", http), ("grpc", grpc)):
                    per_cpu, rate = measure(server, streams, options.seconds)
                    print(f"{name} {connections:2d} x {depth}: {per_cpu:8.0f} per server CPU-s, {rate:8.0f} per s")


if __name__ == "__main__":
    main()
