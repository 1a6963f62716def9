"""Execution providers of ONNX Runtime, from ``optimization.execution_accelerators`` and ``parameters``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from analyzer.runtime.backends.base import ModelError, ModelFiles
from analyzer.runtime.backends.parameters import as_bool


@dataclass(frozen=True, slots=True)
class Provider:
    """One provider and its options. ``label`` and the rest are for the sentence that says it is missing."""

    name: str
    options: dict[str, str] = field(default_factory=dict)
    label: str = ""
    package: str = ""
    instead: str = ""


# Kinds of values: a count, a truth, one of numbered names, or any text.
_COUNT, _BOOL, _TEXT = "count", "bool", "text"

_SEARCHES = ("EXHAUSTIVE", "HEURISTIC", "DEFAULT")
_EXTENSIONS = ("kNextPowerOfTwo", "kSameAsRequested")

CUDA_OPTIONS: dict[str, str | tuple[str, ...]] = {
    "cudnn_conv_algo_search": _SEARCHES,
    "arena_extend_strategy": _EXTENSIONS,
    "gpu_mem_limit": _COUNT,
    "do_copy_in_default_stream": _BOOL,
    "cudnn_conv_use_max_workspace": _BOOL,
    "cudnn_conv1d_pad_to_nc1d": _BOOL,
    "enable_cuda_graph": _BOOL,
    "enable_skip_layer_norm_strict_mode": _BOOL,
    "fuse_conv_bias": _BOOL,
    "prefer_nhwc": _BOOL,
    "sdpa_kernel": _COUNT,
    "tunable_op_enable": _BOOL,
    "tunable_op_max_tuning_duration_ms": _COUNT,
    "tunable_op_tuning_enable": _BOOL,
    "use_ep_level_unified_stream": _BOOL,
    "use_tf32": _BOOL,
}
"""Options of CUDA that a configuration may set, as ``parameters`` or in an accelerator named cuda, with their kinds.

