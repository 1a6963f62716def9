"""Convolutional networks with seeded weights, layer by layer, to an ONNX file."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import MissingExtraError

OPSET = 17
IR_VERSION = 8
"""Old enough for every onnxruntime since 1.13; the onnx package would write its newest by itself."""


def require_onnx() -> Any:
    """The onnx package, which is optional."""
    try:
        import onnx
    except ImportError:
        raise MissingExtraError("the package onnx is not installed: pip install 'serving-analyzer[zoo]'") from None
    return onnx


class OnnxGraph:
    """A graph that grows by one layer a call; each layer returns the name of its output.

    Weights are drawn by He et al. 2015: normal with variance 2 / fan-in, which keeps the scale of the activations
    through layers of ReLU.
    """

    def __init__(self, name: str, seed: int) -> None:
        self._onnx = require_onnx()
        self._name = name
        self._rng = np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []

    def conv(
        self, x: str, name: str, channels: tuple[int, int], kernel: int, *, stride: int = 1, bias: bool = True
    ) -> str:
        """Keep the size of the image, up to the stride. ``channels`` are those of the input and of the output."""
        incoming, outgoing = channels
        inputs = [x, self.weight(f"{name}.weight", (outgoing, incoming, kernel, kernel))]
        if bias:
            inputs.append(self.constant(f"{name}.bias", np.zeros(outgoing, np.float32)))
        pads = [kernel // 2] * 4
        return self.node("Conv", inputs, name, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def relu(self, x: str, name: str) -> str:
        return self.node("Relu", [x], name)

    def node(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        output = f"{name}.out"
        self._nodes.append(self._onnx.helper.make_node(operator, inputs, [output], name=name, **attributes))
        return output

    def weight(self, name: str, shape: tuple[int, ...]) -> str:
        fan_in = int(np.prod(shape[1:]))
        values = self._rng.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(2 / fan_in))
        return self.constant(name, values)

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        self._initializers.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def save(
        self,
        path: Path,
        x: tuple[str, tuple[int, ...]],
        y: tuple[str, str, tuple[int, ...]],
        *,
        input_type: Literal["FP32", "UINT8"] = "FP32",
    ) -> None:
        """Write the graph with one input and one FP32 output, whose batch dimension is dynamic.

        ``x`` is the input's name and shape; ``y`` names the layer output to export, the name to export it by, and its
        shape.
        """
        helper, float_type = self._onnx.helper, self._onnx.TensorProto.FLOAT
        given_type = float_type if input_type == "FP32" else self._onnx.TensorProto.UINT8
        layer, output, output_shape = y
        self._nodes.append(helper.make_node("Identity", [layer], [output], name=output))
        graph = helper.make_graph(
            self._nodes,
            self._name,
            [helper.make_tensor_value_info(x[0], given_type, ["batch", *x[1]])],
            [helper.make_tensor_value_info(output, float_type, ["batch", *output_shape])],
            self._initializers,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="serving-analyzer")
        self._onnx.checker.check_model(model)
        self._onnx.save(model, str(path))
