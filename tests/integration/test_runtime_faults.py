"""The real server and clients that misbehave: cut off at any byte, never reading, gone; and models that never end."""

import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, shared_memory

from analyzer.runtime.frames import PREFACE, settings_frame
from tests.benchmarks.runtime_requests import grpc_call, grpc_opening, http_request
from tests.fakes.repositories import write_model, write_python, write_simulated
from tests.fakes.running_server import RunningServer, running_server

PATIENCE_S = 30

# Sends answers until its client is gone, and notes in a file when that was noticed.
ENDLESS = """\
import os
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.notes = os.path.join(args["model_repository"], "notes")

    def execute(self, requests):
        for request in requests:
            size = int(request.inputs()[0].as_numpy()[0])
            sender = request.get_response_sender()
            count = 0
            while not sender.is_cancelled():
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.zeros(size, np.uint8))]))
                count += 1
                with open(self.notes, "w") as notes:
                    notes.write(str(count))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            with open(self.notes, "a") as notes:
                notes.write(" cancelled")
"""

# Holds back until a file appears, and notes what it executes.
GATED = """\
import os
import time
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.folder = args["model_repository"]

    def execute(self, requests):
        with open(os.path.join(self.folder, "executed"), "a") as notes:
            notes.write("".join(request.request_id() + "\\n" for request in requests))
        while not os.path.exists(os.path.join(self.folder, "open")):
            time.sleep(0.002)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_simulated(folder, "quick", type_name="TYPE_INT32", max_batch_size=32, extra="dynamic_batching { }")
    write_model(
        folder,
        "endless",
        backend="python",
        inputs=[("SIZE", "TYPE_INT32", [1])],
        outputs=[("OUT", "TYPE_UINT8", [-1])],
        extra="model_transaction_policy { decoupled: true }",
        files={"model.py": ENDLESS},
    )
    batching = "dynamic_batching { }"
    write_python(folder, "gated", GATED, type_name="TYPE_INT32", dims=(4,), max_batch_size=8, extra=batching)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with running_server(repository, "--max-requests-in-flight", "64") as running:
        yield running


@pytest.fixture
def gate(repository: Path) -> Iterator[Path]:
    """The folder of the model that waits for a file ``open`` in it, and notes in ``executed`` what it was given."""
    folder = repository / "gated"
    for name in ("open", "executed"):
        (folder / name).unlink(missing_ok=True)
    yield folder
    (folder / "open").touch()  # and it stays open, so that no request is left waiting


def descriptors(server: RunningServer) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def in_flight(server: RunningServer, model: str) -> int:
    page = urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10).read().decode()
    prefix = f'nv_inference_pending_request_count{{model="{model}",version="1"}} '
    return int(float(next(line for line in page.splitlines() if line.startswith(prefix)).removeprefix(prefix)))


def until(condition: Callable[[], object], what: str) -> None:
    """Polls; the time only ends a test that has failed."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.005)


