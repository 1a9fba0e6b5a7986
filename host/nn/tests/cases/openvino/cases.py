# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "openvino==2026.4.1"]
# ///
"""Writes the graphs beside it: `uv run cases.py`. Their weights are few enough to stand in the tests.

- ports.xml    inputs and outputs in another order than that of their use, with all that their names and shapes can be
- loop.xml     a constant within the body of a loop
"""

from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

HERE = Path(__file__).resolve().parent


def ports() -> openvino.Model:
    bounded = ops.parameter(openvino.PartialShape("1..16,3"), np.float32, name="bounded")
    bounded.output(0).set_names({"with,comma"})
    alone = ops.parameter(openvino.PartialShape("?,3"), np.int64, name="alone")
    named = ops.parameter(openvino.PartialShape("?,?"), np.float32, name="named")
    named.output(0).set_names({"zz", "named", "aa"})
    relu = ops.relu(named)
    relu.output(0).set_names({"second", "first"})
    split = ops.split(ops.relu(bounded), ops.constant(np.int64(1)), 3)
    results = [
        ops.result(relu, name="last"),
        ops.result(split.output(1), name="middle"),
        ops.result(split.output(0), name="left"),
        ops.result(ops.negative(alone), name="negative"),
    ]
    return openvino.Model(results, [named, alone, bounded], "ports")


def loop() -> openvino.Model:
    rows = ops.parameter(openvino.PartialShape("?,2"), np.float32, name="rows")
    inner = ops.parameter([1, 2], np.float32, name="inner")
    body = openvino.Model([ops.add(inner, ops.constant(np.array([[1, 2]], np.float32)))], [inner], "body")
    iterator = ops.tensor_iterator()
    iterator.set_body(body)
    iterator.set_sliced_input(inner, rows.output(0), 0, 1, 1, -1, 0)
    joined = iterator.get_concatenated_slices(body.get_results()[0].output(0), 0, 1, 1, -1, 0)
    return openvino.Model([ops.result(joined, name="sums")], [rows], "loop")


for model in (ports(), loop()):
    openvino.save_model(model, HERE / f"{model.friendly_name}.xml", compress_to_fp16=False)
    weights = HERE / f"{model.friendly_name}.bin"
    print(weights.name, weights.read_bytes().hex())
    weights.unlink()
