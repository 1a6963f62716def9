"""``conv_chain``: three small convolutional networks of 1, 2 and 3 layers, and the ensemble that chains them."""

from dataclasses import dataclass

import numpy as np

from analyzer.zoo.model_config import ENSEMBLE, ONNX, EnsembleStep, ModelConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder
from analyzer.zoo.onnx_graph import OnnxGraph

MAX_BATCH_SIZE = 16
REQUEST_COUNT = 4
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Stage:
    """One network of the chain. Each layer is a 3x3 convolution and a ReLU; ``strides`` has one entry a layer."""

    name: str
    input_shape: Shape
    channels: int
    strides: tuple[int, ...]

    @property
    def output_shape(self) -> Shape:
        shrink = int(np.prod(self.strides))
        return self.channels, self.input_shape[1] // shrink, self.input_shape[2] // shrink


STAGES = (
    Stage("conv_1", (3, 64, 64), 16, (2,)),
    Stage("conv_2", (16, 32, 32), 32, (1, 2)),
    Stage("conv_3", (32, 16, 16), 32, (1, 1, 1)),
)


def build(build: Build) -> None:
    rng = np.random.default_rng(0)
    for seed, stage in enumerate(STAGES):
        requests = [{"INPUT": rng.random(stage.input_shape, np.float32)} for _ in range(REQUEST_COUNT)]
        version = start_model_folder(build.staging, _config(stage), requests)
        graph = _graph(stage, seed)
        last = f"conv{len(stage.strides)}.relu.out"
        graph.save(version / "model.onnx", ("INPUT", stage.input_shape), (last, "OUTPUT", stage.output_shape))
    requests = [{"INPUT": rng.random(STAGES[0].input_shape, np.float32)} for _ in range(REQUEST_COUNT)]
    start_model_folder(build.staging, _ensemble(), requests)


def _graph(stage: Stage, seed: int) -> OnnxGraph:
    graph = OnnxGraph(stage.name, seed)
    x, channels = "INPUT", stage.input_shape[0]
    for number, stride in enumerate(stage.strides, start=1):
        x = graph.conv(x, f"conv{number}", (channels, stage.channels), kernel=3, stride=stride)
        x = graph.relu(x, f"conv{number}.relu")
        channels = stage.channels
    return graph


def _config(stage: Stage) -> ModelConfig:
    return ModelConfig(
        name=stage.name,
        kind=ONNX,
        max_batch_size=MAX_BATCH_SIZE,
        inputs=(TensorConfig("INPUT", "FP32", stage.input_shape),),
        outputs=(TensorConfig("OUTPUT", "FP32", stage.output_shape),),
        comment=f"{len(stage.strides)} convolution(s) of 3x3 with ReLU; seeded weights, so answers mean nothing.",
    )


def _ensemble() -> ModelConfig:
    tensors = ["INPUT", *(f"{stage.name}_output" for stage in STAGES[:-1]), "OUTPUT"]
    steps = tuple(
        EnsembleStep(stage.name, {"INPUT": source}, {"OUTPUT": target})
        for stage, source, target in zip(STAGES, tensors, tensors[1:])
    )
    return ModelConfig(
        name="conv_chain",
        kind=ENSEMBLE,
        max_batch_size=MAX_BATCH_SIZE,
        inputs=(TensorConfig("INPUT", "FP32", STAGES[0].input_shape),),
        outputs=(TensorConfig("OUTPUT", "FP32", STAGES[-1].output_shape),),
        comment="conv_1, conv_2 and conv_3, one after the other.",
        steps=steps,
    )
