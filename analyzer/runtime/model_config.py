"""``config.pbtxt`` to a ModelConfig: read, given its backend's name, and matched with its version folders."""

import logging
import os
import re
from difflib import get_close_matches
from pathlib import Path

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from analyzer.runtime.backends.base import ModelError

log = logging.getLogger(__name__)

CONFIG_NAME = "config.pbtxt"
_PATH_LIMIT_BYTES = 3000  # Linux takes 4096, the folder's own path included
_SHOWN = 200

PLATFORMS = {
    "onnxruntime_onnx": "onnxruntime",
    "openvino": "openvino",
    "pytorch_libtorch": "pytorch",
    "tensorrt_plan": "tensorrt",
    "ensemble": "ensemble",
    "python": "python",
    "simulated": "simulated",
}
"""Triton's older ``platform`` names and the backends they mean."""

MODEL_SUFFIXES = {
    ".onnx": "onnxruntime",
    ".plan": "tensorrt",
    ".pt": "pytorch",
    ".pt2": "pytorch",
    ".py": "python",
    ".xml": "openvino",
}
"""Which backend a model file asks for, where no configuration names one."""


def read_config(model_dir: Path, config_json: str | None = None) -> model_config_pb2.ModelConfig:
    """The configuration of a model folder, or the one given instead, with ``name`` and ``backend`` filled in."""
    name = model_dir.name
    config = model_config_pb2.ModelConfig()
    path = model_dir / CONFIG_NAME
    if config_json is not None:
        _parse_json(name, config_json, config)
    elif path.is_file():
        _parse_text(name, path, config)
    if config.name and config.name != name:
        raise ModelError(f"model '{name}' has the name '{config.name}' in its config.pbtxt; it must be the folder's")
    config.name = name
    config.backend = _backend_of(model_dir, config)
    if config.backend == "onnxruntime":
        config.platform = config.platform or "onnxruntime_onnx"
    return config


def served_versions(model_dir: Path, config: model_config_pb2.ModelConfig) -> dict[int, Path]:
    """The version folders that the version policy chooses, ascending; the default is the latest one."""
    found = {int(path.name): path for path in model_dir.iterdir() if path.is_dir() and _is_version(path.name)}
    if not found:
        if config.backend in ("ensemble", "simulated"):
            # These keep nothing in a version folder, and git keeps no empty folders.
            return {1: model_dir / "1"}
        raise ModelError(f"model '{config.name}' has no version folder; add one such as '{config.name}/1'")
    policy = config.version_policy
    match policy.WhichOneof("policy_choice"):
        case "all":
            chosen = sorted(found)
        case "specific":
            chosen = sorted(set(policy.specific.versions))
            if not chosen:
                raise ModelError(f"model '{config.name}' has a version_policy of specific versions that names none")
            missing = [version for version in chosen if version not in found]
            chosen = [version for version in chosen if version in found]
            text = (
                f"model '{config.name}' has no folder for version {', '.join(map(str, missing))} of its version_policy"
            )
            if not chosen:
                raise ModelError(text)
            if missing:  # it serves what is there, as Triton does
                log.warning("%s", text)
        case _:
            chosen = sorted(found)[-max(1, policy.latest.num_versions) :]
    return {version: found[version] for version in chosen}


def read_labels(model_dir: Path, config: model_config_pb2.ModelConfig) -> dict[str, tuple[str, ...]]:
    """The lines of each output's ``label_filename``. Raises ModelError."""
    labels = {}
    for output in config.output:
        if output.label_filename:
            path = inside(model_dir, output.label_filename)
            try:
                labels[output.name] = tuple(path.read_text(encoding="utf-8").splitlines())
            except (OSError, UnicodeDecodeError):
                raise ModelError(
                    f"model '{config.name}' has the label_filename '{output.label_filename}', which can't be read"
                ) from None
    return labels


def inside(folder: Path, name: str) -> Path:
    """The path of a file that a configuration names, by its letters inside the folder. Raises ModelError."""
    if "\0" in name or len(name.encode()) > _PATH_LIMIT_BYTES:
        raise ModelError(f"the file name {name[:_SHOWN]!r} is not a file's")
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(os.path.normpath(folder)):
        raise ModelError(f"the file name '{name[:_SHOWN]}' leads out of the folder '{folder.name}'")
    return path


def _parse_text(name: str, path: Path, config: model_config_pb2.ModelConfig) -> None:
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), config)
    except text_format.ParseError as error:
        line, column = error.GetLine(), error.GetColumn()
        reason = _reason(str(error).removeprefix(f"{line}:{column} : ").replace("\n", " "))
        raise ModelError(f"{name}/config.pbtxt, line {line}, can't be read: {reason}") from None
    except (OSError, ValueError) as error:  # a number that an enum can't hold is a ValueError of protobuf's own
        raise ModelError(f"{name}/config.pbtxt can't be read: {error}") from None


def _reason(said: str) -> str:
    """What protobuf says; of a field that does not exist, with the nearest that does."""
    unknown = re.fullmatch(r'Message type "inference\.([\w.]+)" has no field named "(\w+)"\.', said)
    if unknown is None:
        return said
    message, wrong = unknown.groups()
    known = model_config_pb2.DESCRIPTOR.message_types_by_name[message.split(".")[0]]
    for nested in message.split(".")[1:]:
        known = known.nested_types_by_name[nested]
    near = get_close_matches(wrong, list(known.fields_by_name), n=1)
    return f"{message} has no field '{wrong}'" + (f"; did you mean {near[0]}?" if near else "")


def _parse_json(name: str, text: str, config: model_config_pb2.ModelConfig) -> None:
    try:
        json_format.Parse(text, config)
    except json_format.ParseError as error:
        raise ModelError(f"the configuration given for model '{name}' can't be read: {error}") from None


def _backend_of(model_dir: Path, config: model_config_pb2.ModelConfig) -> str:
    if config.backend:
        return str(config.backend)
    if config.platform:
        if config.platform not in PLATFORMS:
            known = ", ".join(sorted(PLATFORMS))
            raise ModelError(f"model '{config.name}' has the unknown platform '{config.platform}'; known are {known}")
        return PLATFORMS[config.platform]
    if config.HasField("ensemble_scheduling"):
        return "ensemble"
    suffix = Path(config.default_model_filename).suffix
    if suffix in MODEL_SUFFIXES:
        return MODEL_SUFFIXES[suffix]
    for path in sorted(model_dir.glob("*/model.*")):
        if path.suffix in MODEL_SUFFIXES and _is_version(path.parent.name):
            return MODEL_SUFFIXES[path.suffix]
    raise ModelError(
        f"model '{config.name}' names no backend and has no model.onnx or model.py in a version folder to tell it by"
    )


def _is_version(name: str) -> bool:
    return name.isascii() and name.isdigit() and not name.startswith("0")
