"""What an ensemble hands from step to step: the same memory, on the host and on a device; branches at the same time."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.device_tensor import DeviceTensor, as_array, on_device
from analyzer.runtime.ensemble import Ensemble
from analyzer.runtime.ensemble_steps import read_steps
from analyzer.runtime.request import InferError, InferRequest, InferResponse, Tensors
from analyzer.runtime.signature import Signature, make_signature
from analyzer.runtime.statistics import Statistics
from tests.fakes.device_memory import device_tensor

DIAMOND = """
name: "diamond" platform: "ensemble"
input { name: "X" data_type: TYPE_FP32 dims: [ 4 ] }
output { name: "Y" data_type: TYPE_FP32 dims: [ 4 ] }
ensemble_scheduling {
  step { model_name: "first" input_map { key: "a" value: "X" } output_map { key: "b" value: "mid" } }
  step { model_name: "left" input_map { key: "a" value: "mid" } output_map { key: "b" value: "l" } }
  step { model_name: "right" input_map { key: "a" value: "mid" } output_map { key: "b" value: "r" } }
  step {
    model_name: "last"
    input_map { key: "a" value: "l" } input_map { key: "c" value: "r" }
    output_map { key: "b" value: "Y" }
  }
}
"""


class Step:
    """A model whose answers are given by the test; those on a device keep an output there if they may."""

    def __init__(self, name: str, is_on_device: bool = False) -> None:
        self.signature = Signature(name, 0, [], [])
        self.statistics = Statistics(name, "1")
        self.takes_device_tensors = is_on_device
        self.requests: list[InferRequest] = []
        self.replies: list[Callable[[InferResponse | InferError], None]] = []
        self.given: list[Tensors] = []

    def submit(self, request, reply):
        self.requests.append(request)
        self.replies.append(reply)

    def answer(self) -> None:
        """The answer to its request: input a plus one, in new memory."""
        request, tensor = self.requests[-1], self.requests[-1].inputs["a"]
        far = on_device(tensor)
        output = (tensor if far is None else far.to_host()) + np.float32(1)
        if "b" in request.keep_on_device:
            output = as_array(device_tensor(output))
        self.given.append({"b": output})
        self.replies[-1](InferResponse(request.model, "1", "", {"b": output}))


class Diamond:
    def __init__(self, on_device_names: str = "", **request: object) -> None:
        config = text_format.Parse(DIAMOND, model_config_pb2.ModelConfig())
        self.steps = {name: Step(name, name in on_device_names) for name in ("first", "left", "right", "last")}
        self.answers: list[InferResponse | InferError] = []
        self._config = config
        self._request = {"inputs": {"X": np.zeros(4, np.float32)}, **request}

    def run(self, act: Callable[["Diamond"], None]) -> Tensors:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            lookup = lambda name, version: self.steps[name]  # noqa: E731 - a function of one line
            signature, steps = make_signature(self._config), read_steps(self._config)
            ensemble = Ensemble(signature, Statistics("diamond", "1"), steps, lookup, loop)
            ensemble.submit(InferRequest("diamond", arrival_ns=0, **self._request), self.answers.append)
            await asyncio.sleep(0)
            act(self)

        asyncio.run(main())
        (answer,) = self.answers
        assert isinstance(answer, InferResponse)
        return answer.outputs


def in_turn(diamond: Diamond) -> None:
    for step in diamond.steps.values():
        step.answer()


def test_steps_share_the_memory_of_the_arrays_between_them():
    diamond = Diamond()
    sent = diamond._request["inputs"]["X"]
    outputs = diamond.run(in_turn)
    steps = diamond.steps
    assert np.shares_memory(steps["first"].requests[0].inputs["a"], sent)
    for side in ("left", "right"):
        assert np.shares_memory(steps[side].requests[0].inputs["a"], steps["first"].given[0]["b"])
    assert np.shares_memory(steps["last"].requests[0].inputs["a"], steps["left"].given[0]["b"])
    assert np.shares_memory(steps["last"].requests[0].inputs["c"], steps["right"].given[0]["b"])
    assert np.shares_memory(outputs["Y"], steps["last"].given[0]["b"])
    assert outputs["Y"].tolist() == [3.0] * 4


def test_a_step_can_not_write_into_what_another_one_reads():
    diamond = Diamond()
    diamond.run(in_turn)
    for side in ("left", "right"):
        array = diamond.steps[side].requests[0].inputs["a"]
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_branches_are_under_way_at_the_same_time():
    def act(diamond: Diamond) -> None:
        steps = diamond.steps
        assert [len(step.requests) for step in steps.values()] == [1, 0, 0, 0]
        steps["first"].answer()
        assert [len(step.requests) for step in steps.values()] == [1, 1, 1, 0]
        steps["right"].answer()
        assert not steps["last"].requests
        steps["left"].answer()
        steps["last"].answer()

    Diamond().run(act)


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ("", []),
        ("first left right last", ["first", "left", "right"]),
        ("first left", []),
        ("first left right", ["first"]),
        ("left right last", ["left", "right"]),
        ("left last", ["left"]),
    ],
)
def test_a_tensor_stays_on_the_device_where_all_that_take_it_can_use_it_there(names: str, kept: list[str]):
    diamond = Diamond(names)
    outputs = diamond.run(in_turn)
    assert [name for name, step in diamond.steps.items() if step.requests[0].keep_on_device] == kept
    assert outputs["Y"].tolist() == [3.0] * 4
    if "right" in kept:
        last = diamond.steps["last"].requests[0]
        assert last.on_device
        assert last.inputs["c"] is diamond.steps["right"].given[0]["b"]
        assert last.inputs["c"].memory.reads == 0


def test_an_output_stays_on_the_device_only_for_who_asks_for_it_there():
    names = "first left right last"
    assert isinstance(Diamond(names).run(in_turn)["Y"], np.ndarray)
    asked = Diamond(names, keep_on_device=frozenset({"Y"})).run(in_turn)
    assert isinstance(asked["Y"], DeviceTensor)


def test_an_input_on_the_device_is_passed_on_as_it_is():
    tensor = as_array(device_tensor(np.zeros(4, np.float32)))
    diamond = Diamond("first", inputs={"X": tensor}, on_device=True)
    diamond.run(in_turn)
    request = diamond.steps["first"].requests[0]
    assert request.on_device
    assert request.inputs["a"] is tensor
    assert not diamond.steps["left"].requests[0].on_device
