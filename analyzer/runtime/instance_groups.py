"""Instance groups of a configuration: completed with what they leave out, then one placement an instance."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import Backend, ModelError, ModelFiles, Placement
from analyzer.runtime.rate_policy import GLOBAL, Demand

_Group = model_config_pb2.ModelInstanceGroup

_KINDS = {_Group.KIND_CPU: "KIND_CPU", _Group.KIND_GPU: "KIND_GPU", _Group.KIND_MODEL: "KIND_CPU"}


_NO_GPU_NEEDED = ("simulated",)
_OWN_CHECK = ("simulated", "onnxruntime", "pytorch", "tensorrt")
"""Backends that use no GPU, or that say better themselves what they lack where there is none."""


def complete_groups(config: model_config_pb2.ModelConfig, backend: Backend, gpu_count: int) -> None:
    """States name, kind, count and GPUs of every group: all GPUs of the machine where a group names none.

    Raises ModelError for a GPU that is not there. The simulated backend may name any: it uses none.
    """
    if not config.instance_group:
        config.instance_group.add(name=config.name)
    for number, group in enumerate(config.instance_group):
        group.name = group.name or f"{config.name}_{number}"
        group.count = group.count or 1
        if group.kind == _Group.KIND_AUTO:
            kind = "KIND_GPU" if group.gpus else backend.default_kind()
            group.kind = _Group.Kind.Value(kind)
        if group.kind != _Group.KIND_GPU:
            if group.gpus:
                raise ModelError(f"model '{config.name}' lists gpus in an instance_group that is not KIND_GPU")
            continue
        if config.backend not in (_NO_GPU_NEEDED if gpu_count else _OWN_CHECK):
            _check_gpus(config.name, group, gpu_count)
        if not group.gpus:
            group.gpus.extend(range(max(1, gpu_count)))


def _check_gpus(model: str, group: model_config_pb2.ModelInstanceGroup, gpu_count: int) -> None:
    if gpu_count == 0:
        raise ModelError(
            f"instance group '{group.name}' of model '{model}' is KIND_GPU, but this machine has no NVIDIA GPU with a "
            "working driver; use KIND_CPU"
        )
    absent = [device for device in group.gpus if not 0 <= device < gpu_count]
    if absent:
        raise ModelError(
            f"instance group '{group.name}' of model '{model}' lists GPU {absent[0]}; this machine has "
            f"{', '.join(map(str, range(gpu_count)))}"
        )


def placements(files: ModelFiles) -> list[Placement]:
    """One for each instance of the completed groups, named as Triton names them."""
    found = list(_instances(files.config))
    return [
        Placement(f"{group.name}_{index}", index, len(found), _KINDS[group.kind], device)
        for index, (group, device) in enumerate(found)
    ]


def demands(files: ModelFiles) -> list[Demand]:
    """What each instance asks of the rate limiter, in the order of ``placements``."""
    return [_demand(group, device) for group, device in _instances(files.config)]


def _instances(config: model_config_pb2.ModelConfig) -> Iterator[tuple[model_config_pb2.ModelInstanceGroup, int]]:
    for group in config.instance_group:
        for device in group.gpus or (0,):  # Triton counts what runs on the CPU as device 0
            for _ in range(group.count):
                yield group, device


def _demand(group: model_config_pb2.ModelInstanceGroup, device: int) -> Demand:
    limiter = group.rate_limiter
    resources: dict[tuple[str, int], int] = {}
    for resource in limiter.resources:
        is_global = getattr(resource, "global")  # the field's name is a word of the language
        pool = (resource.name, GLOBAL if is_global else device)
        resources[pool] = resources.get(pool, 0) + resource.count
    return Demand(resources, max(1, limiter.priority))
