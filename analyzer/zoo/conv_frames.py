"""``conv_frames``: the networks of ``conv_chain`` fed with raw frames, which a first step prepares.

``conv_chain`` itself, which belongs into the same repository, takes frames that were prepared once, before they were
sent: driven by the same number of streams, the two show what preparing each frame on the server costs.
"""

import numpy as np

from analyzer.zoo import conv_chain
from analyzer.zoo.model_config import ENSEMBLE, ONNX, EnsembleStep, ModelConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder
from analyzer.zoo.onnx_graph import OnnxGraph

SHRINK = 4
"""A frame is so many times as wide and high as what the networks see."""
PREPARED = conv_chain.STAGES[0].input_shape
FRAME = (PREPARED[0], SHRINK * PREPARED[1], SHRINK * PREPARED[2])
NAME, PREPARE = "conv_frames", "conv_prepare"


def build(build: Build) -> None:
    rng = np.random.default_rng(1)
    requests = [{"FRAME": rng.integers(0, 256, FRAME, np.uint8)} for _ in range(conv_chain.REQUEST_COUNT)]
    version = start_model_folder(build.staging, _prepare(), requests)
    _graph().save(version / "model.onnx", ("FRAME", FRAME), ("scale.out", "PREPARED", PREPARED), input_type="UINT8")
    start_model_folder(build.staging, _ensemble(), requests)


def _graph() -> OnnxGraph:
    """Bytes to numbers from 0 to 1, made smaller by the mean of each square."""
    graph = OnnxGraph(PREPARE, 0)
    numbers = graph.node("Cast", ["FRAME"], "cast", to=1)
    small = graph.node("AveragePool", [numbers], "shrink", kernel_shape=[SHRINK] * 2, strides=[SHRINK] * 2)
    graph.node("Mul", [small, graph.constant("scale.factor", np.array([1 / 255], np.float32))], "scale")
    return graph


def _prepare() -> ModelConfig:
    return ModelConfig(
        name=PREPARE,
        kind=ONNX,
        max_batch_size=conv_chain.MAX_BATCH_SIZE,
        inputs=(TensorConfig("FRAME", "UINT8", FRAME),),
        outputs=(TensorConfig("PREPARED", "FP32", PREPARED),),
        comment="A frame of bytes to what conv_1 takes.",
    )


def _ensemble() -> ModelConfig:
    stages = conv_chain.STAGES
    tensors = ["prepared", *(f"{stage.name}_output" for stage in stages[:-1]), "OUTPUT"]
    chain = (
        EnsembleStep(stage.name, {"INPUT": source}, {"OUTPUT": target})
        for stage, source, target in zip(stages, tensors, tensors[1:])
    )
    return ModelConfig(
        name=NAME,
        kind=ENSEMBLE,
        max_batch_size=conv_chain.MAX_BATCH_SIZE,
        inputs=(TensorConfig("FRAME", "UINT8", FRAME),),
        outputs=(TensorConfig("OUTPUT", "FP32", stages[-1].output_shape),),
        comment="conv_prepare for each frame, then conv_1, conv_2 and conv_3.",
        steps=(EnsembleStep(PREPARE, {"FRAME": "FRAME"}, {"PREPARED": "prepared"}), *chain),
    )
