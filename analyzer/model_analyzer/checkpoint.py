"""A checkpoint folder or file of Triton Model Analyzer to a Checkpoint, whichever of its layouts it is in.

Files are called ``N.ckpt``, are JSON, carry no version and are replaced as a whole, not atomically, after each point.
Since 2023 a model's configuration stands under ``_model_config_variant`` beside the variant's name; before, it stood
under ``_model_config``, whose ``name`` is the variant's. Fields that are not needed here are passed over.
"""

from pathlib import Path
from typing import Any

import msgspec
from google.protobuf import json_format

from analyzer.errors import InputError
from analyzer.model_analyzer.records import Checkpoint, Configuration, Figures, Gpu, ModelPoint, Number, Point, Variant

SUFFIX = ".ckpt"


class _Record(msgspec.Struct):
    value: Number | None = msgspec.field(name="_value")


_Records = list[tuple[str, _Record]]


class _ModelMeasurement(msgspec.Struct):
    load: dict[str, Any] = msgspec.field(name="_model_specific_pa_params")
    records: _Records = msgspec.field(name="_non_gpu_data")


class _Measurement(msgspec.Struct):
    gpus: dict[str, _Records] = msgspec.field(name="_gpu_data")
    models: list[_ModelMeasurement] = msgspec.field(name="_model_config_measurements")


class _ConfigVariant(msgspec.Struct):
    model_config: dict[str, Any]
    variant_name: str
    cpu_only: bool = False


class _ClientConfig(msgspec.Struct):
    options: dict[str, Any] = msgspec.field(name="_options", default_factory=dict)


class _ModelRunConfig(msgspec.Struct):
    model_name: str = msgspec.field(name="_model_name")
    variant: _ConfigVariant | None = msgspec.field(name="_model_config_variant", default=None)
    older_config: dict[str, Any] | None = msgspec.field(name="_model_config", default=None)
    client: _ClientConfig = msgspec.field(name="_perf_config", default_factory=_ClientConfig)
    composing: list[_ConfigVariant] = msgspec.field(name="_composing_config_variants", default_factory=list)
    older_composing: list[dict[str, Any]] = msgspec.field(name="_composing_configs", default_factory=list)


class _RunConfig(msgspec.Struct):
    models: list[_ModelRunConfig] = msgspec.field(name="_model_run_configs")


class _Results(msgspec.Struct):
    by_model: dict[str, dict[str, tuple[_RunConfig, dict[str, _Measurement]]]] = msgspec.field(name="_results")


class _Device(msgspec.Struct):
    name: str = ""
    total_memory: int = 0


class _File(msgspec.Struct):
    results: _Results = msgspec.field(name="ResultManager.results")
    server_only: dict[str, _Records] = msgspec.field(name="ResultManager.server_only_data", default_factory=dict)
    gpus: dict[str, _Device] = msgspec.field(name="MetricsManager.gpus", default_factory=dict)


def is_checkpoint(path: Path) -> bool:
    """A file by its name, or a folder that holds one."""
    if path.is_dir():
        return any(path.glob(f"*{SUFFIX}"))
    return path.suffix == SUFFIX


def read_checkpoint(path: Path) -> Checkpoint:
    """The file, or the newest of a folder. Raises InputError with what is wrong with it."""
    file = newest(path) if path.is_dir() else path
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"checkpoint {file} can't be read: {error.strerror}") from error
    if not content.strip():
        raise InputError(f"checkpoint {file} is empty: its writer was stopped; give an earlier one, or measure again")
    try:
        raw = msgspec.json.decode(content, type=_File)
        checkpoint = _checkpoint(raw)
    except msgspec.ValidationError as error:
        raise InputError(
            f"{file} is no checkpoint of Model Analyzer, or is in a layout not known here: {error}"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"checkpoint {file} is damaged ({error}): its writer was stopped; give an earlier one, or measure again"
        ) from error
    if not any(True for _ in checkpoint.points):
        raise InputError(f"checkpoint {file} holds no measurement: let Model Analyzer's profile finish at least one")
    return checkpoint


