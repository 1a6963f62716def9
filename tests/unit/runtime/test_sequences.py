import asyncio
from pathlib import Path

import numpy as np
import pytest

from analyzer.runtime.model_store import ModelStore
from analyzer.runtime.request import InferError, InferRequest, InferResponse
from tests.fakes.opened_store import opened_store
from tests.fakes.repositories import write_model

# Tells what each row of a batch was given, and adds X to the row's state.
MODEL = """\
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            number = given["CORRID"].ravel()[0]
            seen = [int(given[name].ravel()[0]) for name in ("START", "END", "READY")]
            seen += [len(number) if isinstance(number, bytes) else int(number), request.flags(), len(requests)]
            total = given["SUM_IN"] + given["X"]
            outputs = {"SEEN": np.array([seen], np.int64), "TOTAL": total, "SUM_OUT": total}
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor(*item) for item in outputs.items()]))
        return responses
"""

CONTROLS = """
  control_input { name: "START" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } }
  control_input { name: "END" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } }
  control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } }
  control_input { name: "CORRID" control { kind: CONTROL_SEQUENCE_CORRID data_type: %s } }
"""
STATE = """
  state { input_name: "SUM_IN" output_name: "SUM_OUT" data_type: TYPE_FP32 dims: [ 1 ] %s }
"""


def write_sequences(
    repository: Path, strategy: str = "direct { }", *, corrid: str = "TYPE_UINT64", state: str = "", rows: int = 4
) -> Path:
    return write_model(
        repository,
        "seq",
        backend="python",
        inputs=[("X", "TYPE_FP32", [1])],
        outputs=[("SEEN", "TYPE_INT64", [6]), ("TOTAL", "TYPE_FP32", [1])],
        max_batch_size=rows,
        extra=f"sequence_batching {{ {strategy} {CONTROLS % corrid} {STATE % state} }}\ninstance_group {{ count: 2 }}",
        files={"model.py": MODEL},
    )


class Player:
    def __init__(self, store: ModelStore, loop: asyncio.AbstractEventLoop) -> None:
        self.store = store
        self.loop = loop

    def start(self, identity: object, value: float, flags: str = "", rows: int = 1) -> "asyncio.Future[InferResponse]":
        parameters = {"sequence_id": identity, "sequence_start": "s" in flags, "sequence_end": "e" in flags}
        done = self.loop.create_future()

        def reply(answer: InferResponse | InferError) -> None:
            done.set_exception(answer) if isinstance(answer, InferError) else done.set_result(answer)

        inputs = {"X": np.full((rows, 1), value, np.float32)}
        self.store.submit(InferRequest("seq", inputs, 0, parameters=parameters), reply)
        return done

    async def ask(self, identity: object, value: float, flags: str = "") -> tuple[list[int], float]:
        answer = await asyncio.wait_for(self.start(identity, value, flags), 20)
        assert "SUM_OUT" not in answer.outputs
        return answer.outputs["SEEN"].tolist()[0], float(answer.outputs["TOTAL"][0, 0])


def play(repository: Path, scene) -> None:
    async def run() -> None:
        async with opened_store(repository) as store:
            assert store.all_ready(), store.index()
            await scene(Player(store, asyncio.get_running_loop()))

    asyncio.run(run())


@pytest.mark.parametrize("strategy", ["direct { }", "oldest { max_candidate_sequences: 4 }"])
def test_controls_and_state_follow_the_sequence(tmp_path, strategy):
    write_sequences(tmp_path, strategy)

    async def scene(player: Player) -> None:
        assert await player.ask(5, 1, "s") == ([1, 0, 1, 5, 1, 1], 1)
        assert await player.ask(5, 2) == ([0, 0, 1, 5, 0, 1], 3)
        assert await player.ask(6, 10, "s") == ([1, 0, 1, 6, 1, 1], 10)  # on the other instance
        assert await player.ask(5, 4, "e") == ([0, 1, 1, 5, 2, 1], 7)
        assert await player.ask(6, 10, "s") == ([1, 0, 1, 6, 1, 1], 10)  # begun anew
        assert await player.ask(5, 8, "se") == ([1, 1, 1, 5, 3, 1], 8)

    play(tmp_path, scene)


def test_direct_rows_below_one_that_is_ready_are_filled(tmp_path):
    write_sequences(tmp_path)

    async def scene(player: Player) -> None:
        for number in (1, 2, 3):
            await player.ask(number, 1, "s")
        seen, total = await player.ask(3, 1)  # the second row of the first instance
        assert (seen[-1], total) == (2, 2)
        assert (await player.ask(1, 1))[0][-1] == 1

    play(tmp_path, scene)


