"""Models as Model Analyzer served them, in our records and as ``config.pbtxt``."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format, text_format

from analyzer.domain.model import ModelSpec, TensorSpec
from analyzer.domain.record import content_key
from analyzer.domain.run import ModelVariant, ServerConfig
from analyzer.model_analyzer.records import Configuration, Variant


def server_config(configuration: Configuration) -> ServerConfig:
    return ServerConfig(variants=tuple(model_variant(variant) for variant in configuration.shown_variants))


def model_variant(variant: Variant) -> ModelVariant:
    """``_config_default`` is the unchanged model; of any other every setting is said, and the name."""
    if variant.is_default:
        return ModelVariant(model=variant.model)
    batcher = variant.batcher
    preferred = (batcher or {}).get("preferred_batch_size")
    delay = (batcher or {}).get("max_queue_delay_microseconds")
    return ModelVariant(
        model=variant.model,
        instance_count=_instance_count(variant),
        max_batch_size=variant.max_batch_size,
        dynamic_batching=batcher is not None,
        preferred_batch_sizes=tuple(int(size) for size in preferred) if preferred else None,
        queue_delay_us=None if delay is None else int(delay),
        name=variant.name,
    )


def model_specs(configurations: tuple[Configuration, ...]) -> tuple[ModelSpec, ...]:
    """Of each model whose unchanged configuration was measured; of others it is not known."""
    found = [v for configuration in configurations for v in (*configuration.variants, *configuration.composing)]
    return tuple({v.model: _spec(v) for v in found if v.is_default}.values())


def config_text(variant: Variant) -> str:
    """The ``config.pbtxt``."""
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    return text_format.MessageToString(json_format.ParseDict(variant.config, ModelConfig()))


def _spec(variant: Variant) -> ModelSpec:
    return ModelSpec(
        name=variant.model,
        backend=str(variant.config.get("backend") or variant.config.get("platform") or ""),
        max_batch_size=variant.max_batch_size,
        inputs=_tensors(variant.config.get("input")),
        outputs=_tensors(variant.config.get("output")),
        instance_count=_instance_count(variant),
        dynamic_batching=variant.batcher is not None,
        digest=content_key(variant.config),
        config_text=config_text(variant),
    )


def _instance_count(variant: Variant) -> int:
    return sum(int(group.get("count", 1)) for group in variant.instance_groups)


def _tensors(raw: list[Mapping[str, Any]] | None) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            name=str(tensor.get("name", "")),
            datatype=_datatype(str(tensor.get("data_type", ""))),
            shape=tuple(int(size) for size in tensor.get("dims", ())),
        )
        for tensor in raw or ()
    )


def _datatype(name: str) -> str:
    short = name.removeprefix("TYPE_")
    return "BYTES" if short == "STRING" else short
