"""``add_sub``: two INT32 vectors in, their sum and difference out, on the Python backend."""

import shutil
from pathlib import Path

import numpy as np

from analyzer.zoo.model_config import PYTHON, ModelConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder

LENGTH = 4
REQUEST_COUNT = 8

CONFIG = ModelConfig(
    name="add_sub",
    kind=PYTHON,
    max_batch_size=8,
    inputs=(TensorConfig("INPUT0", "INT32", (LENGTH,)), TensorConfig("INPUT1", "INT32", (LENGTH,))),
    outputs=(TensorConfig("OUTPUT0", "INT32", (LENGTH,)), TensorConfig("OUTPUT1", "INT32", (LENGTH,))),
    comment="OUTPUT0 is INPUT0 + INPUT1, OUTPUT1 is INPUT0 - INPUT1.",
)


def build(build: Build) -> None:
    rng = np.random.default_rng(0)
    requests = [
        {tensor.name: rng.integers(-1000, 1000, LENGTH, dtype=np.int32) for tensor in CONFIG.inputs}
        for _ in range(REQUEST_COUNT)
    ]
    version = start_model_folder(build.staging, CONFIG, requests)
    shutil.copyfile(Path(__file__).with_name("add_sub_model.py"), version / "model.py")