def newest(folder: Path) -> Path:
    """The file with the highest number; others, such as ``notes.ckpt``, are somebody's own."""
    numbered = [path for path in folder.glob(f"*{SUFFIX}") if path.stem.isdecimal()]
    if not numbered:
        raise InputError(
            f"{folder} holds no checkpoint of Model Analyzer: none is called 0{SUFFIX}, 1{SUFFIX} and so on"
        )
    return max(numbered, key=lambda path: int(path.stem))


def _checkpoint(raw: _File) -> Checkpoint:
    return Checkpoint(
        configurations=tuple(
            _configuration(model, name, *entry)
            for model, entries in raw.results.by_model.items()
            for name, entry in entries.items()
        ),
        server_only={uuid: _figures(records) for uuid, records in raw.server_only.items()},
        gpus={uuid: Gpu(name=gpu.name, total_memory_bytes=gpu.total_memory) for uuid, gpu in raw.gpus.items()},
    )


def _configuration(model: str, name: str, run: _RunConfig, measured: dict[str, _Measurement]) -> Configuration:
    for key, measurement in measured.items():
        if not measurement.models or len(measurement.models) != len(run.models):
            raise msgspec.ValidationError(f"{key!r} has {len(measurement.models)} models, {name} {len(run.models)}")
    return Configuration(
        model=model,
        name=name,
        protocol=str(run.models[0].client.options.get("-i") or "http") if run.models else "http",
        variants=tuple(_variant(part) for part in run.models),
        composing=tuple(variant for part in run.models for variant in _composing(part)),
        points=tuple(_point(key, measurement) for key, measurement in measured.items()),
    )


def _variant(part: _ModelRunConfig) -> Variant:
    if part.variant is not None:
        return _newer(part.variant, part.model_name)
    if part.older_config is not None:
        return _older(part.older_config, part.model_name)
    raise msgspec.ValidationError(f"{part.model_name} has neither `_model_config_variant` nor `_model_config`")


def _composing(part: _ModelRunConfig) -> list[Variant]:
    return [_newer(v, "") for v in part.composing] + [_older(config, "") for config in part.older_composing]


def _newer(raw: _ConfigVariant, model: str) -> Variant:
    named = str(raw.model_config.get("name", "")) or model_of(raw.variant_name)
    config = _config(raw.model_config | {"name": named}, raw.variant_name)
    return Variant(model=model or named, name=raw.variant_name, config=config, cpu_only=raw.cpu_only)


def _older(raw: dict[str, Any], model: str) -> Variant:
    name = str(raw.get("name", model))
    owner = model or model_of(name)
    config = _config(raw | {"name": owner}, name)
    return Variant(model=owner, name=name, config=config, cpu_only=raw.get("cpu_only") is True)


def _config(raw: dict[str, Any], variant_name: str) -> dict[str, Any]:
    """Checked, and with one spelling of the fields: protobuf's JSON allows two. Newer fields are passed over."""
    from tritonclient.grpc.model_config_pb2 import ModelConfig

    try:
        message = json_format.ParseDict(raw, ModelConfig(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        raise msgspec.ValidationError(f"the configuration of {variant_name}: {error}") from error
    config: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return config


def model_of(variant_name: str) -> str:
    """``add_sub`` of ``add_sub_config_3``."""
    return variant_name.rpartition("_config_")[0] or variant_name


def _point(key: str, raw: _Measurement) -> Point:
    models = tuple(
        ModelPoint(
            batch_size=_number(part.load.get("batch-size")),
            concurrency=_number(part.load.get("concurrency-range")),
            request_rate=_number(part.load.get("request-rate-range")),
            figures=_figures(part.records),
        )
        for part in raw.models
    )
    return Point(key=key, models=models, gpus={uuid: _figures(records) for uuid, records in raw.gpus.items()})


def _number(raw: Any) -> Number | None:
    """A figure of the load; some versions keep it as text."""
    if raw is None or (isinstance(raw, int | float) and not isinstance(raw, bool)):
        return raw
    try:
        return int(raw) if str(raw).isdecimal() else float(raw)
    except (TypeError, ValueError):
        raise msgspec.ValidationError(f"{raw!r} is no load") from None


def _figures(records: _Records) -> Figures:
    return {tag: record.value for tag, record in records if record.value is not None}
