"""The ``parameters`` of a PyTorch model to one record: Triton's by Triton's names, and those that only we have."""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from analyzer.runtime.backends.base import ModelError, ModelFiles

log = logging.getLogger(__name__)

PRECISIONS = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

IGNORED = (
    "ENABLE_NVFUSER",
    "ENABLE_JIT_EXECUTOR",
    "ENABLE_JIT_PROFILING",
    "ENABLE_TENSOR_FUSER",
    "DISABLE_CUDNN",
)
"""Switches of Triton that are for the whole process in PyTorch, or gone from it. Answers are the same without them."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class TorchParameters:
    """``precision`` and ``autocast`` are KServe types of floats; ``compile_options`` are those of ``torch.compile``.

    ``graph_sizes`` are the batch sizes captured as CUDA graphs, ascending. ``reset_method`` is called when a sequence
    starts. None is what the configuration leaves to us.
    """

    optimized_execution: bool = True
    inference_mode: bool = True
    intra_op_threads: int | None = None
    inter_op_threads: int | None = None
    weight_sharing: bool = False
    cache_cleaning: bool = False
    channels_last: bool = False
    precision: str | None = None
    autocast: str | None = None
    compile_options: Mapping[str, Any] | None = None
    graph_sizes: tuple[int, ...] = ()
    tf32: bool | None = None
    reset_method: str | None = None


def read_parameters(files: ModelFiles) -> TorchParameters:
    """Raises ModelError; warns of what is set in vain."""
    reader = _Reader(files)
    # Two names where Triton's backend has called the same thing differently over time.
    disable = reader.get("DISABLE_OPTIMIZED_EXECUTION", _boolean)
    inference = reader.get("INFERENCE_MODE", _boolean)
    found = TorchParameters(
        optimized_execution=not disable,
        inference_mode=True if inference is None else inference,
        intra_op_threads=reader.get_either("INTRA_OP_THREAD_COUNT", "NUM_THREADS", _count),
        inter_op_threads=reader.get_either("INTER_OP_THREAD_COUNT", "NUM_INTEROP_THREADS", _count),
        weight_sharing=bool(reader.get("ENABLE_WEIGHT_SHARING", _boolean)),
        cache_cleaning=bool(reader.get_either("ENABLE_TORCH_CACHE_CLEANING", "ENABLE_CACHE_CLEANING", _boolean)),
        channels_last=bool(reader.get("channels_last", _boolean)),
        precision=reader.get("precision", _precision),
        autocast=reader.get("autocast", _half_precision),
        compile_options=_compile_options(reader),
        graph_sizes=reader.get("cuda_graph_batch_sizes", _sizes) or (),
        tf32=reader.get("allow_tf32", _boolean),
        reset_method=reader.get("reset_method", _method),
    )
    reader.warn_of_others()
    _check(files, found)
    # One list serves a model whose max_batch_size is being searched.
    return replace(found, graph_sizes=tuple(size for size in found.graph_sizes if size <= files.config.max_batch_size))


def _compile_options(reader: "_Reader") -> Mapping[str, Any] | None:
    mode = reader.get("torch_compile", _compile_mode)
    options = reader.get("TORCH_COMPILE_OPTIONAL_PARAMETERS", _json_object)
    if mode is None:
        return options
    return {"mode": mode, **(options or {})}


def _check(files: ModelFiles, found: TorchParameters) -> None:
    """What one parameter alone can't tell."""
    name, rows = files.name, files.config.max_batch_size
    if found.autocast and found.precision not in (None, "FP32"):
        raise ModelError(f"model '{name}' sets precision and autocast; set the one of both that it was made for")
    if found.reset_method is not None:
        _check_reset(files, found)
    if not found.graph_sizes:
        return
    if rows == 0:
        raise ModelError(f"model '{name}' sets cuda_graph_batch_sizes, which needs a max_batch_size of 1 or more")
    if found.compile_options is not None:
        raise ModelError(
            f"model '{name}' sets cuda_graph_batch_sizes and torch_compile; only one can capture its graphs"
        )


def _check_reset(files: ModelFiles, found: TorchParameters) -> None:
    """What a module keeps it keeps for all rows and sequences alike, so an instance may serve only one at a time."""
    batching = files.config.sequence_batching
    if not files.config.HasField("sequence_batching"):
        why = "which needs sequence_batching"
    elif files.config.max_batch_size > 1:
        why = "which needs a max_batch_size of 0 or 1, as a module is reset for all rows of a batch"
    elif batching.oldest.max_candidate_sequences > 1:
        why = "which needs an instance for each sequence; use direct, or max_candidate_sequences: 1"
    elif found.weight_sharing:
        why = "which ENABLE_WEIGHT_SHARING can't go with, as instances would share their state, too"
    else:
        return
    raise ModelError(f"model '{files.name}' sets reset_method, {why}")


class _Reader:
    """Takes values one by one, and knows in the end which were never asked for."""

    def __init__(self, files: ModelFiles) -> None:
        self._files = files
        self._asked: set[str] = set()

    def get(self, key: str, convert: Callable[[str], _Value]) -> _Value | None:
        self._asked.add(key)
        text = self._files.parameter(key)
        if text is None:
            return None
        try:
            return convert(text.strip())
        except ValueError as error:
            raise ModelError(f"model '{self._files.name}' has the parameter {key} '{text}'; it takes {error}") from None

    def get_either(self, key: str, other: str, convert: Callable[[str], _Value]) -> _Value | None:
        first, second = self.get(key, convert), self.get(other, convert)
        return second if first is None else first

    def warn_of_others(self) -> None:
        others = sorted(set(self._files.config.parameters) - self._asked)
        if others:
            why = " (for the whole process in PyTorch, or gone from it)" if set(others) <= set(IGNORED) else ""
            log.warning("model '%s' sets %s, which its backend ignores%s", self._files.name, ", ".join(others), why)


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "1", "false", "0"):
        raise ValueError("true or false")
    return text.lower() in ("true", "1")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ValueError("a number of threads, 1 or more")
    return int(text)


def _sizes(text: str) -> tuple[int, ...]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise ValueError("batch sizes with commas between them, such as 1,8,32")
    return tuple(sorted({int(word) for word in words}))


def _method(text: str) -> str:
    if not text.isidentifier():
        raise ValueError("the name of a method of the module, such as reset_states")
    return text


def _precision(text: str) -> str:
    if text.lower() not in PRECISIONS:
        raise ValueError("fp32, fp16 or bf16")
    return PRECISIONS[text.lower()]


def _half_precision(text: str) -> str:
    if text.lower() not in ("fp16", "bf16"):
        raise ValueError("fp16 or bf16")
    return PRECISIONS[text.lower()]


def _compile_mode(text: str) -> str:
    if text not in COMPILE_MODES:
        raise ValueError(f"one of {', '.join(COMPILE_MODES)}")
    return text


def _json_object(text: str) -> dict[str, Any]:
    wanted = "a JSON object with options of torch.compile other than model"
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError(wanted) from None
    if not isinstance(found, dict) or "model" in found:
        raise ValueError(wanted)
    return found
