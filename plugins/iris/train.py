# /// script
# requires-python = ">=3.11"
# dependencies = ["numpy==2.4.6", "scikit-learn==1.9.1", "skl2onnx==1.20.0", "onnx==1.23.2", "onnxruntime==1.32.0"]
# ///
"""Trains the iris classifier and writes what the packages `iris`, `iris-python`, `iris-js` and `iris-native` hold.

- iris.onnx                    probabilities of standardised measurements; the plugins standardise; each has a copy
- src/scaler.rs                the constants that they do it with; scaler.py and scaler.js are the same
- ../iris-native/iris.onnx     probabilities of measurements, the scaler in the graph
- expected.json                some rows with scikit-learn's own answer

A perceptron is used because its graph needs the standard ONNX operators only, which every backend has.
Run it with `uv run train.py`, or with the packages above installed.
"""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
OPSET = 17
COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]


def main() -> None:
    iris = load_iris()
    x = iris.data.astype(np.float32)
    train_x, test_x, train_y, test_y = train_test_split(
        x, iris.target, test_size=0.3, stratify=iris.target, random_state=7
    )
    scaler = StandardScaler().fit(train_x)
    classifier = MLPClassifier((8,), solver="lbfgs", alpha=0.1, max_iter=500, random_state=7)
    classifier.fit(scaler.transform(train_x), train_y)
    for name, rows, labels in ("train", train_x, train_y), ("test", test_x, test_y):
        print(f"{name} accuracy: {classifier.score(scaler.transform(rows), labels):.4f} of {len(rows)} rows")

    mean, scale = scaler.mean_.astype(np.float32), scaler.scale_.astype(np.float32)
    plain = plain_graph(classifier)
    native = with_scaler(plain, mean, scale)
    for folder in "iris", "iris-python", "iris-js":
        save(plain, HERE.parent / folder / "iris.onnx")
    save(native, HERE.parent / "iris-native" / "iris.onnx")
    write_constants("iris/src/scaler.rs", "//! ", "", "pub(crate) const {}: [f32; 4] = [{}];", "/// ", mean, scale)
    write_constants("iris-python/scaler.py", '"""', '"""', "{} = ({})", "#: ", mean, scale)
    write_constants("iris-js/scaler.js", "// ", "", "export const {} = [{}];", "/** ", mean, scale)

    rows = x[::10]
    probabilities = classifier.predict_proba(scaler.transform(rows))
    verify(plain, "X", (rows - mean) / scale, probabilities)
    verify(native, "measurements", rows, probabilities)
    expected = {
        "measurements": [[round(float(value), 1) for value in row] for row in rows],
        "species": [str(iris.target_names[place]) for place in probabilities.argmax(axis=1)],
        "probabilities": [[round(float(value), 8) for value in row] for row in probabilities],
    }
    columns = []
    for name, values in expected.items():
        rows = ",\n  ".join(map(json.dumps, values))
        columns.append(f'"{name}": [\n  {rows}\n ]')
    (HERE / "expected.json").write_text("{\n " + ",\n ".join(columns) + "\n}\n")


def plain_graph(classifier: MLPClassifier) -> onnx.ModelProto:
    """The graph up to the probabilities: the labels after them need operators outside of the standard."""
    model = to_onnx(
        classifier,
        initial_types=[("X", FloatTensorType([None, 4]))],
        options={id(classifier): {"zipmap": False}},
        target_opset={"": OPSET, "ai.onnx.ml": 3},
    )
    model = select_model_inputs_outputs(model, "probabilities")
    return finish(model.graph, model.graph.node, model.graph.initializer, "X")


def with_scaler(plain: onnx.ModelProto, mean: np.ndarray, scale: np.ndarray) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Sub", ["measurements", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "scale"], ["X"]),
        *plain.graph.node,
    ]
    constants = [numpy_helper.from_array(mean, "mean"), numpy_helper.from_array(scale, "scale")]
    return finish(plain.graph, nodes, [*constants, *plain.graph.initializer], "measurements")


def finish(graph, nodes, constants, name: str) -> onnx.ModelProto:
    rows = helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", 4])
    probabilities = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["n", 3])
    used = {name for node in nodes for name in node.input}
    constants = [constant for constant in constants if constant.name in used]
    graph = helper.make_graph(list(nodes), "iris", [rows], [probabilities], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def save(model: onnx.ModelProto, path: Path) -> None:
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    operators = [node.op_type for node in model.graph.node]
    print(f"{path.parent.name}/{path.name}: {path.stat().st_size} bytes, {' '.join(operators)}")


def verify(model: onnx.ModelProto, name: str, rows: np.ndarray, expected: np.ndarray) -> None:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (answer,) = session.run(["probabilities"], {name: rows.astype(np.float32)})
    difference = np.abs(answer - expected).max()
    print(f"largest difference between ONNX Runtime and scikit-learn: {difference:.2e}")
    assert difference < 1e-5


def write_constants(
    path: str, before: str, after: str, line: str, comment: str, mean: np.ndarray, scale: np.ndarray
) -> None:
    """Writes the scaler in one language."""
    by = "train.py" if path.startswith("iris/") else "train.py of plugins/iris"
    end = " */" if comment.startswith("/**") else ""
    lines = [f"{before}Written by {by}: what the graph's training data was standardised with.{after}", ""]
    for name, values, meaning in (
        ("MEAN", mean, f"The mean of each measurement: {', '.join(COLUMNS)}."),
        ("SCALE", scale, "The standard deviation of each measurement."),
    ):
        lines += [f"{comment}{meaning}{end}", line.format(name, ", ".join(str(value) for value in values))]
    (HERE.parent / path).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
