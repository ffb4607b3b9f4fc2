"""EfficientNet-Lite and AlexNet as ONNX graphs, built from plain arrays, without torch.

EfficientNet-Lite: Tan & Le (2019), without squeeze-and-excitation and with ReLU6, as in
`efficientnet/lite` of tensorflow/tpu. AlexNet: Krizhevsky, Sutskever & Hinton (2012).
Both graphs take pictures as they are, uint8 (n, height, width, 3), and scale pixels themselves.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
OPSET = 18
IR_VERSION = 10  # what ONNX Runtime 1.20 reads
BATCH_NORM_EPSILON = 1e-3

# The stride of a stage's first block; kernel sizes and widths are the weights' own shapes.
STAGE_STRIDES = (1, 2, 2, 2, 1, 2, 1)


class Graph:
    """Nodes and weights as they are added, each method giving the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, array: Array) -> str:
        """Adds a constant array."""
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def add(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Adds one node; its output is named after its place unless told."""
        output = output or f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def pixels(self, mean: Sequence[float], scale: Sequence[float]) -> str:
        """The input, uint8 (n, h, w, 3), as (x - mean) / scale in float32 (n, 3, h, w)."""
        x = self.add("Cast", ["pixels"], to=TensorProto.FLOAT)
        x = self.add("Sub", [x, self.weight("pixel_mean", np.array(mean, np.float32))])
        x = self.add("Div", [x, self.weight("pixel_scale", np.array(scale, np.float32))])
        return self.add("Transpose", [x], perm=[0, 3, 1, 2])

    def relu6(self, x: str) -> str:
        """min(max(x, 0), 6)."""
        if not any(weight.name == "six" for weight in self.weights):
            self.weight("zero", np.array(0, np.float32))
            self.weight("six", np.array(6, np.float32))
        return self.add("Clip", [x, "zero", "six"])

    def model(self, outputs: Mapping[str, Sequence[int | str | None]]) -> bytes:
        """The finished model's bytes; `outputs` are names with shapes."""
        shape: list[int | str | None] = ["n", "height", "width", 3]
        graph = helper.make_graph(
            self.nodes,
            "recsys",
            [helper.make_tensor_value_info("pixels", TensorProto.UINT8, shape)],
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, size)
                for name, size in outputs.items()
            ],
            initializer=self.weights,
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def efficientnet_lite(tensors: Mapping[str, Array], repeats: Sequence[int]) -> bytes:
    """EfficientNet-Lite from its tensors (the names of `efficientnet-lite-pytorch`).

    `repeats` holds the number of blocks of each of the seven stages. Outputs: `features`
    (n, 1280), what the classifier's layer would read, and `maps` (n, 1280, h/32, w/32), the same
    before pooling.
    """
    graph = Graph()

    def convolution(x: str, conv: str, norm: str, stride: int = 1, depthwise: bool = False) -> str:
        kernel = tensors[f"{conv}.weight"]
        # batch normalisation of trained weights is a fixed scale and shift: fold it in
        deviation = np.sqrt(tensors[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
        gain = tensors[f"{norm}.weight"] / deviation
        shift = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
        return graph.add(
            "Conv",
            [
                x,
                graph.weight(f"{conv}.weight", kernel * gain[:, None, None, None]),
                graph.weight(f"{conv}.bias", shift),
            ],
            auto_pad="SAME_UPPER",
            group=kernel.shape[0] if depthwise else 1,
            strides=[stride, stride],
        )

    x = graph.pixels([127.0], [128.0])
    x = graph.relu6(convolution(x, "_conv_stem", "_bn0", stride=2))
    strides = [
        stride if first else 1
        for stride, count in zip(STAGE_STRIDES, repeats, strict=True)
        for first in [True] + [False] * (count - 1)
    ]
    for number, stride in enumerate(strides):
        block, before = f"_blocks.{number}", x
        if f"{block}._expand_conv.weight" in tensors:
            x = graph.relu6(convolution(x, f"{block}._expand_conv", f"{block}._bn0"))
        depthwise = f"{block}._depthwise_conv"
        x = graph.relu6(convolution(x, depthwise, f"{block}._bn1", stride, depthwise=True))
        x = convolution(x, f"{block}._project_conv", f"{block}._bn2")
        width_in = tensors[f"{block}._{'expand' if number else 'depthwise'}_conv.weight"].shape
        width_out = tensors[f"{block}._project_conv.weight"].shape[0]
        if stride == 1 and width_in[1 if number else 0] == width_out:
            x = graph.add("Add", [x, before])
    x = convolution(x, "_conv_head", "_bn1")
    maps = graph.add("Clip", [x, "zero", "six"], output="maps")
    pooled = graph.add("GlobalAveragePool", [maps])
    graph.add("Flatten", [pooled], output="features")
    width = tensors["_conv_head.weight"].shape[0]
    return graph.model({"features": ["n", width], "maps": ["n", width, "rows", "columns"]})
