"""Python models in processes of their own: parallel, isolated, started again, and gone when they should be."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import ErrorKind, InferError
from tests.fakes import repositories
from tests.fakes.opened_store import infer, serve

# Does what INPUT0 says, and answers with the id of its process.
ACTOR = """\
import os
import signal
import time

import numpy as np
import triton_python_backend_utils as pb_utils


def act(word):
    if word == "raise":
        raise ValueError("no luck")
    if word == "error":
        error = pb_utils.TritonError("never heard of it", pb_utils.TritonError.NOT_FOUND)
        return pb_utils.InferenceResponse(error=error)
    if word == "exit":
        os._exit(3)
    if word == "quit":
        raise SystemExit(4)
    if word == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "hang":
        time.sleep(1000)
    if word == "hang in C":
        import ctypes

        ctypes.PyDLL(None).sleep(1000)
    if word == "none":
        return None
    if word == "type":
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.zeros(1))])
    if word == "shape":
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([["a", "b"]], dtype=object))])
    if word == "name":
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT1", np.array(["a"], dtype=object))])
    if word == "shout":
        print("to stdout")
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([str(os.getpid())], dtype=object))])


class TritonPythonModel:
    def execute(self, requests):
        words = [request.inputs()[0].as_numpy()[0].decode() for request in requests]
        if "nonsense" in words:
            return 5
        if "too few" in words:
            return []
        return [act(word) for word in words]
