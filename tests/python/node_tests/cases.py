"""The node tests of the `onnx` package, which makes them from code when its modules are imported."""

import importlib
import pkgutil
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.backend.test.case.node as node_tests

# The protocol's name of each of ONNX's datatypes that has a counterpart there.
DATATYPES = {
    onnx.TensorProto.BOOL: "BOOL",
    onnx.TensorProto.UINT8: "UINT8",
    onnx.TensorProto.UINT16: "UINT16",
    onnx.TensorProto.UINT32: "UINT32",
    onnx.TensorProto.UINT64: "UINT64",
    onnx.TensorProto.INT8: "INT8",
    onnx.TensorProto.INT16: "INT16",
    onnx.TensorProto.INT32: "INT32",
    onnx.TensorProto.INT64: "INT64",
    onnx.TensorProto.FLOAT16: "FP16",
    onnx.TensorProto.BFLOAT16: "BF16",
    onnx.TensorProto.FLOAT: "FP32",
    onnx.TensorProto.DOUBLE: "FP64",
    onnx.TensorProto.STRING: "BYTES",
}

# How the name of a test goes on whose graph is not the operator but what its definition as a function says.
EXPANDED = "_expanded"


@dataclass(frozen=True)
class Tensor:
    name: str
    datatype: str
    array: np.ndarray


@dataclass(frozen=True)
class Case:
    name: str
    # The operator that is tested, and its domain, which is empty for ONNX's own.
    operator: str
    domain: str
    # Whether the graph is the operator's definition in terms of others.
    expanded: bool
    model: bytes
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    rtol: float
    atol: float
    # Why it cannot be asked over the protocol, where it cannot.
    skipped: str | None


def load(wanted: list[str]) -> list[Case]:
    """The tests of these modules (`concat`) and those named (`relu/test_relu`); all where none is wanted."""
    modules = {name.partition("/")[0] for name in wanted} or set(all_modules(node_tests.__path__))
    by_module = {module: load_module(module) for module in sorted(modules)}
    cases = {case.name: case for loaded in by_module.values() for case in loaded}
    if not wanted:
        return sorted(cases.values(), key=lambda case: case.name)
    chosen: dict[str, Case] = {}
    for name in wanted:
        module, _, test = name.partition("/")
        if test and test not in cases:
            raise SystemExit(f"onnx {onnx.__version__} has no test {test} in {module}")
        chosen.update({test: cases[test]} if test else {case.name: case for case in by_module[module]})
    return sorted(chosen.values(), key=lambda case: case.name)


def all_modules(path: list[str], prefix: str = "") -> list[str]:
    names = []
    for info in pkgutil.iter_modules(path, prefix):
        if info.ispkg:
            package = importlib.import_module(f"{node_tests.__name__}.{info.name}")
            names += all_modules(package.__path__, f"{info.name}.")
        else:
            names.append(info.name)
    return sorted(names)


def load_module(name: str) -> list[Case]:
    """The tests that come with a module, and with those that it is the first to import."""
    before = len(node_tests._NodeTestCases)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(f"{node_tests.__name__}.{name}")
        except ModuleNotFoundError:
            raise SystemExit(f"onnx {onnx.__version__} has no module {name} of node tests") from None
    return cases_of(node_tests._NodeTestCases[before:])


def cases_of(tests: list) -> list[Case]:
    """A test of a function comes after the test of the operator that it stands for."""
    cases: list[Case] = []
    tested = ("", "")
    for test in tests:
        expanded = EXPANDED in test.name
        if not expanded:
            (node,) = test.model.graph.node
            tested = (node.op_type, "" if node.domain == "ai.onnx" else node.domain)
        cases.append(case_of(test, *tested, expanded))
    return cases


def case_of(test, operator: str, domain: str, expanded: bool) -> Case:
    graph = test.model.graph
    ((inputs, outputs),) = test.data_sets
    skipped = unsayable(graph)
    tensors = ((), ()) if skipped else (tensors_of(graph.input, inputs), tensors_of(graph.output, outputs))
    skipped = skipped or random_outputs(operator, tensors[0])
    return Case(
        test.name, operator, domain, expanded, test.model.SerializeToString(), *tensors, test.rtol, test.atol, skipped
    )


def unsayable(graph: onnx.GraphProto) -> str | None:
    """What among the inputs and outputs the protocol has no word for."""
    for value in [*graph.input, *graph.output]:
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            return {"sequence_type": "a sequence", "optional_type": "an optional"}.get(kind, kind)
        datatype = value.type.tensor_type.elem_type
        if datatype not in DATATYPES:
            return onnx.TensorProto.DataType.Name(datatype)
    return None


def random_outputs(operator: str, inputs: tuple[Tensor, ...]) -> str | None:
    """Whether the expected outputs are those of another generator of random numbers."""
    training = operator == "Dropout" and len(inputs) == 3 and inputs[2].array.all() and inputs[1].array.any()
    return "random outputs" if operator == "Bernoulli" or training else None


def tensors_of(values, arrays) -> tuple[Tensor, ...]:
    return tuple(tensor_of(value, array) for value, array in zip(values, arrays, strict=True))


def tensor_of(value: onnx.ValueInfoProto, array) -> Tensor:
    if isinstance(array, onnx.TensorProto):
        array = onnx.numpy_helper.to_array(array)
    return Tensor(value.name, DATATYPES[value.type.tensor_type.elem_type], np.asarray(array))
