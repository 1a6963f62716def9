"""Configurations to session plans, without ONNX Runtime."""

from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError, ModelFiles, Placement
from analyzer.runtime.backends.onnxruntime_options import (
    check_available,
    check_in_use,
    make_plan,
    unknown_parameters,
)

CPU = Placement("m_0_0", 0, 1, "KIND_CPU", 0)
GPU = Placement("m_0_0", 0, 1, "KIND_GPU", 1)
CORES = 8


def files(config: str) -> ModelFiles:
    parsed = text_format.Parse(config, model_config_pb2.ModelConfig(name="m", max_batch_size=32))
    return ModelFiles("m", 1, Path("m"), Path("m/1"), parsed)


def parameter(key: str, value: str) -> str:
    return f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'


def accelerator(kind: str, name: str, **parameters: str) -> str:
    pairs = "".join(f'parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items())
    return f'optimization {{ execution_accelerators {{ {kind}_execution_accelerator {{ name: "{name}" {pairs} }} }} }}'


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("", {"intra_op_threads": 0, "inter_op_threads": 0, "graph_level": "ALL", "is_parallel": False}),
        (parameter("intra_op_thread_count", "3"), {"intra_op_threads": 3}),
        (parameter("inter_op_thread_count", "2"), {"inter_op_threads": 2}),
        (parameter("execution_mode", "1"), {"is_parallel": True}),
        (parameter("execution_mode", "0"), {"is_parallel": False}),
        (parameter("enable_mem_arena", "0"), {"uses_mem_arena": False}),
        (parameter("enable_mem_pattern", "False"), {"uses_mem_pattern": False}),
        (parameter("session.set_denormal_as_zero", "1"), {"entries": {"session.set_denormal_as_zero": "1"}}),
        (
            parameter("memory.enable_memory_arena_shrinkage", "cpu:0"),
            {"run_entries": {"memory.enable_memory_arena_shrinkage": "cpu:0"}},
        ),
        (parameter("profile_file", "trace"), {"profile_file": "trace_1_0"}),
        (parameter("share_session_between_instances", "true"), {"shares_session": True}),
        (parameter("batch_sizes", "32, 1,8,8"), {"batch_sizes": (1, 8, 32)}),
        (parameter("batch_sizes", "1,8"), {"batch_sizes": (1, 8, 32)}),
        (parameter("batch_sizes", "1,24,48,64"), {"batch_sizes": (1, 24, 32)}),
        ("optimization { graph { level: -1 } }", {"graph_level": "BASIC"}),
        ("optimization { graph { level: 0 } }", {"graph_level": "ALL"}),
        ("optimization { graph { level: 1 } }", {"graph_level": "EXTENDED"}),
        ("optimization { graph { level: 2 } }", {"graph_level": "DISABLE"}),
    ],
)
def test_session_options_come_from_the_parameters_of_triton(config: str, expected: dict[str, object]):
    plan = make_plan(files(config), CPU, CORES)
    assert {name: getattr(plan, name) for name in expected} == expected


def test_instances_on_the_cpu_share_the_cores():
    threads = {peers: make_plan(files(""), Placement("m", 0, peers, "KIND_CPU", 0), CORES) for peers in (1, 2, 3, 16)}
    assert {peers: plan.intra_op_threads for peers, plan in threads.items()} == {1: 0, 2: 4, 3: 2, 16: 1}


@pytest.mark.parametrize(
    ("placement", "config", "expected"),
    [
        (CPU, "", [("CPUExecutionProvider", {})]),
        (CPU, accelerator("gpu", "tensorrt"), [("CPUExecutionProvider", {})]),
        (
            CPU,
            accelerator("cpu", "openvino", num_of_threads="2"),
            [
                ("OpenVINOExecutionProvider", {"device_type": "CPU", "num_of_threads": "2"}),
                ("CPUExecutionProvider", {}),
            ],
        ),
        (
            GPU,
            "",
            [
                ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "device_id": "1"}),
                ("CPUExecutionProvider", {}),
            ],
        ),
        (
            GPU,
            "\n".join(
                [
                    parameter("cudnn_conv_algo_search", "0"),
                    parameter("gpu_mem_limit", "1000"),
                    parameter("arena_extend_strategy", "1"),
                    parameter("do_copy_in_default_stream", "false"),
                    parameter("prefer_nhwc", "1"),
                    parameter("use_tf32", "0"),
                    accelerator("gpu", "cuda", cudnn_conv_use_max_workspace="0", gpu_mem_limit="2000"),
                ]
            ),
            [
                (
                    "CUDAExecutionProvider",
                    {
                        "cudnn_conv_algo_search": "EXHAUSTIVE",
                        "gpu_mem_limit": "2000",
                        "arena_extend_strategy": "kSameAsRequested",
                        "do_copy_in_default_stream": "0",
                        "prefer_nhwc": "1",
                        "use_tf32": "0",
                        "cudnn_conv_use_max_workspace": "0",
                        "device_id": "1",
                    },
                ),
                ("CPUExecutionProvider", {}),
            ],
        ),
        (
            GPU,
            accelerator(
                "gpu",
                "tensorrt",
                precision_mode="FP16",
                max_workspace_size_bytes="1073741824",
                trt_engine_cache_enable="true",
            ),
            [
                (
                    "TensorrtExecutionProvider",
                    {
                        "trt_fp16_enable": "1",
                        "trt_max_workspace_size": "1073741824",
                        "trt_engine_cache_enable": "1",
                        "device_id": "1",
                    },
                ),
                ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "device_id": "1"}),
                ("CPUExecutionProvider", {}),
            ],
        ),
    ],
)
def test_providers_come_in_the_order_in_which_they_are_offered_the_graph(
    placement: Placement, config: str, expected: list[tuple[str, dict[str, str]]]
):
    plan = make_plan(files(config), placement, CORES)
    assert [(provider.name, provider.options) for provider in plan.providers] == expected


