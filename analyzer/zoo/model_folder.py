"""One model folder of a repository: ``NAME/config.pbtxt``, ``NAME/1/`` and ``NAME/input_data.json``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.zoo.input_data import Request, write_input_data
from analyzer.zoo.model_config import ModelConfig, to_pbtxt
from analyzer.zoo.wheel import WheelSource


@dataclass(frozen=True)
class Build:
    """What a model is built from: the folder it is staged in, the user's files, and where wheels come from."""

    staging: Path
    files: tuple[Path, ...]
    wheels: WheelSource


def start_model_folder(staging: Path, config: ModelConfig, requests: Sequence[Request]) -> Path:
    """Write all but the model file; return the version folder, where that file belongs. No requests, no input data."""
    folder = staging / config.name
    version = folder / "1"
    version.mkdir(parents=True)
    (folder / "config.pbtxt").write_text(to_pbtxt(config))
    if requests:
        write_input_data(folder, requests)
    return version
