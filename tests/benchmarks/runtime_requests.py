"""Requests per server CPU-second over HTTP and gRPC, ours and the real Triton's in one run. By hand: asserts nothing.

Run as ``python -m tests.benchmarks.runtime_requests [--triton PATH]``, PATH being the tritonserver to compare with.

The client side is raw sockets with requests encoded beforehand, several connections with one request in flight each,
so that it is never the limit: what is reported is the servers' own CPU time (child processes included), not how fast
the answers came. The servers take turns, and ratios are of medians.
"""

import argparse
import json
import os
import selectors
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tritonclient.grpc import service_pb2

from tests.fakes.repositories import IDENTITY, write_model, write_simulated
from tests.fakes.running_server import running_server

_SHAPE = (1, 4)
_RAW = np.arange(4, dtype=np.int32).tobytes()
_START_TIMEOUT_S = 30
MODELS = ("inline", "queued", "script")
"""An identity on the loop, one through a batching queue, and one that is a ``model.py`` (all that Triton has)."""


@dataclass(frozen=True)
class Server:
    name: str
    pid: int
    http: str
    grpc: str
    models: tuple[str, ...]


def http_request(model: str) -> bytes:
    tensor = {"name": "INPUT0", "datatype": "INT32", "shape": _SHAPE, "parameters": {"binary_data_size": len(_RAW)}}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    body = text + _RAW
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


def grpc_call(model: str) -> Callable[[int], bytes]:
    import hpack

    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="INPUT0", datatype="INT32", shape=_SHAPE)
    message.raw_input_contents.append(_RAW)
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
    """One connection with one request in flight, which counts answers by a mark in their bytes."""

    def __init__(self, address: str, mark: bytes, request: Callable[[int], bytes], opening: bytes = b"") -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)))
        self.answered = 0
        self._mark, self._request, self._tail, self._number = mark, request, b"", 1
        self.socket.sendall(opening + self._next(1))

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


def open_streams(server: Server, protocol: str, model: str, count: int) -> list[Stream]:
    if protocol == "http":
        plain = http_request(model)
        return [Stream(server.http, b"HTTP/1.1 200", lambda _: plain) for _ in range(count)]
    mark = b"\x32" + bytes((len(_RAW),)) + _RAW  # raw_output_contents, the same bytes from every server
    call = grpc_call(model)
    return [Stream(server.grpc, mark, call, grpc_opening()) for _ in range(count)]


def cpu_s(pid: int) -> float:
    """CPU time of a process and of its children that run."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(child)) for child in children)


def measure(server: Server, streams: list[Stream], duration_s: float) -> tuple[float, float]:
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

    drive(time.monotonic() + 0.3)
    start_cpu_s, start_s = cpu_s(server.pid), time.monotonic()
    count = drive(start_s + duration_s)
    used_s, took_s = cpu_s(server.pid) - start_cpu_s, time.monotonic() - start_s
    for stream in streams:
        stream.socket.close()
    return count / used_s, count / took_s


def write_script(repository: Path) -> None:
    """The identity as a ``model.py``: the same file for both servers."""
    tensor = [("{}0", "TYPE_INT32", (4,))]
    inputs, outputs = ([(name.format(put), kind, dims) for name, kind, dims in tensor] for put in ("INPUT", "OUTPUT"))
    group = "instance_group [ { count: 1 kind: KIND_CPU } ]"
    files = {"model.py": IDENTITY}
    write_model(
        repository,
        "script",
        backend="python",
        inputs=inputs,
        outputs=outputs,
        max_batch_size=8,
        extra=group,
        files=files,
    )


@contextmanager
def our_server() -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        write_simulated(Path(folder), "inline", type_name="TYPE_INT32")
        write_simulated(Path(folder), "queued", type_name="TYPE_INT32", max_batch_size=32, extra="dynamic_batching { }")
        write_script(Path(folder))
        with running_server(Path(folder)) as running:
            yield Server("ours", running.process.pid, running.http, running.grpc, MODELS)


@contextmanager
def triton_server(program: Path) -> Iterator[Server]:
    ports = free_ports(3)
    flags = [f"--{name}-port={port}" for name, port in zip(("http", "grpc", "metrics"), ports)]
    addresses = [f"--{name}-address=127.0.0.1" for name in ("http", "grpc", "metrics")]
    with tempfile.TemporaryDirectory() as folder:
        write_script(Path(folder))
        command = [str(program), f"--model-repository={folder}", *flags, *addresses]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            http, grpc, _ = (f"127.0.0.1:{port}" for port in ports)
            wait_ready(http)
            yield Server("triton", process.pid, http, grpc, ("script",))
        finally:
            process.terminate()
            process.wait()


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listening.getsockname()[1] for listening in sockets]
    for listening in sockets:
        listening.close()
    return ports


def wait_ready(address: str) -> None:
    host, port = address.split(":")
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            with socket.create_connection((host, int(port))) as connection:
                connection.sendall(b"GET /v2/health/ready HTTP/1.1\r\nHost: x\r\n\r\n")
                if connection.recv(100).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            pass
        time.sleep(0.2)
    raise TimeoutError(f"the server at {address} did not get ready")


def compare(servers: list[Server], options: argparse.Namespace) -> None:
    """One line for each protocol, number in flight and model of ours, Triton's beside it."""
    for protocol in ("http", "grpc"):
        for count in (1, 8, 32):
            runs: dict[tuple[str, str], list[tuple[float, float]]] = {}
            for _ in range(options.repeats):
                for server in servers:
                    for model in server.models:
                        streams = open_streams(server, protocol, model, count)
                        runs.setdefault((server.name, model), []).append(measure(server, streams, options.seconds))
            medians = {key: [statistics.median(values) for values in zip(*pairs)] for key, pairs in runs.items()}
            peer = medians.pop(("triton", "script"), None)
            for (_, model), (per_cpu, rate) in medians.items():
                ratio = f", {per_cpu / peer[0]:4.1f} x Triton's {peer[0]:6.0f}" if peer else ""
                print(f"{protocol} {count:2d} {model:7} {per_cpu:7.0f} per server CPU-s{ratio}; {rate:7.0f} per s")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--triton", type=Path, help="a tritonserver with its Python backend")
    options = parser.parse_args()
    with our_server() as ours:
        if options.triton is None:
            compare([ours], options)
            return
        with triton_server(options.triton) as triton:
            compare([ours, triton], options)


if __name__ == "__main__":
    main()
