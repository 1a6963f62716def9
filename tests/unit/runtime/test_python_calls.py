"""What a python model may ask of the server: other models, their loading, metrics, whether its client is gone."""

import asyncio
import re
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import ErrorKind, InferError, InferRequest
from tests.fakes import repositories
from tests.fakes.opened_store import infer, serve

HEAD = "import asyncio\nimport numpy as np\nimport triton_python_backend_utils as pb_utils\n"

# Evaluates the expression in TEXT and answers with it as text; ``call`` gives OUTPUT0 of another model for X.
CALLER = """

def request(model, x=1.0, **fields):
    tensor = pb_utils.Tensor("INPUT0", np.full(4, x, np.float32))
    names = ["OUTPUT0"]
    return pb_utils.InferenceRequest(model_name=model, inputs=[tensor], requested_output_names=names, **fields)


def told(response):
    if response.has_error():
        return f"{response.error().code()}: {response.error().message()}"
    return pb_utils.get_output_tensor_by_name(response, "OUTPUT0").as_numpy().tolist()


def call(model, x=1.0, **fields):
    return told(request(model, x, **fields).exec())


def attempt(function, *arguments):
    try:
        return function(*arguments)
    except pb_utils.TritonModelException as error:
        return f"refused: {error}"


class TritonPythonModel:
    def execute(self, requests):
        texts = [request.inputs()[0].as_numpy()[0].decode() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([str(eval(text))], dtype=object))])
                for text in texts]
"""

ASYNC_CALLER = CALLER.replace(
    "    def execute(self, requests):",
    "    async def execute(self, requests):\n"
    "        both = await asyncio.gather(request('double', 2).async_exec(), request('double', 3).async_exec())\n"
    "        parts = [told(part) async for part in await request('count', 3).async_exec(decoupled=True)]",
).replace("str(eval(text))", "str([told(one) for one in both] + parts)")

DOUBLE = repositories.IDENTITY.replace(".as_numpy())", ".as_numpy() * 2)")

COUNT = (
    HEAD
    + """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(request.inputs()[0].as_numpy()[0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.full(4, number, np.float32))]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
)
DECOUPLED = "model_transaction_policy { decoupled: true }"

# Passes its input on to the model that its folder is named after, and gives what that gives.
PASSES_ON = (
    HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.next = args["model_name"].partition("_to_")[2]

    def execute(self, requests):
        responses = []
        for request in requests:
            inner = pb_utils.InferenceRequest(
                model_name=self.next, inputs=request.inputs(), requested_output_names=["OUTPUT0"]
            )
            response = inner.exec()
            error = response.error()
            given = [] if error else response.output_tensors()
            responses.append(pb_utils.InferenceResponse(given, error=error))
        return responses
"""
)

# Gives the last answer of ``count``.
PASSES_ON_COUNT = (
    HEAD
    + """
class TritonPythonModel:
    def execute(self, requests):
        inner = pb_utils.InferenceRequest(
            model_name="count", inputs=requests[0].inputs(), requested_output_names=["OUTPUT0"]
        )
        *_, last = inner.exec(decoupled=True)
        array = pb_utils.get_output_tensor_by_name(last, "OUTPUT0").as_numpy()[:4]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)])]
"""
)


def write_caller(repository: Path, code: str = CALLER, **options: object) -> None:
    repositories.write_python(repository, "caller", HEAD + code, type_name="TYPE_STRING", dims=(1,), **options)


async def told_by(store: ModelStore, model: str, array: np.ndarray) -> np.ndarray:
    return (await infer(store, model, {"INPUT0": array})).outputs["OUTPUT0"]


async def evaluate(store: ModelStore, expression: str) -> str:
    return (await told_by(store, "caller", np.array([expression.encode()], np.object_)))[0].decode()


