"""The serving runtime under full load for long: does anything grow? Exit code 1 where a leak is seen.

Run as ``python -m tests.benchmarks.soak --minutes 30``. Threads drive the real server over HTTP, gRPC, gRPC streams,
event streams and shared memory, while models are loaded and unloaded and other clients are slow or vanish. Each minute
it prints what the server holds; the trend is judged over the second half, when caches are full.
"""

import argparse
import contextlib
import random
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException, shared_memory

from tests.benchmarks.runtime_requests import Server as Address
from tests.benchmarks.runtime_requests import grpc_call, grpc_opening, http_request, open_streams
from tests.fakes.repositories import ADD_SUB, IDENTITY, write_model, write_python, write_simulated
from tests.fakes.running_server import RunningServer, running_server

MODEL = "queued"
_LOOK_S = 5.0
_REST_S = 15.0  # longer than the server bears with clients that stall
_GROWTH_LIMIT_BYTES = 16 * 2**20  # over half a run: more than the noise of an allocator that is warm
_GROWTH_LIMIT_COUNT = 4  # descriptors, threads, children and entries of shared memory

# Three answers and the end, from a thread of its own.
STREAM = """\
import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender, size = request.get_response_sender(), int(request.inputs()[0].as_numpy()[0])
            for _ in range(3):
                if not sender.is_cancelled():
                    sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.zeros(size, np.uint8))]))
            sender.send(flags=FINAL)
"""


@dataclass(frozen=True)
class Look:
    """What the server and its children hold at one time."""

    at_s: float
    resident_bytes: int
    descriptors: int
    threads: int
    children: int
    shm_entries: int

    def line(self) -> str:
        return (
            f"{self.at_s / 60:5.1f} min  RSS {self.resident_bytes / 2**20:7.1f} MiB  fds {self.descriptors:4d}  "
            f"threads {self.threads:3d}  children {self.children:2d}  /dev/shm {self.shm_entries:3d}"
        )


def look(pid: int, start_s: float) -> Look:
    family = [pid, *children_of(pid)]
    resident = descriptors = threads = 0
    for member in family:
        with contextlib.suppress(OSError):  # a child that has just ended
            words = dict(
                line.split(":", 1) for line in Path(f"/proc/{member}/status").read_text().splitlines() if ":" in line
            )
            resident += int(words.get("RssAnon", "0").split()[0]) * 1024  # a child that has ended has none
            threads += int(words["Threads"])
            descriptors += len(list(Path(f"/proc/{member}/fd").iterdir()))
    entries = len(list(Path("/dev/shm").iterdir()))
    return Look(time.monotonic() - start_s, resident, descriptors, threads, len(family) - 1, entries)


def children_of(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *children_of(int(child))]
    return found