MORTAL = """\
import os
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.total = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            value, identity = request.inputs()[0].as_numpy(), request.correlation_id()
            if value.ravel()[0] < 0:
                os._exit(3)
            start = request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START
            self.total[identity] = value + (0 if start else self.total.get(identity, 0))
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("TOTAL", self.total[identity])]))
        return responses
"""


def write_mortal(repository: Path, strategy: str) -> None:
    write_model(
        repository,
        "seq",
        backend="python",
        inputs=[("X", "TYPE_FP32", [1])],
        outputs=[("TOTAL", "TYPE_FP32", [1])],
        max_batch_size=4,
        extra=f"sequence_batching {{ {strategy} }}\ninstance_group {{ count: 2 }}",
        files={"model.py": MORTAL},
    )


@pytest.mark.parametrize("strategy", ["direct { }", "oldest { max_candidate_sequences: 4 }"])
def test_sequences_whose_process_died_must_start_again_and_others_go_on(tmp_path, strategy):
    write_mortal(tmp_path, strategy)

    async def total(player: Player, identity: object, value: float, flags: str = "") -> float:
        answer = await asyncio.wait_for(player.start(identity, value, flags), 20)
        return float(answer.outputs["TOTAL"][0, 0])

    async def scene(player: Player) -> None:
        names = ("one", "two", "three", "four")  # by turns on both instances
        assert [await total(player, name, 1, "s") for name in names] == [1] * 4
        dying, behind = player.start("one", -1), player.start("one", 2)
        with pytest.raises(InferError, match="ended with exit code 3"):
            await dying
        with pytest.raises(InferError, match="must specify the START flag"):
            await behind
        for name in ("one", "three"):
            with pytest.raises(InferError, match="lost with the process of its instance"):
                player.start(name, 1)
        assert [await total(player, name, 1) for name in ("two", "four")] == [2, 2]
        assert await total(player, "one", 5, "s") == 5
        assert await total(player, "one", 5, "e") == 10
        with pytest.raises(InferError, match=r"first request of the sequence$"):
            player.start("one", 1)

    play(tmp_path, scene)


def test_state_that_the_server_keeps_outlives_the_process(tmp_path):
    code = MODEL.replace("        responses = []\n", DIES_WHEN_ASKED)
    folder = write_sequences(tmp_path)
    (folder / "1" / "model.py").write_text(code)

    async def scene(player: Player) -> None:
        await player.ask(1, 5, "s")
        with pytest.raises(InferError, match="exit code 3"):
            await player.start(1, -1)
        assert (await player.ask(1, 2))[1] == 7

    play(tmp_path, scene)


DIES_WHEN_ASKED = """\
        responses = []
        if any(tensor.name() == "X" and tensor.as_numpy()[0, 0] < 0 for tensor in requests[0].inputs()):
            import os

            os._exit(3)
"""


def test_requests_of_one_sequence_sent_at_once_are_answered_in_order(tmp_path):
    write_sequences(tmp_path, "oldest { max_candidate_sequences: 2 }")

    async def scene(player: Player) -> None:
        asked = []
        for step in range(20):
            flags = "s" if step == 0 else "e" if step == 19 else ""
            asked += [(name, step, player.start(name, 1, flags)) for name in ("a", "b", "c", "d", "e", "f")]
        for _, step, answer in asked:
            assert (await asyncio.wait_for(answer, 20)).outputs["TOTAL"].tolist() == [[step + 1]]
        statistics = player.store.statistics("seq")[0]
        assert statistics.inference_count == 120

    play(tmp_path, scene)


def test_text_ids_reach_a_model_that_takes_text(tmp_path):
    write_sequences(tmp_path, corrid="TYPE_STRING")

    async def scene(player: Player) -> None:
        assert (await player.ask("abc", 1, "se"))[0][3] == 3
        assert (await player.ask(12, 1, "se"))[0][3] == 2

    play(tmp_path, scene)