def connect(address: str) -> socket.socket:
    host, port = address.split(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def status(client: socket.socket) -> int:
    """Of the next answer, which is read to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += client.recv(1)
    length = int(data.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    while length > 0:
        length -= len(client.recv(length))
    return int(data[9:12])


def vanish(client: socket.socket) -> None:
    """Closes with a reset, as a killed client with unread data does."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    client.close()


@contextmanager
def nothing_stays(server: RunningServer) -> Iterator[None]:
    """As many descriptors after it as before; and the whole of what may be under way can be again."""
    before = descriptors(server)
    yield
    until(lambda: descriptors(server) <= before, "connections stay open")
    until(lambda: in_flight(server, "quick") == 0, "requests stay in the queue")
    clients = [connect(server.http) for _ in range(64)]
    try:
        for client in clients:
            client.sendall(http_request("quick"))
        for client in clients:
            assert status(client) == 200
    finally:
        for client in clients:
            client.close()
    until(lambda: descriptors(server) <= before, "connections stay open")


def http_bytes() -> bytes:
    return http_request("quick")


def grpc_bytes() -> bytes:
    return grpc_opening() + grpc_call("quick")(1)


@pytest.mark.parametrize("end", [socket.socket.close, vanish])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_client_that_is_gone_after_any_byte_of_its_request_leaves_nothing_behind(server, protocol, end):
    address, data = (server.http, http_bytes()) if protocol == "http" else (server.grpc, grpc_bytes())
    with nothing_stays(server):
        for cut in range(len(data) + 1):
            client = connect(address)
            client.sendall(data[:cut])
            end(client)


@pytest.mark.parametrize("end", [socket.socket.close, vanish])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_client_that_is_gone_after_any_byte_of_its_answer_leaves_nothing_behind(server, protocol, end):
    address, data = (server.http, http_bytes()) if protocol == "http" else (server.grpc, grpc_bytes())
    with nothing_stays(server):
        for count in range(1, 160):
            client = connect(address)
            client.sendall(data)
            client.recv(count)
            end(client)


def test_client_that_is_gone_with_tensors_in_shared_memory_leaves_nothing_mapped(server, gate):
    client = triton_http.InferenceServerClient(server.http)
    tensor = triton_http.InferInput("INPUT0", [1, 4], "INT32")
    tensor.set_shared_memory("faults", 16)
    body, json_size = client.generate_request_body([tensor])
    head = f"POST /v2/models/gated/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    request = f"{head}Inference-Header-Content-Length: {json_size or len(body)}\r\n\r\n".encode() + body
    region = shared_memory.create_shared_memory_region("faults", "/analyzer_faults", 16)
    try:
        shared_memory.set_shared_memory_region(region, [np.arange(4, dtype=np.int32)])
        client.register_system_shared_memory("faults", "/analyzer_faults", 16)
        for _ in range(5):
            raw = connect(server.http)
            raw.sendall(request)
            vanish(raw)
        client.unregister_system_shared_memory("faults")
    finally:
        shared_memory.destroy_shared_memory_region(region)
        client.close()
    maps = Path(f"/proc/{server.process.pid}/maps")
    until(lambda: in_flight(server, "gated") == 0, "requests stay in the queue")
    (gate / "open").touch()
    until(lambda: "analyzer_faults" not in maps.read_text(), "the region stays mapped")


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_client_that_takes_its_shared_memory_back_meanwhile_harms_itself_alone(server, gate, protocol):
    """One request is executed, the other waits in the queue with its input where the client's memory was."""
    module = {"http": triton_http, "grpc": triton_grpc}[protocol]
    tensor, wanted = module.InferInput("INPUT0", [1, 4], "INT32"), module.InferRequestedOutput("OUTPUT0")
    tensor.set_shared_memory("shrunk", 16)
    wanted.set_shared_memory("shrunk", 16, 1_000_000)
    region = shared_memory.create_shared_memory_region("shrunk", "/analyzer_shrunk", 1_000_016)

    def ask() -> object:  # in a thread, whose own the client's event loop has to be
        with module.InferenceServerClient(getattr(server, protocol)) as client:
            return client.infer("gated", [tensor], outputs=[wanted])

    with ThreadPoolExecutor(2) as pool, module.InferenceServerClient(getattr(server, protocol)) as client:
        try:
            client.register_system_shared_memory("shrunk", "/analyzer_shrunk", 1_000_016)
            first = pool.submit(ask)
            until((gate / "executed").exists, "the model did not begin")
            second = pool.submit(ask)
            until(lambda: in_flight(server, "gated") == 1, "the request did not arrive")
            os.truncate("/dev/shm/analyzer_shrunk", 0)
            (gate / "open").touch()
            for answer in (first, second):
                with pytest.raises(InferenceServerException, match="was made smaller"):
                    answer.result(PATIENCE_S)
            with pytest.raises(InferenceServerException, match="was made smaller"):
                client.infer("gated", [tensor])
            assert server.process.poll() is None
        finally:
            (gate / "open").touch()
            client.unregister_system_shared_memory("shrunk")
            shared_memory.destroy_shared_memory_region(region)
    raw = connect(server.http)
    raw.sendall(gated_request("after"))
    assert status(raw) == 200
    raw.close()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_requests_of_a_client_that_is_gone_are_never_executed(server, gate, protocol):
    busy = connect(server.http)
    busy.sendall(gated_request("busy"))
    until((gate / "executed").exists, "the model did not begin")
    try:
        for number in range(3):
            client = connect(server.http if protocol == "http" else server.grpc)
            client.sendall(
                gated_request(f"gone {number}") if protocol == "http" else grpc_opening() + grpc_call("gated")(1)
            )
            until(lambda: in_flight(server, "gated") == 1, "the request did not arrive")
            vanish(client)
            until(lambda: in_flight(server, "gated") == 0, "the request stays in the queue")
    finally:
        (gate / "open").touch()
    assert status(busy) == 200
    busy.sendall(gated_request("last"))
    assert status(busy) == 200
    busy.close()
    assert (gate / "executed").read_text().split() == ["busy", "last"]


def gated_request(identity: str) -> bytes:
    tensor = {"name": "INPUT0", "datatype": "INT32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    body = json.dumps({"id": identity, "inputs": [tensor]}).encode()
    return b"POST /v2/models/gated/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def stream_request(address: str, size: int) -> socket.socket:
    """An event stream of answers of that many bytes, of which nothing is read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    host, port = address.split(":")
    client.connect((host, int(port)))
    body = b'{"SIZE": %d}' % size
    path = b"/v2/models/endless/generate_stream"
    client.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(body)) + body)
    return client


def resident_bytes(server: RunningServer) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def test_endless_model_waits_for_a_client_that_does_not_read_and_ends_when_it_is_gone(server, repository):
    notes = repository / "endless" / "notes"
    client = stream_request(server.http, 20_000)
    until(notes.exists, "the model did not begin")
    before, steady = sent_count(notes), 0
    while steady < 20:  # looks in a row that saw no answer more
        time.sleep(0.02)
        now = sent_count(notes)
        steady, before = (steady + 1 if now == before else 0), now
    assert resident_bytes(server) < 2**30
    assert client.recv(1000).startswith(b"HTTP/1.1 200")
    for _ in range(200):  # what it reads makes room for more
        client.recv(2**20)
    until(lambda: sent_count(notes) > before, "the model did not go on")
    vanish(client)
    until(lambda: "cancelled" in notes.read_text(), "the model was not told")
    with nothing_stays(server):
        pass


def test_endless_model_waits_for_a_grpc_client_that_does_not_read_and_the_server_does_not_grow(server, repository):
    notes = repository / "endless" / "notes"
    notes.unlink(missing_ok=True)
    request = service_pb2.ModelInferRequest(model_name="endless")
    request.inputs.add(name="SIZE", datatype="INT32", shape=[1])
    request.raw_input_contents.append(np.array([20_000], np.int32).tobytes())
    with grpc.insecure_channel(server.grpc) as channel:
        answers = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(iter([request]))
        until(notes.exists, "the model did not begin")
        before, steady = sent_count(notes), 0
        while steady < 20:
            time.sleep(0.02)
            now = sent_count(notes)
            steady, before = (steady + 1 if now == before else 0), now
        held_bytes = resident_bytes(server)
        for _ in range(before + 300):  # all that waits, and what that makes room for
            assert not next(answers).error_message
        until(lambda: sent_count(notes) > before, "the model did not go on")
        assert resident_bytes(server) < held_bytes + 2**26
        answers.cancel()
        until(lambda: "cancelled" in notes.read_text(), "the model was not told")
    with nothing_stays(server):
        pass


def sent_count(notes: Path) -> int:
    text = notes.read_text().split()
    return int(text[0]) if text else 0


def test_overload_is_refused_at_once_over_both_protocols(server, gate):
    clients = [connect(server.http) for _ in range(64)]
    for client in clients:
        client.sendall(gated_request("x"))
    late_http, late_grpc = connect(server.http), connect(server.grpc)
    # 64 are under way once the next is refused: those before it were sent, but maybe not all read yet.
    until(lambda: refused(late_http), "nothing was refused")
    late_grpc.sendall(PREFACE + settings_frame({}) + grpc_call("quick")(1))
    answer = b""
    while b"--max-requests-in-flight" not in answer:
        answer += late_grpc.recv(4096)
    (gate / "open").touch()
    for client in clients:
        assert status(client) == 200
    for client in (*clients, late_http, late_grpc):
        client.close()


def refused(client: socket.socket) -> bool:
    client.sendall(http_request("quick"))
    return status(client) == 503


def test_model_that_hangs_does_not_keep_the_server_from_its_end(tmp_path):
    write_python(tmp_path, "gated", GATED, type_name="TYPE_INT32", dims=(4,), max_batch_size=8)
    with running_server(tmp_path, "--exit-timeout-s", "0.2") as hanging, connect(hanging.http) as client:
        client.sendall(gated_request("x"))
        until((tmp_path / "gated" / "executed").exists, "the model did not begin")
        assert hanging.end() == 1
        assert client.recv(100)[:12] in {b"", b"HTTP/1.1 503"}
        assert "gave up requests to gated" in hanging.log.read_text()


def test_slow_loris_is_cut_and_others_are_served(tmp_path):
    write_simulated(tmp_path, "quick", type_name="TYPE_INT32")
    with running_server(tmp_path, "--stall-timeout-s", "0.3") as guarded:
        slow = [connect(guarded.http) for _ in range(20)] + [connect(guarded.grpc) for _ in range(20)]
        for number, client in enumerate(slow):
            client.sendall(b"POST /v2/models/quick/inf" if number < 20 else PREFACE[:5])
        with connect(guarded.http) as quick:
            for client in slow:
                while client.recv(1000):
                    pass
                client.close()
            quick.sendall(http_request("quick"))
            assert quick.recv(100).startswith(b"HTTP/1.1 200")
