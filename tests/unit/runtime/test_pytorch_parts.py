"""The parts of the pytorch backend that compute nothing: parameters, and names to places."""

import logging
from collections import namedtuple
from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError, ModelFiles
from analyzer.runtime.backends.pytorch_call import Argument, plan_call, plan_outputs
from analyzer.runtime.backends.pytorch_parameters import TorchParameters, read_parameters
from analyzer.runtime.request import InferError


def files(parameters: dict[str, str], max_batch_size: int = 32) -> ModelFiles:
    config = model_config_pb2.ModelConfig(name="net", max_batch_size=max_batch_size)
    for key, text in parameters.items():
        config.parameters[key].string_value = text
    return ModelFiles("net", 1, Path("net"), Path("net/1"), config)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, TorchParameters()),
        ({"DISABLE_OPTIMIZED_EXECUTION": "true"}, TorchParameters(optimized_execution=False)),
        ({"INFERENCE_MODE": "false"}, TorchParameters(inference_mode=False)),
        ({"INTRA_OP_THREAD_COUNT": "3"}, TorchParameters(intra_op_threads=3)),
        ({"NUM_THREADS": "2", "NUM_INTEROP_THREADS": "1"}, TorchParameters(intra_op_threads=2, inter_op_threads=1)),
        ({"ENABLE_WEIGHT_SHARING": "1"}, TorchParameters(weight_sharing=True)),
        ({"ENABLE_CACHE_CLEANING": "true"}, TorchParameters(cache_cleaning=True)),
        ({"ENABLE_TORCH_CACHE_CLEANING": "True"}, TorchParameters(cache_cleaning=True)),
        ({"channels_last": "true", "precision": "FP16"}, TorchParameters(channels_last=True, precision="FP16")),
        ({"autocast": "bf16", "allow_tf32": "0"}, TorchParameters(autocast="BF16", tf32=False)),
        ({"torch_compile": "default"}, TorchParameters(compile_options={"mode": "default"})),
        (
            {"TORCH_COMPILE_OPTIONAL_PARAMETERS": '{"fullgraph": true}', "torch_compile": "max-autotune"},
            TorchParameters(compile_options={"mode": "max-autotune", "fullgraph": True}),
        ),
        ({"cuda_graph_batch_sizes": "8, 1,32,8"}, TorchParameters(graph_sizes=(1, 8, 32))),
    ],
)
def test_parameters_are_read(given: dict[str, str], expected: TorchParameters):
    assert read_parameters(files(given)) == expected


def test_graphs_of_batches_that_can_not_come_are_left_out():
    assert read_parameters(files({"cuda_graph_batch_sizes": "1,8,16"}, 8)).graph_sizes == (1, 8)


