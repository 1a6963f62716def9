"""A model's ``parameters`` to properties of OpenVINO. OpenVINO is not imported.

Taken are OpenVINO's own names, which Triton's backend takes too, and the older names of Triton's backend.
"""

from dataclasses import dataclass

from analyzer.runtime.backends.base import ModelError, ModelFiles, Placement
from analyzer.runtime.backends.fixed_batches import BATCH_SIZES, read_batch_sizes
from analyzer.runtime.backends.parameters import as_bool, read_bool

TARGET_DEVICE = "TARGET_DEVICE"
FULL_BATCHES = "SKIP_DYNAMIC_BATCHSIZE"

_COUNT, _BOOL = "count", "bool"

_PROPERTIES: dict[str, str | tuple[str, ...]] = {
    "ENABLE_CPU_PINNING": _BOOL,
    "ENABLE_HYPER_THREADING": _BOOL,
    "EXECUTION_MODE_HINT": ("PERFORMANCE", "ACCURACY"),
    "INFERENCE_NUM_THREADS": _COUNT,
    "INFERENCE_PRECISION_HINT": ("f32", "bf16", "f16"),
    "NUM_STREAMS": _COUNT,
    "PERFORMANCE_HINT": ("LATENCY", "THROUGHPUT", "CUMULATIVE_THROUGHPUT"),
    "PERFORMANCE_HINT_NUM_REQUESTS": _COUNT,
    "SCHEDULING_CORE_TYPE": ("ANY_CORE", "PCORE_ONLY", "ECORE_ONLY"),
}

_OLDER = {
    "CPU_THREADS_NUM": "INFERENCE_NUM_THREADS",
    "CPU_THROUGHPUT_STREAMS": "NUM_STREAMS",
    "CPU_BIND_THREAD": "ENABLE_CPU_PINNING",
    "ENFORCE_BF16": "INFERENCE_PRECISION_HINT",
}

_WORDS = {
    "NUM_STREAMS": {"AUTO": "AUTO", "NUMA": "NUMA"},
    "ENABLE_CPU_PINNING": {"NUMA": "YES"},
}
"""Values besides those of the kind. Pinning to NUMA nodes is pinning as OpenVINO sees fit today."""

_KNOWN = {*_PROPERTIES, *_OLDER, TARGET_DEVICE, FULL_BATCHES, BATCH_SIZES}


@dataclass(frozen=True, slots=True)
class CompilePlan:
    """On which device a model is compiled, and how. ``batch_sizes`` are those that batches are padded to."""

    device: str
    properties: dict[str, str]
    batch_sizes: tuple[int, ...]


def make_plan(files: ModelFiles, placement: Placement) -> CompilePlan:
    """Raises ModelError."""
    if placement.kind == "KIND_GPU":
        raise ModelError(
            f"model '{files.name}' has instances of KIND_GPU, which for OpenVINO would be an NVIDIA GPU; use KIND_CPU, "
            f"and {TARGET_DEVICE} for other devices"
        )
    if "CPU_EXTENSION_PATH" in files.config.parameters:
        raise ModelError(
            f"model '{files.name}' sets CPU_EXTENSION_PATH; own CPU kernels are not supported, leave it out"
        )
    properties = {"NUM_STREAMS": str(placement.peers)} if placement.peers > 1 else {}
    for key in files.config.parameters:
        name, text = _OLDER.get(key, key), files.parameter(key) or ""
        if key == "ENFORCE_BF16":
            properties[name] = "bf16" if as_bool(files.name, key, text) else "f32"
        elif name in _PROPERTIES:
            properties[name] = _value(files.name, key, text, name)
    if "PERFORMANCE_HINT" in properties and not files.config.parameters.keys() & {"NUM_STREAMS", *_OLDER}:
        properties.pop("NUM_STREAMS", None)  # the hint chooses it
    return CompilePlan(files.parameter(TARGET_DEVICE) or "CPU", properties, _batch_sizes(files))


def unknown_parameters(files: ModelFiles) -> list[str]:
    """The parameters that have no effect."""
    return sorted(files.config.parameters.keys() - _KNOWN)


def _batch_sizes(files: ModelFiles) -> tuple[int, ...]:
    sizes = read_batch_sizes(files)
    if not sizes and read_bool(files, FULL_BATCHES, False) and files.config.max_batch_size:
        return (files.config.max_batch_size,)
    return sizes


def _value(model: str, key: str, text: str, name: str) -> str:
    kind = _PROPERTIES[name]
    word = _WORDS.get(name, {}).get(text.upper())
    if word is not None:
        return word
    if isinstance(kind, tuple):
        chosen = {choice.upper(): choice for choice in kind}.get(text.upper())
        if chosen is None:
            raise ModelError(f"model '{model}' has {key} '{text}'; it takes {', '.join(kind)}")
        return chosen
    if kind == _BOOL:
        return "YES" if as_bool(model, key, text) else "NO"
    if not (text.isascii() and text.isdigit()):
        words = "".join(f" or {word}" for word in _WORDS.get(name, {}))
        raise ModelError(f"model '{model}' has {key} '{text}'; it takes a number of 0 or more{words}")
    return text
