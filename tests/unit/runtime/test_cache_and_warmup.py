import asyncio
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.options import parse_options
from analyzer.runtime.request import InferError, InferRequest, InferResponse
from analyzer.runtime.response_cache import ResponseCache, request_key
from tests.fakes.opened_store import serve
from tests.fakes.repositories import write_python

# Answers with how many rows it has executed before.
COUNTING = """\
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.seen = []

    def execute(self, requests):
        for request in requests:
            self.seen.append(float(request.inputs()[0].as_numpy().sum()))
            if self.seen[-1] == 66:
                raise ValueError("does not like this one")
        tensor = np.array([[len(self.seen), self.seen[0]]], np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", tensor)]) for _ in requests]
"""

ENABLED = "response_cache { enable: true }"


def play(repository: Path, extra: str, scene, cache: ResponseCache | None = None) -> None:
    write_python(repository, "counting", COUNTING, max_batch_size=4, extra=extra)
    serve(repository, scene, cache=cache)


async def ask(store: ModelStore, value: float, request_id: str = "") -> InferResponse:
    done = asyncio.get_running_loop().create_future()

    def reply(answer: InferResponse | InferError) -> None:
        done.set_exception(answer) if isinstance(answer, InferError) else done.set_result(answer)

    inputs = {"INPUT0": np.full((1, 2), value, np.float32)}
    store.submit(InferRequest("counting", inputs, 0, id=request_id), reply)
    assert not done.done()
    return await asyncio.wait_for(done, 20)


async def count(store: ModelStore, value: float) -> float:
    return float((await ask(store, value)).outputs["OUTPUT0"][0, 0])


def test_same_inputs_are_computed_once(tmp_path):
    async def scene(store: ModelStore) -> None:
        assert [await count(store, value) for value in (1, 2, 1, 2, 3)] == [1, 2, 1, 2, 3]
        answer = await ask(store, 1, "mine")
        assert (answer.id, answer.version) == ("mine", "1")
        counted = store.statistics("counting")[0]
        stats = counted.inference_stats
        assert (stats.cache_hit.count, stats.cache_miss.count) == (3, 3)
        assert (stats.success.count, stats.queue.count, counted.inference_count) == (6, 3, 3)

    play(tmp_path, ENABLED, scene, ResponseCache(2**20))


@pytest.mark.parametrize(("extra", "cache"), [("", ResponseCache(2**20)), (ENABLED, None)])
def test_without_a_cache_or_leave_everything_is_computed(tmp_path, extra, cache):
    async def scene(store: ModelStore) -> None:
        assert [await count(store, 1) for _ in range(3)] == [1, 2, 3]

    play(tmp_path, extra, scene, cache)


def test_failures_are_not_kept_and_a_model_loaded_anew_starts_empty(tmp_path):
    async def scene(store: ModelStore) -> None:
        for _ in range(2):
            with pytest.raises(InferError, match="does not like"):
                await ask(store, 33)
        assert await count(store, 1) == 3
        await store.load("counting")
        assert await count(store, 1) == 1

    play(tmp_path, ENABLED, scene, ResponseCache(2**20))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 300)), max_size=40))
def test_cache_stays_within_its_limit_and_gives_what_was_kept(puts):
    cache = ResponseCache(2_000)
    kept: dict[bytes, int] = {}
    for number, size in puts:
        key = bytes([number])
        cache.keep(key, {"Y": np.full(size, number, np.uint8)})
        kept.setdefault(key, size)
        assert cache.used_bytes <= 2_000
        found = cache.find(key)
        assert found is not None
        assert (found["Y"] == number).all()


def test_least_recently_used_answer_goes_first():
    cache = ResponseCache(3 * 600)
    for key in (b"a", b"b", b"c"):
        cache.keep(key, {"Y": np.zeros(88, np.uint8)})
    cache.find(b"a")
    cache.keep(b"d", {"Y": np.zeros(88, np.uint8)})
    assert [cache.find(key) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]
    cache.keep(b"e", {"Y": np.zeros(10_000, np.uint8)})
    assert cache.find(b"e") is None


def test_keys_tell_apart_what_differs():
    def key(inputs: dict[str, np.ndarray], requested: tuple[str, ...] = ()) -> bytes:
        return request_key(b"", InferRequest("m", inputs, 0, requested=requested))

    one = np.ones(4, np.float32)
    different = [
        key({"X": one}),
        key({"Y": one}),
        key({"X": one.reshape(2, 2)}),
        key({"X": one.view(np.int32)}),
        key({"X": one}, ("Z",)),
        key({"X": one, "Y": one}),
        key({"X": np.array([b"ab", b"c"], object)}),
        key({"X": np.array([b"a", b"bc"], object)}),
    ]
    assert len(set(different)) == len(different)
    assert key({"X": one, "Y": one}) == key({"Y": one.copy(), "X": one})


@pytest.mark.parametrize(("text", "size"), [("local,size=1048576", 2**20), ("local,size=0", None), ("redis,x=1", None)])
def test_cache_flag(text, size, capsys):
    arguments = ["--model-repository", "x", "--cache-config", text]
    if size is None:
        with pytest.raises(SystemExit):
            parse_options(arguments)
        assert "--cache-config" in capsys.readouterr().err
    else:
        assert parse_options(arguments).cache_bytes == size


def warmup(source: str, dims: str = "[ 2 ]") -> str:
    inputs = f'inputs {{ key: "INPUT0" value {{ data_type: TYPE_FP32 dims: {dims} {source} }} }}'
    return f'model_warmup {{ name: "w" batch_size: 3 count: 2 {inputs} }}'


@pytest.mark.parametrize(
    ("source", "first"),
    [("zero_data: true", 0.0), ("random_data: true", None), ('input_data_file: "sample"', 7.0)],
)
def test_each_instance_is_warm_before_it_serves(tmp_path, source, first):
    folder = tmp_path / "counting" / "warmup"
    folder.mkdir(parents=True)
    (folder / "sample").write_bytes(np.array([3, 4], np.float32).tobytes())

    async def scene(store: ModelStore) -> None:
        answer = await ask(store, 1)
        seen, began = answer.outputs["OUTPUT0"][0]
        assert seen == 7
        assert first is None or began == first
        assert store.statistics("counting")[0].execution_count == 1

    play(tmp_path, warmup(source), scene)


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (warmup('input_data_file: "gone"'), "no file warmup/gone"),
        (warmup('input_data_file: "../1/model.py"'), "leads out"),
        (warmup("zero_data: true", "[ -1 ]"), "must have dims that are all known"),
        (warmup('input_data_file: "bad"'), "failed in its model_warmup 'w'"),
        (warmup('input_data_file: "bad"', "[ 3 ]"), "does not fit"),
    ],
)
def test_warm_up_that_fails_refuses_the_model(tmp_path, block, words):
    folder = tmp_path / "counting" / "warmup"
    folder.mkdir(parents=True)
    (folder / "bad").write_bytes(np.array([33, 33], np.float32).tobytes())

    async def scene(store: ModelStore) -> None:
        assert words in store.index()[0].reason

    play(tmp_path, block, scene)