"""


def text(word: str) -> np.ndarray:
    return np.array([word.encode()], dtype=np.object_)


async def act(store: ModelStore, word: str) -> int:
    return int((await infer(store, "actor", {"INPUT0": text(word)})).outputs["OUTPUT0"][0])


def write_actor(repository: Path, *, extra: str = "") -> Path:
    return repositories.write_python(repository, "actor", ACTOR, type_name="TYPE_STRING", dims=(1,), extra=extra)


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


async def gone(pid: int) -> None:
    """Returns when a process is; children of ours are waited for by the runtime."""
    while True:
        with suppress(FileNotFoundError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                await asyncio.sleep(0.01)
                continue
        return


def test_each_instance_is_a_process_of_its_own_that_ends_with_the_model(tmp_path: Path):
    write_actor(tmp_path, extra="instance_group { count: 2 }")
    pids = set()

    async def use(store: ModelStore) -> None:
        while len(pids) < 2:
            pids.update(await asyncio.gather(*(act(store, "pid") for _ in range(8))))
        assert os.getpid() not in pids
        await store.unload("actor")
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)

    serve(tmp_path, use)


@pytest.mark.parametrize(
    ("word", "kind", "message"),
    [
        ("raise", ErrorKind.INTERNAL, "model instance 'actor_0' failed: ValueError: no luck"),
        ("quit", ErrorKind.INTERNAL, "model instance 'actor_0' failed: SystemExit: 4"),
        ("error", ErrorKind.NOT_FOUND, "never heard of it"),
        ("none", ErrorKind.INTERNAL, "model 'actor': execute gave a NoneType in the place of an InferenceResponse"),
        ("type", ErrorKind.INTERNAL, "model 'actor' gave output 'OUTPUT0' as float64, its config.pbtxt says object"),
        ("shape", ErrorKind.INTERNAL, "gave output 'OUTPUT0' with shape [1, 2], its config.pbtxt says [1]"),
        ("name", ErrorKind.INTERNAL, "model 'actor' gave no output 'OUTPUT0'"),
        ("nonsense", ErrorKind.INTERNAL, "execute must return a list of 1 responses, one a request"),
        ("too few", ErrorKind.INTERNAL, "execute must return a list of 1 responses, one a request"),
    ],
)
def test_a_fault_in_the_model_fails_its_request_and_leaves_the_process(tmp_path, word, kind, message):
    write_actor(tmp_path)

    async def use(store: ModelStore) -> None:
        before = await act(store, "pid")
        with pytest.raises(InferError) as caught:
            await act(store, word)
        assert caught.value.kind == kind
        assert message in caught.value.message
        assert await act(store, "pid") == before

    serve(tmp_path, use)


@pytest.mark.parametrize(
    ("word", "how"), [("exit", "ended with exit code 3"), ("kill", "ended by signal 9"), ("from outside", "signal 15")]
)
def test_a_process_that_ends_fails_what_it_executed_and_is_started_again(tmp_path: Path, word: str, how: str):
    write_actor(tmp_path)

    async def use(store: ModelStore) -> None:
        before = await act(store, "pid")
        if word == "from outside":
            os.kill(before, signal.SIGTERM)  # which is for the server, so it goes on
            assert await act(store, "pid") == before
            return
        lost, next_one = asyncio.ensure_future(act(store, word)), asyncio.ensure_future(act(store, "pid"))
        with pytest.raises(InferError) as caught:
            await lost
        assert caught.value.kind == ErrorKind.INTERNAL
        assert f"the process of model instance 'actor_0' {how}; it is started again" == caught.value.message
        assert await next_one not in (before, 0)

    serve(tmp_path, use)


@pytest.mark.parametrize("word", ["hang", "hang in C"])
def test_an_execution_beyond_its_time_ends_the_process(tmp_path: Path, word: str):
    write_actor(tmp_path, extra=parameter("execution_timeout_s", "0.5"))

    async def use(store: ModelStore) -> None:
        before = await act(store, "pid")
        with pytest.raises(InferError, match=r"was ended because it did not answer within 0.5 s; it is started again"):
            await act(store, word)
        assert await act(store, "pid") != before

    serve(tmp_path, use)


def test_a_model_that_keeps_ending_becomes_unavailable_with_its_reason(tmp_path: Path):
    write_actor(tmp_path)

    async def use(store: ModelStore) -> None:
        while store.is_ready("actor"):
            with pytest.raises(InferError, match="ended with exit code 3"):
                await act(store, "exit")
        with pytest.raises(InferError) as caught:
            await act(store, "pid")
        assert caught.value.kind == ErrorKind.UNAVAILABLE
        assert "ended 5 times in a row: it ended with exit code 3" in caught.value.message
        (entry,) = store.index()
        assert (entry.state, entry.reason) == ("UNAVAILABLE", caught.value.message)
        await store.load("actor")
        assert await act(store, "pid")

    serve(tmp_path, use)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import missing_library\n", "can't import its model.py: ModuleNotFoundError"),
        ("class Other:\n    pass\n", "has no class TritonPythonModel with a method execute"),
        ("import os\nos._exit(7)\n", "model 'm': its process ended with exit code 7 while it was loaded"),
        (
            "class TritonPythonModel:\n    def initialize(self, args):\n        raise OSError('no weights')\n"
            "    def execute(self, requests):\n        return []\n",
            "failed in initialize: OSError: no weights",
        ),
    ],
)
def test_a_model_that_cannot_start_takes_nothing_else_down(tmp_path: Path, code: str, reason: str):
    repositories.write_python(tmp_path, "m", code)
    write_actor(tmp_path)

    async def use(store: ModelStore) -> None:
        assert {entry.name: entry.state for entry in store.index()} == {"actor": "READY", "m": "UNAVAILABLE"}
        assert reason in next(entry.reason for entry in store.index() if entry.name == "m")
        assert await act(store, "pid")

    serve(tmp_path, use)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (parameter("EXECUTION_ENV_PATH", "env.tar.gz"), "sets EXECUTION_ENV_PATH"),
        (parameter("execution", "fork"), "has the parameter execution 'fork'; give process or thread"),
        (parameter("execution_timeout_s", "soon"), "execution_timeout_s 'soon', which is not a number of seconds"),
    ],
)
def test_parameters_that_cannot_be_honoured_are_refused(tmp_path: Path, extra: str, reason: str):
    write_actor(tmp_path, extra=extra)

    async def use(store: ModelStore) -> None:
        assert reason in store.index()[0].reason

    serve(tmp_path, use)


MEETING = """\
import os
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        # Holds the interpreter of its process the whole time, until the other instance is there too.
        here = Path(__file__).parent
        (here / f"met-{os.getpid()}").touch()
        while len(list(here.glob("met-*"))) < 2:
            pass
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""