@pytest.mark.parametrize(
    ("placement", "config", "reason"),
    [
        (CPU, parameter("execution_mode", "2"), "execution_mode '2'; it takes 0 (sequential) or 1 (parallel)"),
        (CPU, parameter("enable_mem_arena", "maybe"), "enable_mem_arena 'maybe'; it takes true or false"),
        (CPU, parameter("profile_file", "/etc/x"), "give a name without folders"),
        (CPU, parameter("batch_sizes", "1,x"), "give numbers of rows such as"),
        (CPU, "optimization { graph { level: 7 } }", "graph level 7; it takes -1, 0, 1 or 2"),
        (CPU, accelerator("cpu", "magic"), "the execution accelerator 'magic', which is not known here"),
        (CPU, accelerator("cpu", "openvino", speed="1"), "the accelerator openvino the parameter 'speed'"),
        (GPU, accelerator("gpu", "openvino"), "known is tensorrt or cuda"),
        (GPU, accelerator("gpu", "tensorrt", precision_mode="FP12"), "precision_mode 'FP12'; it takes FP32, FP16"),
        (GPU, accelerator("gpu", "tensorrt", max_workspace_size_bytes="1G"), "'1G', which is not a number"),
        (GPU, accelerator("gpu", "tensorrt", color="red"), "the accelerator tensorrt the parameter 'color'"),
        (GPU, parameter("cudnn_conv_algo_search", "3"), "it takes 0 (EXHAUSTIVE), 1 (HEURISTIC), 2 (DEFAULT)"),
        (GPU, parameter("enable_cuda_graph", "1"), "needs inputs and outputs at fixed addresses"),
    ],
)
def test_a_value_that_cannot_be_honoured_is_one_sentence(placement: Placement, config: str, reason: str):
    with pytest.raises(ModelError) as caught:
        make_plan(files(config), placement, CORES)
    assert reason in str(caught.value)
    assert str(caught.value).startswith("model 'm' ")


def test_batch_sizes_need_a_model_that_batches():
    model = files(parameter("batch_sizes", "1,8"))
    model.config.max_batch_size = 0
    with pytest.raises(ModelError, match="needs a max_batch_size of 1 or more"):
        make_plan(model, CPU, CORES)


def test_parameters_without_effect_are_named():
    config = "\n".join(
        [
            parameter("intra_op_thread_count", "1"),
            parameter("session.x", "1"),
            parameter("use_tf32", "1"),
            parameter("colour", "red"),
            accelerator("gpu", "cuda", user_compute_stream="12", use_tf32="1"),
        ]
    )
    assert unknown_parameters(files(config)) == ["colour", "cuda.user_compute_stream"]


@pytest.mark.parametrize(
    ("placement", "config", "missing", "package"),
    [
        (CPU, accelerator("cpu", "openvino"), "OpenVINOExecutionProvider", "onnxruntime-openvino"),
        (GPU, "", "CUDAExecutionProvider", "'serving-analyzer[gpu]'"),
        (GPU, accelerator("gpu", "tensorrt"), "TensorrtExecutionProvider", "onnxruntime-gpu and tensorrt"),
    ],
)
def test_a_provider_that_is_missing_fails_the_load_and_its_package_is_named(
    placement: Placement, config: str, missing: str, package: str
):
    model = files(config)
    plan = make_plan(model, placement, CORES)
    everything = [provider.name for provider in plan.providers]
    check_available(model, plan, everything)
    check_in_use(model, plan, everything)
    rest = [name for name in everything if name != missing]
    with pytest.raises(ModelError, match="which this ONNX Runtime has not") as caught:
        check_available(model, plan, rest)
    assert f"pip install {package}" in str(caught.value)
    with pytest.raises(ModelError, match="which ONNX Runtime could not start"):
        check_in_use(model, plan, rest)