class Load:
    """Clients in threads until ``stop``. What they did, and what failed, is counted by name."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.stop = threading.Event()
        self.done: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        kinds = (self.http, self.grpc, self.grpc_stream, self.shared, self.events, self.control, self.vanish, self.slow)
        self.threads = [threading.Thread(target=self._go_on, args=(kind,), name=kind.__name__) for kind in kinds]

    def _go_on(self, kind: Callable[[], Iterator[None]]) -> None:
        """Begins again after an error: that too must leave nothing behind."""
        while not self.stop.is_set():
            try:
                for _ in kind():
                    self.done[kind.__name__] += 1
                    if self.stop.is_set():
                        return
            except (OSError, InferenceServerException, TimeoutError) as error:
                self.failed[f"{kind.__name__}: {type(error).__name__}: {error}"[:160]] += 1

    def http(self) -> Iterator[None]:
        yield from self._raw("http")

    def grpc(self) -> Iterator[None]:
        yield from self._raw("grpc")

    def _raw(self, protocol: str) -> Iterator[None]:
        """Eight connections with one request in flight each, anew after some thousand answers."""
        address = Address("ours", self.server.process.pid, self.server.http, self.server.grpc, (MODEL,))
        streams = open_streams(address, protocol, MODEL, 8)
        try:
            for _ in range(2_000):
                for stream in streams:
                    stream.turn()
                yield
        finally:
            for stream in streams:
                stream.socket.close()

    def grpc_stream(self) -> Iterator[None]:
        client = triton_grpc.InferenceServerClient(self.server.grpc)
        arrived = threading.Semaphore(0)
        client.start_stream(lambda result, error: arrived.release())
        tensor = triton_grpc.InferInput("SIZE", [1], "INT32")
        tensor.set_data_from_numpy(np.array([2_000], np.int32))
        try:
            for _ in range(50):
                client.async_stream_infer("stream", [tensor], enable_empty_final_response=True)
                for _ in range(4):
                    if not arrived.acquire(timeout=30):
                        raise TimeoutError("no answer in the stream")
                yield
        finally:
            client.stop_stream(cancel_requests=True)
            client.close()

    def shared(self) -> Iterator[None]:
        name, size = f"soak_{threading.get_ident()}", 600_000
        client = triton_http.InferenceServerClient(self.server.http)
        region = shared_memory.create_shared_memory_region(name, f"/{name}", 2 * size)
        try:
            client.register_system_shared_memory(name, f"/{name}", 2 * size)
            tensor = triton_http.InferInput("INPUT0", [size // 4], "FP32")
            tensor.set_shared_memory(name, size)
            output = triton_http.InferRequestedOutput("OUTPUT0")
            output.set_shared_memory(name, size, offset=size)
            for _ in range(100):
                client.infer("script", [tensor], outputs=[output])
                yield
        finally:
            client.unregister_system_shared_memory(name)
            shared_memory.destroy_shared_memory_region(region)
            client.close()

    def events(self) -> Iterator[None]:
        """Event streams: some read to their end, some left in the middle."""
        body = b'{"SIZE": 200000}'
        path = b"/v2/models/stream/generate_stream"
        for number in range(20):
            with connect(self.server.http) as client:
                client.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(body)) + body)
                seen = b""
                while b"\r\n0\r\n\r\n" not in seen and (number % 3 or len(seen) < 100):
                    seen = seen[-100:] + client.recv(2**16)
            yield

    def control(self) -> Iterator[None]:
        client = triton_http.InferenceServerClient(self.server.http)
        try:
            for model in ("coming", "script"):
                client.load_model(model)
                yield
            client.unload_model("coming")
        finally:
            client.close()
        self.stop.wait(0.5)
        yield

    def vanish(self) -> Iterator[None]:
        """Clients that are gone after any byte of a request or of its answer, in peace or with a reset."""
        rng = random.Random()
        for _ in range(100):
            is_http = rng.random() < 0.5
            data = http_request(MODEL) if is_http else grpc_opening() + grpc_call(MODEL)(1)
            with connect(self.server.http if is_http else self.server.grpc) as client:
                client.sendall(data[: rng.randint(0, len(data))])
                if rng.random() < 0.3:
                    client.settimeout(0.01)
                    with contextlib.suppress(TimeoutError):
                        client.recv(rng.randint(1, 100))
                if rng.random() < 0.5:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            yield

    def slow(self) -> Iterator[None]:
        """Clients that dribble their requests, that leave their answers unread, and that send what is no request."""
        rng = random.Random()
        clients = [connect(self.server.http) for _ in range(10)]
        try:
            for client in clients:
                client.sendall(http_request(MODEL)[: rng.randint(1, 60)] if rng.random() < 0.8 else rng.randbytes(200))
            clients[0].sendall(http_request(MODEL) * 50)
            self.stop.wait(1.0)
            yield
        finally:
            for client in clients:
                client.close()


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def write_models(repository: Path) -> None:
    write_simulated(repository, MODEL, type_name="TYPE_INT32", max_batch_size=32, extra="dynamic_batching { }")
    write_python(repository, "script", IDENTITY)
    write_python(repository, "coming", ADD_SUB.replace("INPUT1", "INPUT0"))
    write_model(
        repository,
        "stream",
        backend="python",
        inputs=[("SIZE", "TYPE_INT32", [1])],
        outputs=[("OUT", "TYPE_UINT8", [-1])],
        extra="model_transaction_policy { decoupled: true }",
        files={"model.py": STREAM},
    )


def leaks(looks: list[Look]) -> list[str]:
    """What is larger at the end than in the middle, by medians of a sixth of the looks each, and by too much."""
    count = max(1, len(looks) // 6)
    middle, end = looks[len(looks) // 2 :][:count], looks[-count:]
    found = []
    for name in ("resident_bytes", "descriptors", "threads", "children", "shm_entries"):
        before, after = (statistics.median(getattr(item, name) for item in part) for part in (middle, end))
        limit = _GROWTH_LIMIT_BYTES if name == "resident_bytes" else _GROWTH_LIMIT_COUNT
        print(f"{name}: {before:.0f} in the middle, {after:.0f} at the end")
        if after - before > limit:
            found.append(f"{name} grew by {after - before:.0f}")
    return found


def soak(server: RunningServer, minutes: float) -> list[str]:
    """Drives the load, and looks. Gives what leaked."""
    load, start_s, looks = Load(server), time.monotonic(), [look(server.process.pid, time.monotonic())]
    print(looks[0].line(), flush=True)
    for thread in load.threads:
        thread.start()
    next_line_s = 60.0
    try:
        while looks[-1].at_s < minutes * 60 and server.process.poll() is None:
            time.sleep(_LOOK_S)
            looks.append(look(server.process.pid, start_s))
            if looks[-1].at_s >= next_line_s:
                next_line_s += 60
                print(looks[-1].line(), dict(load.done), flush=True)
    finally:
        load.stop.set()
        for thread in load.threads:
            thread.join(60)
    for text, count in load.failed.most_common(10):
        print(f"failed {count} times: {text}")
    if server.process.poll() is not None:
        return [f"the server ended: {server.log.read_text()[-2000:]}"]
    time.sleep(_REST_S)
    at_rest = look(server.process.pid, start_s)
    print("at rest:", at_rest.line())
    found = leaks(looks[1:])
    if at_rest.descriptors > looks[0].descriptors + _GROWTH_LIMIT_COUNT:
        found.append(f"{at_rest.descriptors - looks[0].descriptors} descriptors stay open at rest")
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    entries = len(list(Path("/dev/shm").iterdir()))
    with tempfile.TemporaryDirectory() as folder:
        write_models(Path(folder))
        flags = ("--model-control-mode", "explicit", "--load-model", "*", "--stall-timeout-s", "5")
        with running_server(Path(folder), *flags) as server:
            found = soak(server, options.minutes)
            code = server.end()
            if code != 0:
                found.append(f"the server ended with code {code}")
    left = len(list(Path("/dev/shm").iterdir())) - entries
    if left > 0:
        found.append(f"{left} entries stay in /dev/shm (others may have made them)")
    print("\n".join(f"LEAK: {text}" for text in found) or "no leak seen")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