def test_instances_that_hold_the_interpreter_execute_at_the_same_time(tmp_path: Path):
    """Each of the two executions waits for the other: one after the other they would never end."""
    repositories.write_python(tmp_path, "meet", MEETING, extra="instance_group { count: 2 }")

    async def use(store: ModelStore) -> None:
        one = {"INPUT0": np.ones(4, np.float32)}
        await asyncio.gather(infer(store, "meet", one), infer(store, "meet", one))

    serve(tmp_path, use)


KEEPER = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.kept = None

    def execute(self, requests):
        responses = []
        for request in requests:
            array = request.inputs()[0].as_numpy()
            kept, self.kept = self.kept, array if self.kept is None else self.kept
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array if kept is None else kept)]))
        return responses
"""


@pytest.mark.parametrize("size", [4, 100_000])
def test_tensors_that_model_and_caller_keep_are_not_written_over(tmp_path: Path, size: int):
    repositories.write_python(tmp_path, "keeper", KEEPER)

    async def use(store: ModelStore) -> None:
        first = (await infer(store, "keeper", {"INPUT0": np.full(size, 1, np.float32)})).outputs["OUTPUT0"]
        for value in range(2, 8):
            answer = await infer(store, "keeper", {"INPUT0": np.full(size, value, np.float32)})
            assert set(answer.outputs["OUTPUT0"].tolist()) == {1.0}
        assert set(first.tolist()) == {1.0}

    serve(tmp_path, use)


def test_closing_ends_a_process_that_hangs(tmp_path: Path):
    write_actor(tmp_path)
    pids = []

    async def run() -> None:
        store = ModelStore(tmp_path, loop=asyncio.get_running_loop())
        await store.open()
        pids.append(await act(store, "pid"))
        hanging = asyncio.ensure_future(act(store, "hang"))
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(store.close(0.01))
        with pytest.raises(InferError, match="the process of model instance 'actor_0'"):
            await hanging
        await closing

    asyncio.run(run())
    asyncio.run(gone(pids[0]))


def test_what_models_print_goes_to_stderr(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    write_actor(tmp_path)

    async def use(store: ModelStore) -> None:
        await act(store, "shout")

    serve(tmp_path, use)
    output = capfd.readouterr()
    assert ("to stdout" in output.err, output.out) == (True, "")


def test_a_model_completes_its_configuration_in_a_process_of_its_own(tmp_path: Path):
    code = repositories.IDENTITY.replace(
        "    def execute",
        "    @staticmethod\n    def auto_complete_config(config):\n        import os\n"
        '        config.add_input({"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [1]})\n'
        '        config.add_output({"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [1]})\n'
        "        if LAST: os._exit(9)\n        return config\n\n    def execute",
    )
    for name, last in (("good", False), ("bad", True)):
        repositories.write_python(tmp_path, name, f"LAST = {last}\n{code}")
        (tmp_path / name / "config.pbtxt").write_text('backend: "python"\n')

    async def use(store: ModelStore) -> None:
        entries = {entry.name: entry for entry in store.index()}
        assert entries["good"].state == "READY"
        assert entries["bad"].reason == "model 'bad': its process ended with exit code 9 in auto_complete_config"
        assert (await infer(store, "good", {"INPUT0": np.ones(1, np.float32)})).outputs["OUTPUT0"].tolist() == [1]

    serve(tmp_path, use)


STREAM = """\
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            tensor = pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())
            final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            request.get_response_sender().send(pb_utils.InferenceResponse([tensor]), final)
"""


def test_streams_that_end_before_their_execution_count_no_time_before_they_came(tmp_path: Path):
    extra = "model_transaction_policy { decoupled: true }"
    repositories.write_python(tmp_path, "stream", STREAM, type_name="TYPE_STRING", dims=(1,), extra=extra)

    async def use(store: ModelStore) -> None:
        sent_ns = time.monotonic_ns()
        # So many that the process finds its next ones waiting.
        await asyncio.gather(*(infer(store, "stream", {"INPUT0": text("x")}, accepts_stream=True) for _ in range(300)))
        took_ns = time.monotonic_ns() - sent_ns
        (counted,) = store.statistics("stream")
        assert counted.inference_stats.queue.count == 300
        assert counted.inference_stats.queue.ns <= 300 * took_ns

    serve(tmp_path, use)
