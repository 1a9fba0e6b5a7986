"""Writes pool.onnx, a graph that does next to nothing with an image: `python pool.py`, with the package `onnx`."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])
means = helper.make_tensor_value_info("means", TensorProto.FLOAT, ["N", 3, 1, 1])
pool = helper.make_node("GlobalAveragePool", ["image"], ["means"])
graph = helper.make_graph([pool], "pool", [image], [means])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
onnx.checker.check_model(model)
(Path(__file__).parent / "pool.onnx").write_bytes(model.SerializeToString())
