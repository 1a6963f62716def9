"""Processes of python models under a real server: users' models answer, and nothing outlives the server."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from analyzer.zoo.catalogue import add
from tests.fakes import repositories
from tests.fakes.running_server import running_server


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until_gone(pids: list[int]) -> None:
    deadline_s = time.monotonic() + 30
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline_s, f"{pids} still run"
        time.sleep(0.01)


def infer(address: str, model: str, array: np.ndarray, datatype: str) -> np.ndarray:
    with http_client.InferenceServerClient(address) as client:
        given = http_client.InferInput("INPUT0", array.shape, datatype)
        given.set_data_from_numpy(array)
        return client.infer(model, [given]).as_numpy("OUTPUT0")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_process_of_a_model_outlives_the_server(tmp_path: Path, number: signal.Signals):
    """However the server ends, and whatever its models do: one of these is in an endless execution."""
    code = repositories.IDENTITY.replace(
        "        return [",
        "        import time\n        while requests[0].inputs()[0].as_numpy()[0] < 0:\n            time.sleep(1)\n"
        "        return [",
    )
    repositories.write_python(tmp_path, "m", code, extra="instance_group { count: 2 }")
    with running_server(tmp_path, "--exit-timeout-secs", "0.1") as server:
        pids = children(server.process.pid)
        assert len(pids) == 2
        client = http_client.InferenceServerClient(server.http, concurrency=2)
        given = http_client.InferInput("INPUT0", (1,), "FP32")
        given.set_data_from_numpy(np.array([-1], np.float32))
        waiting = client.async_infer("m", [given])
        infer(server.http, "m", np.ones(300_000, np.float32), "FP32")
        opened = [str(fd.readlink()) for pid in pids for fd in Path(f"/proc/{pid}/fd").iterdir()]
        assert any(name.startswith("/memfd:") for name in opened)
        assert not any(name.startswith("/dev/shm") for name in opened)  # so none can be left there
        server.process.send_signal(number)
        wait_until_gone([server.process.pid, *pids])
        with pytest.raises(Exception, match=r".*"):  # whatever the client makes of it
            waiting.get_result()
        client.close()


def test_a_process_that_is_killed_under_load_costs_its_own_requests_only(tmp_path: Path):
    repositories.write_python(tmp_path, "m", dims=(4,), max_batch_size=8)
    with running_server(tmp_path) as server:
        (before,) = children(server.process.pid)
        array = np.ones((1, 4), np.float32)
        client = http_client.InferenceServerClient(server.http, concurrency=8)
        given = http_client.InferInput("INPUT0", array.shape, "FP32")
        given.set_data_from_numpy(array)
        waiting = [client.async_infer("m", [given]) for _ in range(64)]
        os.kill(before, signal.SIGKILL)
        failures = []
        for one in waiting:
            try:
                np.testing.assert_array_equal(one.get_result().as_numpy("OUTPUT0"), array)
            except InferenceServerException as error:
                failures.append(str(error))
        assert all("ended by signal 9; it is started again" in failure for failure in failures)
        assert len(failures) <= 1
        np.testing.assert_array_equal(infer(server.http, "m", array, "FP32"), array)
        (after,) = children(server.process.pid)
        assert after != before
        client.close()


def test_the_zoos_python_model_answers(tmp_path: Path):
    add("add_sub", tmp_path)
    with running_server(tmp_path) as server, http_client.InferenceServerClient(server.http) as client:
        metadata = client.get_model_metadata("add_sub")
        inputs = []
        for tensor in metadata["inputs"]:
            shape = [max(1, dim) for dim in tensor["shape"]]
            given = http_client.InferInput(tensor["name"], shape, tensor["datatype"])
            given.set_data_from_numpy(np.full(shape, 3, triton_to_np_dtype(tensor["datatype"])))
            inputs.append(given)
        result = client.infer("add_sub", inputs)
        assert set(result.as_numpy("OUTPUT0").ravel().tolist()) == {6}
        assert set(result.as_numpy("OUTPUT1").ravel().tolist()) == {0}
