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
# The paper's alpha is a factor of the sum, ONNX's and torch's of the mean over five channels.
ALEXNET_LRN_ALPHA = 5 * 1e-4
PARTS = ("weight", "bias")


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


def fold_batch_norm(tensors: Mapping[str, Array]) -> dict[str, Array]:
    """Each convolution with the batch normalisation after it, as one kernel and bias.

    Normalisation by trained statistics is a fixed scale and shift, so it can be folded in. Takes
    the names of `efficientnet-lite-pytorch`; gives `<convolution>.weight` and `.bias`.
    """
    norms = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}
    inner = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}
    folded: dict[str, Array] = {}
    for name in [key.removesuffix(".weight") for key in tensors if "_conv" in key]:
        block, _, kind = name.rpartition(".")
        norm = f"{block}.{inner[kind]}" if block else norms[name]
        deviation = np.sqrt(tensors[f"{norm}.running_var"] + BATCH_NORM_EPSILON)
        gain = tensors[f"{norm}.weight"] / deviation
        folded[f"{name}.weight"] = tensors[f"{name}.weight"] * gain[:, None, None, None]
        folded[f"{name}.bias"] = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
    return folded


def strides(repeats: Sequence[int]) -> list[int]:
    """The stride of every block, given the number of blocks of each of the seven stages.

    >>> strides((1, 2, 2, 3, 3, 4, 1))
    [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1]
    """
    return [
        stride if first else 1
        for stride, count in zip(STAGE_STRIDES, repeats, strict=True)
        for first in [True] + [False] * (count - 1)
    ]


def efficientnet_lite(
    weights: Mapping[str, Array], repeats: Sequence[int], until: int | None = None
) -> bytes:
    """EfficientNet-Lite from its folded weights.

    Outputs: `features` (n, 1280), what the classifier's layer would read, and `maps`
    (n, 1280, h/32, w/32), the same before pooling. With `until`, the graph ends before that block
    and `maps` are what would enter it, to train what follows on.
    """
    graph = Graph()

    def convolution(x: str, name: str, stride: int = 1, depthwise: bool = False) -> str:
        kernel, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        arrays = [graph.weight(f"{name}.weight", kernel), graph.weight(f"{name}.bias", bias)]
        groups = kernel.shape[0] if depthwise else 1
        step = [stride, stride]
        return graph.add("Conv", [x, *arrays], auto_pad="SAME_UPPER", group=groups, strides=step)

    x = graph.pixels([127.0], [128.0])
    x = graph.relu6(convolution(x, "_conv_stem", stride=2))
    width = weights["_conv_stem.weight"].shape[0]
    for number, stride in enumerate(strides(repeats)[:until]):
        block, before, width_before = f"_blocks.{number}", x, width
        if f"{block}._expand_conv.weight" in weights:
            x = graph.relu6(convolution(x, f"{block}._expand_conv"))
        x = graph.relu6(convolution(x, f"{block}._depthwise_conv", stride, depthwise=True))
        x = convolution(x, f"{block}._project_conv")
        width = weights[f"{block}._project_conv.weight"].shape[0]
        if stride == 1 and width_before == width:
            x = graph.add("Add", [x, before])
    if until is not None:
        graph.add("Identity", [x], output="maps")
        return graph.model({"maps": ["n", width, "rows", "columns"]})
    x = convolution(x, "_conv_head")
    graph.add("Clip", [x, "zero", "six"], output="maps")
    graph.add("Flatten", [graph.add("GlobalAveragePool", ["maps"])], output="features")
    width = weights["_conv_head.weight"].shape[0]
    return graph.model({"features": ["n", width], "maps": ["n", width, "rows", "columns"]})


def alexnet(weights: Mapping[str, Array]) -> bytes:
    """AlexNet up to fc7 from the weights of `models.alexnet.AlexNet`.

    Outputs: `features` (n, 4096), fc7 after its ReLU, and `maps` (n, 256, 6, 6), pooled conv5.
    """
    graph = Graph()

    def layer(kind: str, x: str, name: str, **attributes: Any) -> str:
        names = [graph.weight(f"{name}.{part}", weights[f"{name}.{part}"]) for part in PARTS]
        return graph.add("Relu", [graph.add(kind, [x, *names], **attributes)])

    def shrink(x: str, **attributes: Any) -> str:
        return graph.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], **attributes)

    def normalise(x: str) -> str:
        return graph.add("LRN", [x], size=5, alpha=ALEXNET_LRN_ALPHA, beta=0.75, bias=2.0)

    x = graph.pixels([127.0], [128.0])
    x = shrink(normalise(layer("Conv", x, "conv1", strides=[4, 4])))
    x = shrink(normalise(layer("Conv", x, "conv2", pads=[2] * 4, group=2)))
    x = layer("Conv", x, "conv3", pads=[1] * 4)
    x = layer("Conv", x, "conv4", pads=[1] * 4, group=2)
    x = layer("Conv", x, "conv5", pads=[1] * 4, group=2)
    graph.add("MaxPool", [x], output="maps", kernel_shape=[3, 3], strides=[2, 2])
    x = layer("Gemm", graph.add("Flatten", ["maps"]), "fc6", transB=1)
    graph.add("Identity", [layer("Gemm", x, "fc7", transB=1)], output="features")
    width, channels = weights["fc7.bias"].shape[0], weights["conv5.bias"].shape[0]
    return graph.model({"features": ["n", width], "maps": ["n", channels, "rows", "columns"]})
