"""A configuration held against what this runtime honours, and against itself."""

from collections.abc import Iterable

from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError
from analyzer.runtime.config_fields import Decision, decide, fields_set
from analyzer.runtime.dtypes import datatype_of

_PRIORITY_LIMIT = 1000


def ignored_fields(config: model_config_pb2.ModelConfig) -> list[str]:
    """The fields that are set but have no effect here. Raises ModelError for one that would change answers."""
    given = {path: _decided(path, config.backend) for path in fields_set(config)}
    refused = [path for path, decision in given.items() if decision is Decision.REFUSED]
    if refused:
        raise ModelError(f"model '{config.name}' sets {', '.join(refused)}, which this runtime does not support")
    return [path for path, decision in given.items() if decision is Decision.IGNORED]


def validate(config: model_config_pb2.ModelConfig) -> None:
    """Holds a completed configuration against itself. Raises ModelError."""
    name = config.name
    if config.max_batch_size < 0:
        raise ModelError(f"model '{name}' has max_batch_size {config.max_batch_size}; it must be 0 or more")
    for field, tensors in (("input", config.input), ("output", config.output)):
        if not tensors:
            raise ModelError(f"model '{name}' states no {field}; add at least one to its config.pbtxt")
        _validate_tensors(name, field, tensors)
    if config.HasField("dynamic_batching"):
        if config.max_batch_size == 0:
            raise ModelError(f"model '{name}' asks for dynamic_batching, which needs a max_batch_size of 1 or more")
        _validate_priorities(name, config.dynamic_batching)
        for size in config.dynamic_batching.preferred_batch_size:
            if not 0 < size <= config.max_batch_size:
                raise ModelError(
                    f"model '{name}' has preferred_batch_size {size}; it must be from 1 to {config.max_batch_size}"
                )
    if config.HasField("sequence_batching") and config.model_transaction_policy.decoupled:
        raise ModelError(
            f"model '{name}' sets sequence_batching and a decoupled policy; this runtime takes one of both"
        )
    if config.response_cache.enable and (
        config.model_transaction_policy.decoupled or config.HasField("sequence_batching")
    ):
        raise ModelError(
            f"model '{name}' enables response_cache, which a decoupled model or one with sequence_batching can't use"
        )
    for group in config.instance_group:
        if group.count < 0:
            raise ModelError(f"model '{name}' has an instance_group with count {group.count}; it must be 1 or more")


def _validate_priorities(model: str, batching: model_config_pb2.ModelDynamicBatching) -> None:
    levels, default = batching.priority_levels, batching.default_priority_level
    if levels > _PRIORITY_LIMIT:
        raise ModelError(f"model '{model}' has {levels} priority_levels; at most {_PRIORITY_LIMIT} are supported")
    if levels and not 1 <= default <= levels:
        raise ModelError(f"model '{model}' has default_priority_level {default}; it must be from 1 to {levels}")
    for level in batching.priority_queue_policy:
        if not 1 <= level <= levels:
            raise ModelError(f"model '{model}' has a priority_queue_policy for level {level}, which it has not")


def _validate_tensors(model: str, field: str, tensors: Iterable[model_config_pb2.ModelInput]) -> None:
    names = [tensor.name for tensor in tensors]
    if "" in names or len(set(names)) < len(names):
        raise ModelError(f"model '{model}' has an {field} without a name or two of the same name")
    for tensor in tensors:
        try:
            datatype_of(tensor.data_type)
        except ValueError as error:
            raise ModelError(f"{field} '{tensor.name}' of model '{model}': {error}") from None
        if any(dim == 0 or dim < -1 for dim in tensor.dims):
            raise ModelError(f"{field} '{tensor.name}' of model '{model}' has a dim that is neither -1 nor positive")
        if tensor.HasField("reshape") and max(_variable(tensor.dims), _variable(tensor.reshape.shape)) > 1:
            raise ModelError(f"{field} '{tensor.name}' of model '{model}' reshapes more than one variable dim")


def _variable(dims: Iterable[int]) -> int:
    return sum(dim < 0 for dim in dims)


def _decided(path: str, backend: str) -> Decision:
    try:
        return decide(path, backend)
    except KeyError:
        return Decision.IGNORED  # a field that only a newer tritonclient has