@pytest.mark.parametrize(
    ("given", "rows", "reason"),
    [
        ({"INFERENCE_MODE": "maybe"}, 1, "has the parameter INFERENCE_MODE 'maybe'; it takes true or false"),
        ({"INTRA_OP_THREAD_COUNT": "0"}, 1, "it takes a number of threads, 1 or more"),
        ({"precision": "int4"}, 1, "it takes fp32, fp16 or bf16"),
        ({"autocast": "fp32"}, 1, "it takes fp16 or bf16"),
        ({"torch_compile": "fast"}, 1, "it takes one of default, reduce-overhead"),
        ({"TORCH_COMPILE_OPTIONAL_PARAMETERS": "[1]"}, 1, "it takes a JSON object"),
        ({"cuda_graph_batch_sizes": "1;8"}, 8, "it takes batch sizes with commas between them, such as 1,8,32"),
        ({"cuda_graph_batch_sizes": "0"}, 8, "it takes batch sizes with commas"),
        ({"cuda_graph_batch_sizes": "1"}, 0, "cuda_graph_batch_sizes, which needs a max_batch_size of 1 or more"),
        ({"cuda_graph_batch_sizes": "1", "torch_compile": "default"}, 8, "only one can capture its graphs"),
        ({"precision": "fp16", "autocast": "fp16"}, 8, "sets precision and autocast"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_one_sentence(given: dict[str, str], rows: int, reason: str):
    with pytest.raises(ModelError, match="model 'net'") as caught:
        read_parameters(files(given, rows))
    assert reason in str(caught.value)


def test_parameters_without_effect_are_named(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.WARNING):
        read_parameters(files({"ENABLE_NVFUSER": "true", "INFERENCE_MODE": "true", "mine": "1"}))
    assert [record.getMessage() for record in caplog.records] == [
        "model 'net' sets ENABLE_NVFUSER, mine, which its backend ignores"
    ]


X, SR = Argument("x"), Argument("sr", "int")
LENGTH = Argument("length", "int", required=False)


@pytest.mark.parametrize(
    ("arguments", "names", "positional", "keywords"),
    [
        ([X], ["anything"], ["anything"], {}),
        ([X, Argument("y")], ["INPUT__1", "INPUT__0"], ["INPUT__0", "INPUT__1"], {}),
        ([X, Argument("y")], ["y", "x"], ["x", "y"], {}),
        ([X, Argument("y")], ["y", "other"], ["y", "other"], {}),
        ([X, Argument("y")], ["a__0", "b__0"], ["a__0", "b__0"], {}),
        ([X, LENGTH], ["x"], ["x"], {}),
        ([X, Argument("k", by_keyword=True)], ["INPUT__0", "INPUT__1"], ["INPUT__0"], {"k": "INPUT__1"}),
        ([X, LENGTH, Argument("mask")], ["mask", "x"], ["x"], {"mask": "mask"}),
        ([X, Argument("n", "constant", fixed=3), Argument("y")], ["x", "y"], ["x", 3, "y"], {}),
    ],
)
def test_inputs_find_their_arguments(
    arguments: list[Argument], names: list[str], positional: list[object], keywords: dict[str, str]
):
    plan = plan_call("net", arguments, names)
    assert plan.arguments({name: name for name in names}) == (positional, keywords)


def test_an_optional_input_that_is_absent_leaves_later_arguments_to_their_names():
    plan = plan_call("net", [X, Argument("mask"), Argument("y")], ["x", "mask", "y"])
    assert plan.arguments({"x": 1, "y": 2}) == ([1], {"y": 2})


def test_a_dictionary_gets_all_inputs():
    plan = plan_call("net", [Argument("batch", "dictionary")], ["ids", "mask"])
    assert plan.arguments({"ids": 1, "mask": 2}) == ([{"ids": 1, "mask": 2}], {})


@pytest.mark.parametrize(
    ("arguments", "names", "reason"),
    [
        ([X], ["INPUT__0", "INPUT__1"], "input 'INPUT__1' of model 'net' has no place in its forward, which takes x"),
        ([X], ["INPUT__4"], "input 'INPUT__4' of model 'net' has no place in its forward"),
        ([X, SR], ["x"], "model 'net' needs the argument 'sr' of its forward"),
        ([Argument("names", "List[str]")], ["names"], "is of the type List[str], which is neither a tensor nor"),
        ([Argument("n", "constant", fixed=3)], ["n"], "is of the type constant"),
    ],
)
def test_inputs_that_forward_does_not_take_are_refused(arguments: list[Argument], names: list[str], reason: str):
    with pytest.raises(ModelError) as caught:
        plan_call("net", arguments, names)
    assert reason in str(caught.value)


Named = namedtuple("Named", ["boxes", "scores"])


@pytest.mark.parametrize(
    ("names", "result", "expected"),
    [
        (["y"], 7, {"y": 7}),
        (["b", "a"], (1, 2), {"b": 1, "a": 2}),
        (["OUTPUT__1"], (1, 2), {"OUTPUT__1": 2}),
        (["OUTPUT__1", "OUTPUT__0"], [1, 2], {"OUTPUT__1": 2, "OUTPUT__0": 1}),
        (["a", "b"], (1, [2, 3]), {"a": 1, "b": 2}),
        (["scores"], {"boxes": 1, "scores": 2}, {"scores": 2}),
        (["OUTPUT__0"], {"boxes": 1, "scores": 2}, {"OUTPUT__0": 1}),
        (["scores", "boxes"], Named(1, 2), {"scores": 2, "boxes": 1}),
    ],
)
def test_results_find_their_outputs(names: list[str], result: object, expected: dict[str, object]):
    assert plan_outputs("net", names).pick(result) == expected


def test_a_result_that_is_missing_is_one_sentence():
    with pytest.raises(InferError, match=r"gave 1 outputs, its config.pbtxt has 'OUTPUT__1' as number 1"):
        plan_outputs("net", ["OUTPUT__0", "OUTPUT__1"]).pick((1,))
