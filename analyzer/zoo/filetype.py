"""``filetype``: the trained model of the package magika, which tells what kind of file some bytes are.

The input is made from real files. The model file is taken from the installed package if there is one, else from its
wheel: magika requires onnxruntime, which must not be installed beside onnxruntime-gpu.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError, UsageError
from analyzer.zoo.filetype_features import FeatureConfig, extract_features, parse_feature_config, read_ends
from analyzer.zoo.model_config import ONNX, ModelConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder
from analyzer.zoo.wheel import WheelPin, WheelSource, read_member

PIN = WheelPin("magika", "1.0.3", "Apache-2.0")
MODEL_FOLDER = "magika/models/standard_v3_3"
LABELS_FILE = "labels.txt"
MAX_REQUESTS = 256
"""From more files than this, so many are taken, evenly spread over their sorted paths."""


@dataclass(frozen=True)
class TrainedModel:
    onnx: bytes
    config: bytes
    source: str


def build(build: Build) -> None:
    if not build.files:
        raise UsageError("filetype judges real files: name some with --files (files or folders, repeated as needed)")
    trained = installed_model() or wheel_model(build.wheels)
    features = parse_feature_config(trained.config)
    requests = [{"bytes": values} for values in features_of_files(build.files, features)]
    version = start_model_folder(build.staging, _config(features, trained.source), requests)
    (version / "model.onnx").write_bytes(trained.onnx)
    (version.parent / LABELS_FILE).write_text("\n".join(features.target_labels_space) + "\n")


def installed_model() -> TrainedModel | None:
    """The model of the installed package, found by the list of its files: nothing of it is imported."""
    try:
        listed = files(PIN.project) or []
    except PackageNotFoundError:
        return None
    models = [Path(str(file.locate())) for file in listed if file.match("magika/models/*/model.onnx")]
    if len(models) != 1:
        return None
    config = models[0].with_name("config.min.json")
    if not (models[0].is_file() and config.is_file()):
        return None
    return TrainedModel(models[0].read_bytes(), config.read_bytes(), "the installed package magika")


def wheel_model(wheels: WheelSource) -> TrainedModel:
    wheel = wheels.fetch(PIN)
    onnx, config = (read_member(wheel, f"{MODEL_FOLDER}/{name}") for name in ("model.onnx", "config.min.json"))
    return TrainedModel(onnx, config, f"the wheel of {PIN}")


def features_of_files(paths: Iterable[Path], config: FeatureConfig) -> list[NDArray[np.int32]]:
    found = sorted(set(_files_below(paths)))
    if not found:
        raise InputError("the folders given with --files hold no files: name others")
    readable = (_features(path, config) for path in _spread(found, MAX_REQUESTS))
    features = [values for values in readable if values is not None]
    if not features:
        raise InputError(
            f"no file given with --files can be used: the model judges readable files with at least "
            f"{config.min_file_size_for_dl} bytes that are not blank"
        )
    return features


def _files_below(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from (below for below in path.rglob("*") if below.is_file())
        elif path.is_file():
            yield path
        else:
            raise InputError(f"{path} given with --files is no file or folder: check the path")


def _spread(paths: list[Path], count: int) -> list[Path]:
    if len(paths) <= count:
        return paths
    return [paths[position * len(paths) // count] for position in range(count)]


def _features(path: Path, config: FeatureConfig) -> NDArray[np.int32] | None:
    try:
        with path.open("rb") as stream:
            size_bytes = stream.seek(0, 2)
            ends = read_ends(stream, size_bytes, config.block_size)
    except OSError:
        # One unreadable file in a folder is no reason to refuse the others.
        return None
    return extract_features(ends, config)


def _config(features: FeatureConfig, source: str) -> ModelConfig:
    return ModelConfig(
        name="filetype",
        kind=ONNX,
        max_batch_size=64,
        inputs=(TensorConfig("bytes", "INT32", (features.length,)),),
        outputs=(TensorConfig("target_label", "FP32", (len(features.target_labels_space),), LABELS_FILE),),
        comment=f"File type from the first and last bytes of a file. Weights: {source}, {PIN.licence}.",
    )