def test_a_model_calls_others_through_their_queues(tmp_path: Path):
    write_caller(tmp_path)
    repositories.write_python(tmp_path, "double", DOUBLE)
    repositories.write_python(tmp_path, "count", COUNT, extra=DECOUPLED)
    repositories.write_simulated(tmp_path, "echo", max_batch_size=0)

    async def use(store: ModelStore) -> None:
        assert await evaluate(store, "call('double', 2)") == str([4.0] * 4)
        assert await evaluate(store, "call('echo', 3)") == str([3.0] * 4)
        assert await evaluate(store, "call('nobody')") == "2: Request for unknown model: 'nobody' is not found"
        wrong = "pb_utils.InferenceRequest(model_name='double', inputs=[pb_utils.Tensor('INPUT0', np.zeros(4))])"
        assert "expects 'FP32'" in await evaluate(store, f"told({wrong}.exec())")
        assert "doesn't support models with decoupled transaction policy" in await evaluate(store, "call('count')")
        parts = await evaluate(store, "[told(one)[0] for one in request('count', 40).exec(decoupled=True)]")
        assert parts == str([float(number) for number in range(40)])
        assert (
            await evaluate(store, "[told(one) for one in request('echo').exec(decoupled=True)]")
            == "[[1.0, 1.0, 1.0, 1.0]]"
        )
        counts = {entry.name: entry.inference_stats.success.count for entry in store.statistics()}
        assert (counts["double"], counts["echo"], counts["count"]) == (1, 2, 1)

    serve(tmp_path, use)


def test_large_tensors_come_and_go_unharmed(tmp_path: Path):
    repositories.write_python(tmp_path, "first_to_double", PASSES_ON)
    repositories.write_python(tmp_path, "double", DOUBLE)

    async def use(store: ModelStore) -> None:
        for size in (100_000, 10, 300_000, 0):
            array = np.arange(size, dtype=np.float32)
            np.testing.assert_array_equal(await told_by(store, "first_to_double", array), array * 2)

    serve(tmp_path, use)


def test_calls_from_event_loops_and_threads(tmp_path: Path):
    write_caller(tmp_path, ASYNC_CALLER)
    repositories.write_python(tmp_path, "double", DOUBLE)
    repositories.write_python(tmp_path, "count", COUNT, extra=DECOUPLED)
    threads = CALLER.replace("str(eval(text))", "str(list(POOL.map(lambda x: call('double', x), range(8))))")
    code = f"{HEAD}from concurrent.futures import ThreadPoolExecutor\nPOOL = ThreadPoolExecutor(4)\n{threads}"
    repositories.write_python(tmp_path, "threads", code, type_name="TYPE_STRING", dims=(1,))

    async def use(store: ModelStore) -> None:
        expected = [[value] * 4 for value in (4.0, 6.0, 0.0, 1.0, 2.0)]
        assert await evaluate(store, "") == str(expected)
        (answer,) = await told_by(store, "threads", np.array([b""], np.object_))
        assert answer.decode() == str([[2.0 * number] * 4 for number in range(8)])

    serve(tmp_path, use)


@pytest.mark.parametrize(("calls", "instances"), [({"a": "a"}, 1), ({"a": "b", "b": "a"}, 1), ({"a": "a"}, 2)])
def test_models_that_would_wait_for_each_other_for_ever_are_refused(tmp_path: Path, calls, instances: int):
    for name, called in calls.items():
        code = PASSES_ON.replace('args["model_name"].partition("_to_")[2]', f'"{called}"')
        repositories.write_python(tmp_path, name, code, extra=f"instance_group {{ count: {instances} }}")

    async def use(store: ModelStore) -> None:
        with pytest.raises(
            InferError, match=r"would never end, so give '.*' more instances or break the cycle"
        ) as caught:
            await told_by(store, "a", np.ones(4, np.float32))
        assert caught.value.kind == ErrorKind.UNAVAILABLE

    serve(tmp_path, use)