Those of ONNX Runtime that take addresses (streams, allocators) are left out.
"""

_TENSORRT_OPTIONS: dict[str, str | tuple[str, ...]] = {
    "max_workspace_size_bytes": _COUNT,
    "int8_calibration_table_name": _TEXT,
    "int8_use_native_calibration_table": _BOOL,
    "trt_auxiliary_streams": _TEXT,
    "trt_build_heuristics_enable": _BOOL,
    "trt_builder_optimization_level": _COUNT,
    "trt_context_memory_sharing_enable": _BOOL,
    "trt_cuda_graph_enable": _BOOL,
    "trt_detailed_build_log": _BOOL,
    "trt_dla_core": _COUNT,
    "trt_dla_enable": _BOOL,
    "trt_dump_ep_context_model": _BOOL,
    "trt_dump_subgraphs": _BOOL,
    "trt_engine_cache_enable": _BOOL,
    "trt_engine_cache_path": _TEXT,
    "trt_engine_cache_prefix": _TEXT,
    "trt_ep_context_embed_mode": _COUNT,
    "trt_ep_context_file_path": _TEXT,
    "trt_extra_plugin_lib_paths": _TEXT,
    "trt_force_sequential_engine_build": _BOOL,
    "trt_force_timing_cache": _BOOL,
    "trt_layer_norm_fp32_fallback": _BOOL,
    "trt_max_partition_iterations": _COUNT,
    "trt_min_subgraph_size": _COUNT,
    "trt_profile_max_shapes": _TEXT,
    "trt_profile_min_shapes": _TEXT,
    "trt_profile_opt_shapes": _TEXT,
    "trt_sparsity_enable": _BOOL,
    "trt_tactic_sources": _TEXT,
    "trt_timing_cache_enable": _BOOL,
    "trt_timing_cache_path": _TEXT,
}

_TENSORRT_NAMES = {
    "max_workspace_size_bytes": "trt_max_workspace_size",
    "int8_calibration_table_name": "trt_int8_calibration_table_name",
    "int8_use_native_calibration_table": "trt_int8_use_native_calibration_table",
}

_PRECISIONS: dict[str, dict[str, str]] = {
    "FP32": {},
    "FP16": {"trt_fp16_enable": "1"},
    "BF16": {"trt_bf16_enable": "1"},
    "INT8": {"trt_int8_enable": "1"},
}

_OPENVINO_OPTIONS: dict[str, str | tuple[str, ...]] = {
    "cache_dir": _TEXT,
    "device_type": _TEXT,
    "num_of_threads": _COUNT,
    "num_streams": _COUNT,
    "precision": _TEXT,
}


def gpu_accelerators(files: ModelFiles, device: int) -> list[Provider]:
    """What comes before CUDA. Raises ModelError."""
    providers = []
    for accelerator in files.config.optimization.execution_accelerators.gpu_execution_accelerator:
        if accelerator.name == "tensorrt":
            options = {**_tensorrt_options(files.name, accelerator), "device_id": str(device)}
            providers.append(
                Provider(
                    "TensorrtExecutionProvider",
                    options,
                    label="the accelerator tensorrt",
                    package="onnxruntime-gpu and tensorrt",
                    instead="leave gpu_execution_accelerator out",
                )
            )
        elif accelerator.name != "cuda":
            raise _unknown(files, accelerator, "tensorrt or cuda")
    return providers


def cpu_accelerators(files: ModelFiles) -> list[Provider]:
    """What comes before the CPU. Raises ModelError."""
    providers = []
    for accelerator in files.config.optimization.execution_accelerators.cpu_execution_accelerator:
        if accelerator.name != "openvino":
            raise _unknown(files, accelerator, "openvino")
        options = {"device_type": "CPU", **_checked(files.name, "openvino", accelerator.parameters, _OPENVINO_OPTIONS)}
        providers.append(
            Provider(
                "OpenVINOExecutionProvider",
                options,
                label="the accelerator openvino",
                package="onnxruntime-openvino",
                instead="use the backend openvino, or leave cpu_execution_accelerator out",
            )
        )
    return providers


def cuda_options(files: ModelFiles, device: int, parameters: Mapping[str, str]) -> dict[str, str]:
    """Options of CUDA by ``parameters``, then by an accelerator named cuda. Raises ModelError.

    Where nothing is said of convolutions: HEURISTIC. An exhaustive search, ONNX Runtime's own choice, stops an instance
    for about a second at every batch size that it has not seen, and dynamic batching makes many.
    """
    given = {key: value for key, value in parameters.items() if key in CUDA_OPTIONS}
    for accelerator in files.config.optimization.execution_accelerators.gpu_execution_accelerator:
        if accelerator.name == "cuda":
            given |= {key: value for key, value in accelerator.parameters.items() if key in CUDA_OPTIONS}
    options = _checked(files.name, "cuda", given, CUDA_OPTIONS)
    if options.get("enable_cuda_graph") == "1":
        raise ModelError(
            f"model '{files.name}' sets enable_cuda_graph, which needs inputs and outputs at fixed addresses, and this "
            "backend gives each answer its own; leave it out, or use the pytorch backend's cuda_graph_batch_sizes"
        )
    return {"cudnn_conv_algo_search": "HEURISTIC", **options, "device_id": str(device)}


def _tensorrt_options(model: str, accelerator: Any) -> dict[str, str]:
    parameters = dict(accelerator.parameters)
    precision = parameters.pop("precision_mode", "FP32")
    if precision not in _PRECISIONS:
        raise ModelError(f"model '{model}' has precision_mode '{precision}'; it takes {', '.join(_PRECISIONS)}")
    options = _checked(model, "tensorrt", parameters, _TENSORRT_OPTIONS)
    return {**_PRECISIONS[precision], **{_TENSORRT_NAMES.get(key, key): value for key, value in options.items()}}


def _checked(
    model: str, accelerator: str, given: Mapping[str, str], known: Mapping[str, str | tuple[str, ...]]
) -> dict[str, str]:
    """The values as ONNX Runtime takes them. Raises ModelError for one that it would not."""
    for key in given:
        if key not in known:
            raise ModelError(
                f"model '{model}' gives the accelerator {accelerator} the parameter '{key}', which is not known"
            )
    return {key: _value(model, key, text, known[key]) for key, text in given.items()}


def _value(model: str, key: str, text: str, kind: str | tuple[str, ...]) -> str:
    if isinstance(kind, tuple):
        choices = {**{str(number): name for number, name in enumerate(kind)}, **{name: name for name in kind}}
        if text not in choices:
            numbers = ", ".join(f"{number} ({name})" for number, name in enumerate(kind))
            raise ModelError(f"model '{model}' has {key} '{text}'; it takes {numbers}")
        return choices[text]
    if kind == _BOOL:
        return str(int(as_bool(model, key, text)))
    if kind == _COUNT and not (text.isascii() and text.isdigit()):
        raise ModelError(f"model '{model}' has {key} '{text}', which is not a number of 0 or more")
    return text


def _unknown(files: ModelFiles, accelerator: Any, known: str) -> ModelError:
    return ModelError(
        f"model '{files.name}' asks for the execution accelerator '{accelerator.name}', which is not known here; "
        f"known is {known}"
    )
