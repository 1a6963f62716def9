"""Every field of a model configuration, and what this runtime does with it.

A path that is ignored or refused stands for all that lies below it, unless a longer one decides otherwise. A test
holds the table against the protobuf message, so that a field of a newer tritonclient is decided before it passes
unnoticed.
"""

from collections.abc import Iterator
from enum import Enum

from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2


class Decision(Enum):
    HONOURED = "honoured"
    IGNORED = "told in a warning: answers are the same without it, only timing, placement or bookkeeping may differ"
    REFUSED = "the model is refused: requests would be answered otherwise than the configuration says"


_HONOURED = {
    "": "name platform backend max_batch_size default_model_filename metric_tags parameters",
    "version_policy.latest": "num_versions",
    "version_policy": "all",
    "version_policy.specific": "versions",
    "input": "name data_type dims optional",
    "input.reshape": "shape",
    "output": "name data_type dims label_filename",
    "output.reshape": "shape",
    "dynamic_batching": (
        "preferred_batch_size max_queue_delay_microseconds preserve_ordering priority_levels default_priority_level "
        "priority_queue_policy"
    ),
    "dynamic_batching.default_queue_policy": (
        "timeout_action default_timeout_microseconds allow_timeout_override max_queue_size"
    ),
    "sequence_batching.direct": "max_queue_delay_microseconds minimum_slot_utilization",
    "sequence_batching.oldest": "max_candidate_sequences preferred_batch_size max_queue_delay_microseconds",
    "sequence_batching": "max_sequence_idle_microseconds",
    "sequence_batching.control_input": "name",
    "sequence_batching.control_input.control": "kind int32_false_true fp32_false_true bool_false_true data_type",
    "sequence_batching.state": "input_name output_name data_type dims",
    "sequence_batching.state.initial_state": "data_type dims zero_data data_file name",
    "ensemble_scheduling.step": "model_name model_version input_map output_map",
    "instance_group": "name kind count gpus",
    "instance_group.rate_limiter.resources": "name global count",
    "instance_group.rate_limiter": "priority",
    "model_warmup": "name batch_size inputs count",
    "model_transaction_policy": "decoupled",
    "response_cache": "enable",
    "model_metrics.metric_control.metric_identifier": "family",
    "model_metrics.metric_control.histogram_options": "buckets",
}
"""By block, the fields in it: each by its name, so that one that comes to a block is not taken for honoured."""

_IGNORED = (
    "runtime",
    "input.format",
    "optimization",
    "sequence_batching.oldest.preserve_ordering",
    "sequence_batching.state.use_same_buffer_for_input_output",
    "sequence_batching.state.use_growable_memory",
    "ensemble_scheduling.max_inflight_requests",
    "ensemble_scheduling.step.model_namespace",
    "instance_group.profile",
    "instance_group.host_policy",
    "instance_group.secondary_devices",
)

_REFUSED = (
    "input.is_shape_tensor",
    "input.allow_ragged_batch",
    "input.is_non_linear_format_io",
    "output.is_shape_tensor",
    "output.is_non_linear_format_io",
    "batch_input",
    "batch_output",
    "sequence_batching.iterative_sequence",
    "instance_group.passive",
    "cc_model_filenames",
    "model_operations.op_library_filename",
    "model_repository_agents.agents",
)

FIELDS: dict[str, Decision] = {
    **{
        f"{block}.{name}".lstrip("."): Decision.HONOURED for block, names in _HONOURED.items() for name in names.split()
    },
    **dict.fromkeys(_IGNORED, Decision.IGNORED),
    **dict.fromkeys(_REFUSED, Decision.REFUSED),
}

HONOURED_BY: dict[str, tuple[str, ...]] = {
    "optimization.graph": ("onnxruntime",),
    "optimization.execution_accelerators": ("onnxruntime",),
    "instance_group.profile": ("tensorrt",),
}
"""Fields that only these backends honour; for others they are ignored."""


def decide(path: str, backend: str) -> Decision:
    """What is done with a field, for a model of this backend. Raises KeyError for a field that nobody has decided."""
    parts = path.split(".")
    for length in range(len(parts), 0, -1):
        stem = ".".join(parts[:length])
        if stem in HONOURED_BY:
            return Decision.HONOURED if backend in HONOURED_BY[stem] else Decision.IGNORED
        if stem in FIELDS:
            return FIELDS[stem]
    if any(known.startswith(f"{path}.") for known in FIELDS):
        return Decision.HONOURED  # a block that is there, but empty
    raise KeyError(path)


def fields_set(config: model_config_pb2.ModelConfig) -> list[str]:
    """The paths of all fields that are set, down to the last, each once, in the order of the message."""
    return list(dict.fromkeys(_paths(config, "")))


def _paths(message: Message, prefix: str) -> Iterator[str]:
    for field, value in message.ListFields():
        path = f"{prefix}{field.name}"
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if field.message_type is None or is_map:
            yield path
            continue
        for item in value if hasattr(value, "extend") else [value]:
            below = list(_paths(item, f"{path}."))
            yield from below or [path]
