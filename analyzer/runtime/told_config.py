"""A configuration as clients are told it: with the defaults written out that Triton writes out."""

from tritonclient.grpc import model_config_pb2

_FILE_NAMES = {"onnxruntime": "model.onnx", "openvino": "model.xml", "python": "model.py", "tensorrt": "model.plan"}
"""By backend, of those that look for one file only."""


def told_config(config: model_config_pb2.ModelConfig) -> model_config_pb2.ModelConfig:
    """A copy: what a model was loaded with stays as it was written."""
    told = model_config_pb2.ModelConfig()
    told.CopyFrom(config)
    if told.WhichOneof("scheduling_choice") == "ensemble_scheduling":
        told.backend = ""
        told.model_transaction_policy.decoupled = config.model_transaction_policy.decoupled
    else:
        told.default_model_filename = told.default_model_filename or _FILE_NAMES.get(told.backend, "")
        _write_pinned_memory(told.optimization)
    if told.version_policy.WhichOneof("policy_choice") is None:
        told.version_policy.latest.num_versions = 1
    return told


def _write_pinned_memory(optimization: model_config_pb2.ModelOptimizationPolicy) -> None:
    if not optimization.HasField("input_pinned_memory"):
        optimization.input_pinned_memory.enable = True
    if not optimization.HasField("output_pinned_memory"):
        optimization.output_pinned_memory.enable = True