def test_a_model_may_call_itself_while_it_has_an_instance_left(tmp_path: Path):
    write_caller(tmp_path, extra="instance_group { count: 2 }")

    async def use(store: ModelStore) -> None:
        inner = "pb_utils.Tensor('INPUT0', np.array([b'1 + 1'], object))"
        ask = f"pb_utils.InferenceRequest(model_name='caller', inputs=[{inner}], requested_output_names=['OUTPUT0'])"
        assert await evaluate(store, f"told({ask}.exec())") == "[b'2']"

    serve(tmp_path, use)


def test_a_model_loads_and_unloads_others(tmp_path: Path):
    write_caller(tmp_path)
    repositories.write_python(tmp_path, "double", DOUBLE)

    async def use(store: ModelStore) -> None:
        assert await evaluate(store, "pb_utils.is_model_ready('double')") == "True"
        assert await evaluate(store, "pb_utils.unload_model('double')") == "None"
        assert await evaluate(store, "pb_utils.is_model_ready('double', '1')") == "False"
        assert await evaluate(store, "pb_utils.load_model('double')") == "None"
        assert await evaluate(store, "call('double')") == str([2.0] * 4)
        assert "there is no such folder" in await evaluate(store, "attempt(pb_utils.load_model, 'nobody')")
        assert "can't unload itself" in await evaluate(store, "attempt(pb_utils.unload_model, 'caller')")
        assert "needs a config" in await evaluate(store, "attempt(pb_utils.load_model, 'double', '', {'a': b''})")
        (tmp_path / "double" / "code.txt").write_text(DOUBLE.replace("* 2", "* 5"))
        files = f"{{'file:1/model.py': open('{tmp_path}/double/code.txt', 'rb').read()}}"
        config = (
            '{"name": "double", "backend": "python", '
            '"input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],'
            ' "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}]}'
        )
        assert await evaluate(store, f"pb_utils.load_model('double', '{config}', {files})") == "None"
        assert await evaluate(store, "call('double')") == str([5.0] * 4)

    serve(tmp_path, use)


def test_a_model_keeps_metrics_on_the_servers_page(tmp_path: Path):
    code = CALLER + (
        "\n    def initialize(self, args):\n"
        "        family = pb_utils.MetricFamily('words_total', 'Words seen', pb_utils.MetricFamily.COUNTER)\n"
        "        globals()['words'] = family.Metric({'model': 'caller'})\n"
        "        family = pb_utils.MetricFamily('length', 'Lengths', pb_utils.MetricFamily.HISTOGRAM)\n"
        "        globals()['lengths'] = family.Metric(buckets=[1, 10])\n"
    )
    write_caller(tmp_path, code)

    async def use(store: ModelStore) -> None:
        assert await evaluate(store, "words.increment(2) or words.increment(0.5) or words.value()") == "2.5"
        assert await evaluate(store, "[lengths.observe(x) for x in (0.5, 10, 11)]") == "[None, None, None]"
        assert "which has no increment by less than 0" in await evaluate(store, "attempt(words.increment, -1)")
        assert "which has no set" in await evaluate(store, "attempt(words.set, 1)")
        assert "only the server's own" in await evaluate(store, "attempt(pb_utils.MetricFamily, 'nv_x', '', 'gauge')")
        lines = store.custom_metrics().splitlines()
        assert 'words_total{model="caller"} 2.5' in lines
        assert [line for line in lines if re.match("length_(bucket|count)", line)] == [
            'length_bucket{le="1.0"} 1',
            'length_bucket{le="10.0"} 2',
            'length_bucket{le="+Inf"} 3',
            "length_count 3",
        ]

    serve(tmp_path, use)


