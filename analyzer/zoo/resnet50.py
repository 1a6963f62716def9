"""``resnet50``: the standard architecture as an ONNX file with seeded weights.

Layers and their names follow He et al. 2016 in the variant that strides in the 3x3 convolution (known as v1.5). The
speed is that of the trained network; the answers mean nothing.
"""

import numpy as np

from analyzer.zoo.model_config import ONNX, ModelConfig, TensorConfig
from analyzer.zoo.model_folder import Build, start_model_folder
from analyzer.zoo.onnx_graph import OnnxGraph

IMAGE_SHAPE = (3, 224, 224)
CLASS_COUNT = 1000
BLOCK_COUNTS = (3, 4, 6, 3)
EXPANSION = 4
PARAMETER_COUNT = 25_557_032
"""Trainable parameters: convolutions, scale and bias of batch normalisation, and the last layer with its bias. The
file also holds the running mean and variance of batch normalisation, which are not counted by custom."""

RESIDUAL_SCALE = 0.25
"""Scale of the last normalisation in each block. With random weights and statistics of 0 and 1 nothing is normalised;
at 1 the variance would double in each of the 16 blocks, at this value all of them together raise it about threefold."""

SEED = 50
REQUEST_COUNT = 4

CONFIG = ModelConfig(
    name="resnet50",
    kind=ONNX,
    max_batch_size=32,
    inputs=(TensorConfig("input", "FP32", IMAGE_SHAPE),),
    outputs=(TensorConfig("output", "FP32", (CLASS_COUNT,)),),
    comment="ResNet-50 with seeded weights: the speed of the trained network, answers that mean nothing.",
)


def build(build: Build) -> None:
    rng = np.random.default_rng(SEED)
    # Images normalised as is usual for this network have about zero mean and unit variance in each channel.
    requests = [{"input": rng.standard_normal(IMAGE_SHAPE, dtype=np.float32)} for _ in range(REQUEST_COUNT)]
    graph = OnnxGraph("resnet50", SEED)
    logits = _network(graph, "input")
    version = start_model_folder(build.staging, CONFIG, requests)
    graph.save(version / "model.onnx", ("input", IMAGE_SHAPE), (logits, "output", (CLASS_COUNT,)))


def _network(graph: OnnxGraph, x: str) -> str:
    x = _conv_norm(graph, x, "conv1", "bn1", (3, 64), kernel=7, stride=2)
    x = graph.relu(x, "relu")
    x = graph.node("MaxPool", [x], "maxpool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    channels = 64
    for stage, block_count in enumerate(BLOCK_COUNTS):
        width = 64 << stage
        for block in range(block_count):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _bottleneck(graph, x, f"layer{stage + 1}.{block}", (channels, width), stride)
            channels = width * EXPANSION
    x = graph.node("GlobalAveragePool", [x], "avgpool")
    x = graph.node("Flatten", [x], "flatten", axis=1)
    weights = graph.weight("fc.weight", (CLASS_COUNT, channels))
    bias = graph.constant("fc.bias", np.zeros(CLASS_COUNT, np.float32))
    return graph.node("Gemm", [x, weights, bias], "fc", transB=1)


def _bottleneck(graph: OnnxGraph, x: str, name: str, channels: tuple[int, int], stride: int) -> str:
    incoming, width = channels
    outgoing = width * EXPANSION
    y = _conv_norm(graph, x, f"{name}.conv1", f"{name}.bn1", (incoming, width), kernel=1)
    y = graph.relu(y, f"{name}.relu1")
    y = _conv_norm(graph, y, f"{name}.conv2", f"{name}.bn2", (width, width), kernel=3, stride=stride)
    y = graph.relu(y, f"{name}.relu2")
    y = _conv_norm(graph, y, f"{name}.conv3", f"{name}.bn3", (width, outgoing), kernel=1, scale=RESIDUAL_SCALE)
    if stride != 1 or incoming != outgoing:
        shortcut = f"{name}.downsample"
        x = _conv_norm(graph, x, f"{shortcut}.0", f"{shortcut}.1", (incoming, outgoing), kernel=1, stride=stride)
    return graph.relu(graph.node("Add", [x, y], f"{name}.add"), f"{name}.relu3")


def _conv_norm(
    graph: OnnxGraph,
    x: str,
    conv: str,
    norm: str,
    channels: tuple[int, int],
    *,
    kernel: int,
    stride: int = 1,
    scale: float = 1.0,
) -> str:
    x = graph.conv(x, conv, channels, kernel, stride=stride, bias=False)
    outgoing = channels[1]
    statistics = {"weight": scale, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    inputs = [
        graph.constant(f"{norm}.{key}", np.full(outgoing, value, np.float32)) for key, value in statistics.items()
    ]
    return graph.node("BatchNormalization", [x, *inputs], norm, epsilon=1e-5)
