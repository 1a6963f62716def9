"""How the runtime starts, says no, drains and ends, as a process."""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc

from tests.fakes.repositories import IDENTITY, write_add_sub, write_python, write_simulated
from tests.fakes.running_server import RunningServer, running_server, server_command


def start(command: list[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def last_line(text: str) -> str:
    return text.strip().splitlines()[-1]


def test_missing_repository_is_one_sentence(tmp_path):
    done = start(server_command(tmp_path / "none"))
    assert done.returncode == 3
    assert "is not a folder" in last_line(done.stderr)
    assert done.stdout == ""


def test_empty_repository_is_one_sentence(tmp_path):
    done = start(server_command(tmp_path))
    assert done.returncode == 3
    assert "holds no model" in last_line(done.stderr)
    assert "Traceback" not in done.stderr


def test_model_asked_for_that_is_not_there_is_one_sentence(tmp_path):
    write_simulated(tmp_path)
    done = start(server_command(tmp_path, "--load-model", "other"))
    assert done.returncode == 3
    assert "'other'" in last_line(done.stderr)


def test_broken_model_stops_the_start_unless_told_otherwise(tmp_path):
    write_simulated(tmp_path, "good")
    (write_add_sub(tmp_path, "bad") / "1" / "model.py").write_text("raise RuntimeError('no weights')\n")
    done = start(server_command(tmp_path))
    assert done.returncode == 3
    assert "'bad'" in last_line(done.stderr)
    assert "no weights" in last_line(done.stderr)
    with running_server(tmp_path, "--exit-on-error", "false") as server:
        assert server.models == 1
        with urllib.request.urlopen(f"http://{server.http}/v2/models/good/ready", timeout=10) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://{server.http}/v2/health/ready", timeout=10)


@pytest.mark.parametrize("flag", ["--http-port", "--grpc-port", "--metrics-port"])
def test_port_in_use_is_one_sentence(tmp_path, flag):
    write_simulated(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = start(server_command(tmp_path, flag, port))
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in last_line(done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "flags", [["--http-port", "70000"], ["--max-request-bytes", "0"], ["--exit-on-error", "perhaps"], ["--unknown"]]
)
def test_wrong_flags_are_wrong_usage(tmp_path, flags):
    done = start(server_command(tmp_path, *flags))
    assert done.returncode == 2
    assert "error:" in last_line(done.stderr)


def test_front_ends_that_are_off_are_not_in_the_ready_line(tmp_path):
    write_simulated(tmp_path)
    command = server_command(tmp_path, "--grpc-port", "off", "--metrics-port", "off")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            words = process.stdout.readline().split()
            assert [word.split("=")[0] for word in words] == ["ready", "http", "models"]
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert process.stdout.read() == ""
        finally:
            process.kill()


def infer_body() -> bytes:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    return json.dumps({"inputs": [tensor]}).encode()


def write_patient(repository: Path) -> None:
    """A model whose batcher holds requests back for a while: time enough for all of them to be under way."""
    write_simulated(repository, "slow", extra="dynamic_batching { max_queue_delay_microseconds: 2000000 }")


def wait_until_queued(server: RunningServer, count: int) -> None:
    """Told by the server's own gauge, not by time."""
    line = f'nv_inference_pending_request_count{{model="slow",version="1"}} {count}'
    while True:
        with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=10) as answer:
            if line in answer.read().decode().splitlines():
                return


def test_sigterm_lets_requests_under_way_finish(tmp_path):
    write_patient(tmp_path)
    answers: list[int] = []

    def ask(address: str) -> None:
        request = urllib.request.Request(f"http://{address}/v2/models/slow/infer", data=infer_body())
        with urllib.request.urlopen(request, timeout=30) as answer:
            answers.append(answer.status)

    with running_server(tmp_path) as server:
        askers = [threading.Thread(target=ask, args=(server.http,)) for _ in range(5)]
        for asker in askers:
            asker.start()
        wait_until_queued(server, 5)
        assert server.end() == 0
        for asker in askers:
            asker.join()
    assert answers == [200] * 5


def test_sigterm_answers_grpc_calls_under_way_first(tmp_path):
    write_patient(tmp_path)
    results: list[object] = []
    arrived = threading.Semaphore(0)

    def done(result: object, error: object) -> None:
        results.append(error or result)
        arrived.release()

    with running_server(tmp_path) as server:
        client = triton_grpc.InferenceServerClient(server.grpc)
        tensor = triton_grpc.InferInput("INPUT0", [1, 4], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 4), np.float32))
        for _ in range(4):
            client.async_infer("slow", [tensor], done)
        wait_until_queued(server, 4)
        assert server.end() == 0
        for _ in range(4):
            assert arrived.acquire(timeout=30)
        client.close()
    assert [type(result).__name__ for result in results] == ["InferResult"] * 4


def test_drain_that_takes_too_long_is_cut(tmp_path):
    write_simulated(tmp_path, "slow", parameters={"service_us": 20_000_000})
    with running_server(tmp_path, "--exit-timeout-secs", "0.1") as server:
        host, port = server.http.split(":")
        with socket.create_connection((host, int(port))) as client:
            body = infer_body()
            client.sendall(b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
            client.sendall(body)
            with urllib.request.urlopen(f"http://{server.http}/v2/health/live", timeout=10):
                pass
            assert server.end() == 1  # as Triton's
            assert "gave up requests to slow" in server.log.read_text()


def test_server_ends_with_the_process_that_started_it(tmp_path: Path):
    write_simulated(tmp_path)
    code = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen({server_command(tmp_path)!r}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], **pipes) as parent:
        child = int(parent.stdout.readline())
        watch = os.pidfd_open(child)
        parent.kill()
    try:
        ready, _, _ = select.select([watch], [], [], 30)
        assert ready, "the server outlived its parent"
    finally:
        os.close(watch)


def test_what_a_model_prints_does_not_get_between_the_server_and_its_ready_line(tmp_path: Path):
    code = 'import sys\nprint("ready http=nowhere:1 grpc=nowhere:2")\nsys.stdout.flush()\n'
    write_python(tmp_path, "talkative", code + IDENTITY)
    with running_server(tmp_path) as server:
        assert server.http.startswith("127.0.0.1:")
        assert "http=nowhere:1" in server.log.read_text()
