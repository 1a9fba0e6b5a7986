# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "openvino==2026.4.1"]
# ///
"""Writes iris.xml and iris.bin: the graph of `iris-native` in OpenVINO's own encoding.

Run it with `uv run convert.py`, or with the packages above installed.
"""

import json
from pathlib import Path

import numpy as np
import openvino

HERE = Path(__file__).resolve().parent
PLUGINS = HERE.parent


def main() -> None:
    model = openvino.convert_model(PLUGINS / "iris-native/iris.onnx")
    # FP32 as it is: halved weights would round.
    openvino.save_model(model, HERE / "iris.xml", compress_to_fp16=False)
    for file in ("iris.xml", "iris.bin"):
        print(f"{file}: {(HERE / file).stat().st_size} bytes")
    verify(json.loads((PLUGINS / "iris/expected.json").read_text()))


def verify(expected: dict) -> None:
    # By itself it computes in BF16 where the processor has it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(HERE / "iris.xml", "CPU", exact)
    answer = compiled(np.array(expected["measurements"], dtype=np.float32))["probabilities"]
    difference = np.abs(answer - np.array(expected["probabilities"])).max()
    print(f"largest difference between OpenVINO and scikit-learn: {difference:.2e}")
    assert difference < 1e-5


if __name__ == "__main__":
    main()
