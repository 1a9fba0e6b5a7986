"""The models that the tests ask, and what they are to answer: those of Triton's examples, and a few of Vespid's."""

import io
import tarfile
import urllib.error
import urllib.request

import ml_dtypes
import numpy as np

SIMPLE = ("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1")

# Of each species one, and what the model calls it.
FLOWERS = np.array([[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.7, 1.5], [6.3, 3.3, 6.0, 2.5]], dtype=np.float32)
SPECIES = [b"setosa", b"versicolor", b"virginica"]

# The values of Triton's sequence examples.
VALUES = [11, 7, 5, 3, 2, 0, 1]

# Texts, and bytes that are none.
BLOBS = np.array([[b"", b"a"], [b"a longer one " * 100, "ä世界".encode()]], dtype=np.object_)
NO_TEXT = np.array([[bytes(range(256))]], dtype=np.object_)


def operands(rows: int = 1, dtype: type = np.int32) -> tuple[np.ndarray, np.ndarray]:
    """Two inputs of `simple` and its like."""
    left = np.arange(rows * 16).reshape(rows, 16) % 100
    return left.astype(dtype), np.ones((rows, 16), dtype=dtype)


def as_text(numbers: np.ndarray) -> np.ndarray:
    """Numbers as `simple_string` takes them."""
    return np.vectorize(lambda number: str(number).encode(), otypes=[object])(numbers)


def as_bytes(values: np.ndarray) -> np.ndarray:
    """Clients give text for what comes in JSON, and bytes for what comes in binary."""
    return np.vectorize(lambda value: value if isinstance(value, bytes) else value.encode(), otypes=[object])(values)


def equal(got: np.ndarray | None, expected: np.ndarray) -> None:
    assert got is not None, "the output is not there"
    assert got.shape == expected.shape, f"shape {got.shape}, expected {expected.shape}"
    assert got.dtype == expected.dtype, f"datatype {got.dtype}, expected {expected.dtype}"
    assert (got == expected).all(), f"got {got}, expected {expected}"


def running_sums(values: list[int]) -> list[int]:
    return np.cumsum(values).tolist()


def classes(elements: np.ndarray) -> list[list[tuple[float, int]]]:
    """What a classified output holds: of each row the values and their indices. A label may follow them."""
    parsed = []
    for row in as_bytes(elements):
        parts = [element.decode().split(":") for element in row]
        assert all(len(part) in (2, 3) for part in parts), parts
        parsed.append([(float(part[0]), int(part[1])) for part in parts])
    return parsed


# A value of each datatype's ends, and one between.
EVERY_DATATYPE: dict[str, np.ndarray] = {
    "BOOL": np.array([True, False, True]),
    "UINT8": np.array([0, 7, 2**8 - 1], dtype=np.uint8),
    "UINT16": np.array([0, 7, 2**16 - 1], dtype=np.uint16),
    "UINT32": np.array([0, 7, 2**32 - 1], dtype=np.uint32),
    "UINT64": np.array([0, 7, 2**64 - 1], dtype=np.uint64),
    "INT8": np.array([-(2**7), -7, 2**7 - 1], dtype=np.int8),
    "INT16": np.array([-(2**15), -7, 2**15 - 1], dtype=np.int16),
    "INT32": np.array([-(2**31), -7, 2**31 - 1], dtype=np.int32),
    "INT64": np.array([-(2**63), -7, 2**63 - 1], dtype=np.int64),
    "FP16": np.array([-65504, 0.5, 6e-8], dtype=np.float16),
    "BF16": np.array([-3.0e38, 0.5, 1.0e-38], dtype=ml_dtypes.bfloat16),
    "FP32": np.array([-3.4028235e38, 0.1, 1e-45], dtype=np.float32),
    "FP64": np.array([-1.7976931348623157e308, 0.1, 5e-324], dtype=np.float64),
    "BYTES": np.array([b"", b"a", "ä世界".encode()], dtype=np.object_),
}

# Those that have no JSON form in Triton's protocol.
BINARY_ONLY = {"FP16", "BF16"}

# ONNX's numbers of them.
_ONNX = {
    "BOOL": 9,
    "UINT8": 2,
    "UINT16": 4,
    "UINT32": 12,
    "UINT64": 13,
    "INT8": 3,
    "INT16": 5,
    "INT32": 6,
    "INT64": 7,
    "FP16": 10,
    "BF16": 16,
    "FP32": 1,
    "FP64": 11,
    "BYTES": 8,
}


def identity_graph(datatypes: list[str]) -> bytes:
    """A graph in ONNX's encoding that hands an input of each datatype back: `IN_FP32` as `OUT_FP32`, of any length."""
    graph = _text(2, "identity")
    for datatype in datatypes:
        given, back = f"IN_{datatype}", f"OUT_{datatype}"
        graph += _message(1, _text(1, given) + _text(2, back) + _text(4, "Identity"))
        length = _message(1, _text(2, f"length_{datatype}"))
        kind = _message(1, _number(1, _ONNX[datatype]) + _message(2, length))
        graph += _message(11, _text(1, given) + _message(2, kind))
        graph += _message(12, _text(1, back) + _message(2, kind))
    # IR version 9 and operator set 20.
    return _number(1, 9) + _message(7, graph) + _message(8, _text(1, "") + _number(2, 20))


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, text: str) -> bytes:
    return _message(field, text.encode())


def push(http_address: str, name: str, graph: bytes) -> None:
    """Uploads a package that is a graph and nothing else, as `vespid push` does."""
    manifest = (
        f'[model]\nname = "{name}"\nversion = "1"\n'
        f'[[graph]]\nname = "graph"\nfile = "model.onnx"\nencoding = "onnx"\nbackend = "onnxruntime"\n'
    )
    package = io.BytesIO()
    with tarfile.open(fileobj=package, mode="w") as archive:
        for path, content in (("model.toml", manifest.encode()), ("model.onnx", graph)):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    url = f"http://{http_address}/v2/repository/models/{name}/versions/1"
    request = urllib.request.Request(url, data=package.getvalue(), method="PUT")
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as error:
        # An earlier run against the same server has done it.
        assert error.code == 409, error.read()