def accumulator() -> bytes:
    """TOTAL = SUM_OUT = X + SUM_IN where READY, over [batch, 1]."""
    import onnx
    from onnx import TensorProto, helper

    def tensor(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 1])

    nodes = [
        helper.make_node("Mul", ["X", "READY"], ["x"]),
        helper.make_node("Add", ["x", "SUM_IN"], ["TOTAL"]),
        helper.make_node("Identity", ["TOTAL"], ["SUM_OUT"]),
    ]
    inputs, outputs = [tensor(name) for name in ("X", "READY", "SUM_IN")], [tensor("TOTAL"), tensor("SUM_OUT")]
    graph = helper.make_graph(nodes, "accumulator", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize("strategy", ["direct { }", "oldest { max_candidate_sequences: 4 }"])
def test_state_of_an_onnx_model_is_kept_for_each_sequence(tmp_path, strategy):
    ready = 'control_input { name: "READY" control { kind: CONTROL_SEQUENCE_READY fp32_false_true: [ 0, 1 ] } }'
    write_model(
        tmp_path,
        "seq",
        backend="onnxruntime",
        inputs=[("X", "TYPE_FP32", [1])],
        outputs=[("TOTAL", "TYPE_FP32", [1])],
        max_batch_size=4,
        extra=f"sequence_batching {{ {strategy} {ready} {STATE % ''} }}",
        files={"model.onnx": accumulator()},
    )

    async def scene(player: Player) -> None:
        asked = [
            (step, number, player.start(number, number, "s" if step == 0 else ""))
            for step in range(5)
            for number in range(1, 7)  # more than there are seats
            if number < 5 or step == 0
        ]
        for number in range(1, 5):
            asked.append((5, number, player.start(number, number, "e")))
        for step, number, answer in asked:
            outputs = (await asyncio.wait_for(answer, 20)).outputs
            assert {name: array.tolist() for name, array in outputs.items()} == {"TOTAL": [[number * (step + 1)]]}

    play(tmp_path, scene)


def test_initial_state_comes_from_a_file(tmp_path):
    folder = write_sequences(
        tmp_path, state='initial_state { name: "i" data_type: TYPE_FP32 dims: [ 1 ] data_file: "begin" }'
    )
    (folder / "initial_state").mkdir()
    (folder / "initial_state" / "begin").write_bytes(np.float32(100).tobytes())

    async def scene(player: Player) -> None:
        assert (await player.ask(1, 1, "s"))[1] == 101
        assert (await player.ask(1, 1))[1] == 102

    play(tmp_path, scene)


def test_model_that_does_not_batch_takes_sequences_one_an_instance(tmp_path):
    write_sequences(tmp_path, rows=0)

    async def scene(player: Player) -> None:
        loop = asyncio.get_running_loop()

        def ask(number: int, flags: str) -> "asyncio.Future[float]":
            done = loop.create_future()
            parameters = {"sequence_id": number, "sequence_start": "s" in flags, "sequence_end": "e" in flags}
            request = InferRequest("seq", {"X": np.ones(1, np.float32)}, 0, parameters=parameters)
            player.store.submit(request, lambda answer: done.set_result(answer.outputs["TOTAL"].tolist()))
            return done

        third = [ask(number, "s") for number in (1, 2, 3)][2]
        assert await ask(1, "e") == [2]
        assert await asyncio.wait_for(third, 20) == [1]

    # SEEN would be two-dimensional there.
    model = tmp_path / "seq" / "1" / "model.py"
    model.write_text(model.read_text().replace("np.array([seen]", "np.array(seen"))
    play(tmp_path, scene)


def test_idle_sequence_is_forgotten(tmp_path):
    write_sequences(tmp_path, "max_sequence_idle_microseconds: 1000 direct { }")

    async def scene(player: Player) -> None:
        await player.ask(1, 1, "s")
        pauses = (await player.ask(1, 1) and await asyncio.sleep(0.02) for _ in range(1_000))
        with pytest.raises(InferError, match="START"):
            _ = [pause async for pause in pauses]  # until it was idle for long enough

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("identity", "flags", "rows", "words"),
    [
        (0, "s", 1, "non-zero or non-empty"),
        (9, "", 1, "START"),
        (9, "s", 2, "batch-size 1"),
        (True, "s", 1, "must be a number or a string"),
        (1.5, "s", 1, "must be a number or a string"),
    ],
)
def test_request_that_fits_no_sequence_is_refused(tmp_path, identity, flags, rows, words):
    write_sequences(tmp_path)

    async def scene(player: Player) -> None:
        with pytest.raises(InferError, match=words):
            player.start(identity, 1, flags, rows)

    play(tmp_path, scene)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("int32_false_true: [ 0, 1 ]", "int32_false_true: [ 0 ]", "two values"),
        ("TYPE_UINT64", "TYPE_FP32", "integer or string"),
        ('name: "START"', 'name: "X"', "more than once"),
        (
            "dims: [ 1 ]  }",
            'dims: [ 1 ] initial_state { dims: [ 1 ] data_file: "gone" } }',
            "no file initial_state/gone",
        ),
        ("dims: [ 1 ]  }", 'dims: [ 1 ] initial_state { dims: [ 1 ] data_file: "../1/model.py" } }', "leads out"),
    ],
)
def test_wrong_sequence_batching_refuses_the_model_with_a_sentence(tmp_path, old, new, words):
    path = write_sequences(tmp_path) / "config.pbtxt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))

    async def scene() -> None:
        async with opened_store(tmp_path) as store:
            assert words in store.index()[0].reason

    asyncio.run(scene())