def test_a_model_sees_that_its_client_is_gone(tmp_path: Path):
    code = CALLER.replace(
        "texts =",
        "import time\n        from pathlib import Path\n        (Path(__file__).parent / 'begun').touch()\n"
        "        while not requests[0].is_cancelled():\n            time.sleep(0.002)\n        texts =",
    )
    write_caller(tmp_path, code)

    async def use(store: ModelStore) -> None:
        done = asyncio.get_running_loop().create_future()
        request = InferRequest("caller", {"INPUT0": np.array([b"1"], np.object_)}, 0)
        store.submit(request, done.set_result)
        while not (tmp_path / "caller" / "1" / "begun").exists():
            await asyncio.sleep(0.002)
        request.cancel()
        await done

    serve(tmp_path, use)


def test_answers_of_a_model_that_is_not_decoupled_may_go_through_senders(tmp_path: Path):
    code = (
        HEAD
        + """
import threading


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.answer, args=(request, request.get_response_sender())).start()

    def answer(self, request, sender):
        sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy() * 3)]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
    )
    repositories.write_python(tmp_path, "triple", code)

    async def use(store: ModelStore) -> None:
        assert (await told_by(store, "triple", np.ones(2, np.float32))).tolist() == [3, 3]

    serve(tmp_path, use)


# Sends answers of 1 MB until nobody wants them, and says how far it is and how it ended in files.
FLOOD = (
    HEAD
    + """
class TritonPythonModel:
    def initialize(self, args):
        self.notes = args["model_repository"]

    def execute(self, requests):
        for request in requests:
            sender, count = request.get_response_sender(), 0
            while not sender.is_cancelled():
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.zeros(250_000, np.float32))]))
                count += 1
                with open(self.notes + "/count", "w") as file:
                    file.write(str(count))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            with open(self.notes + "/over", "w"):
                pass
"""
)


def test_answers_of_two_calls_may_be_taken_in_the_other_order(tmp_path: Path):
    """The called model has one instance, which begins with the second when the first's 40 MB are sent."""
    write_caller(tmp_path)
    code = COUNT.replace("np.full(4, number", "np.full(250_000, number")
    repositories.write_python(tmp_path, "count", code, extra=DECOUPLED)

    async def use(store: ModelStore) -> None:
        both = "[request('count', 40).exec(decoupled=True), request('count', 3).exec(decoupled=True)]"
        told = "[[float(told(one)[0]) for one in parts] for parts in reversed(%s)]"
        assert await evaluate(store, told % both) == str([[0.0, 1.0, 2.0], [float(x) for x in range(40)]])
        mixed = "[request('count', 40).exec(decoupled=True), call('count_once', 5)]"
        repositories.write_python(tmp_path, "count_once", PASSES_ON_COUNT)
        await store.load("count_once")
        assert await evaluate(store, f"{mixed}[1]") == str([4.0] * 4)

    serve(tmp_path, use)


@pytest.mark.parametrize("ending", ["PARTS[0].cancel()", "PARTS.clear()", "os._exit(3)"])
def test_a_called_model_waits_while_its_answers_are_not_taken(tmp_path: Path, ending: str):
    write_caller(tmp_path, f"import os\nPARTS = []\n{CALLER}")
    flood = repositories.write_python(tmp_path, "flood", FLOOD, extra=DECOUPLED)

    async def standstill() -> int:
        """How many answers the called model has sent when it sends no more."""
        steady, before = 0, -1
        while steady < 15 or before <= 0:
            await asyncio.sleep(0.02)
            now = int((flood / "count").read_text() or 0) if (flood / "count").exists() else 0
            steady, before = (steady + 1 if now == before else 0), now
        return before

    async def use(store: ModelStore) -> None:
        await evaluate(store, "PARTS.append(request('flood').exec(decoupled=True))")
        first = await standstill()
        assert first < 100
        await evaluate(store, "[len(next(PARTS[0]).output_tensors()) for _ in range(60)]")
        second = await standstill()
        assert first < second < first + 160
        if "exit" in ending:
            with pytest.raises(InferError, match="ended with exit code 3"):
                await evaluate(store, ending)
        else:
            await evaluate(store, ending)
        while not (flood / "over").exists():
            await asyncio.sleep(0.01)

    serve(tmp_path, use)
