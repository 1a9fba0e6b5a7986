"""One test on one backend: its package, its request, and what came of it."""

import io
import json
import struct
import tarfile
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from cases import Case, Tensor
from server import Lost, Server

# What each datatype's raw bytes are. BYTES are of any length, each behind its own.
DTYPES = {
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}

# Of ONNX's runner: two units in the last place of bfloat16.
BF16_RTOL = 2**-6

# Outcomes that are the server's failure, whatever the graph.
LOST = ("died", "hung")


@dataclass(frozen=True)
class Outcome:
    # passed, wrong, refused (when it was loaded), failed (when it was run), skipped, died or hung.
    kind: str
    text: str = ""


class Failed(Exception):
    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.outcome = Outcome(kind, text)


def run(server: Server, backend: str, case: Case) -> Outcome:
    if case.skipped:
        return Outcome("skipped", case.skipped)
    path = f"/v2/repository/models/{case.name}/versions/1"
    try:
        status, _, answer = server.send("PUT", path, {}, package(backend, case))
        if status != 201:
            return Outcome("refused", error_text(answer))
        outcome = ask(server, case)
        status, _, answer = server.send("DELETE", path, {}, b"")
        if status != 204:
            raise SystemExit(f"{case.name} is not removed: {error_text(answer)}")
        return outcome
    except Lost as lost:
        return Outcome(lost.kind, lost.text)


def package(backend: str, case: Case) -> bytes:
    manifest = (
        f'[model]\nname = "{case.name}"\nversion = "1"\n'
        f'[[graph]]\nname = "graph"\nfile = "model.onnx"\nencoding = "onnx"\ndevice = "cpu"\nbackend = "{backend}"\n'
    )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in (("model.toml", manifest.encode()), ("model.onnx", case.model)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return archive.getvalue()


def ask(server: Server, case: Case) -> Outcome:
    data = [raw(tensor) for tensor in case.inputs]
    request = {"inputs": [described(*pair) for pair in zip(case.inputs, data)], "parameters": {"binary_data_output": True}}
    head = json.dumps(request).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    status, headers, body = server.send("POST", f"/v2/models/{case.name}/infer", headers, b"".join([head, *data]))
    if status != 200:
        return Outcome("failed", error_text(body))
    try:
        got = tensors(headers, body)
        for expected in case.outputs:
            compare(got.get(expected.name), expected, case)
    except Failed as failed:
        return failed.outcome
    return Outcome("passed")


def described(tensor: Tensor, data: bytes) -> dict:
    shape = list(tensor.array.shape)
    parameters = {"binary_data_size": len(data)}
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": shape, "parameters": parameters}


def raw(tensor: Tensor) -> bytes:
    if tensor.datatype != "BYTES":
        return tensor.array.astype(DTYPES[tensor.datatype]).tobytes()
    texts = [as_bytes(text) for text in tensor.array.ravel()]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def as_bytes(text) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


def tensors(headers: dict[str, str], body: bytes) -> dict[str, Tensor]:
    length = int(headers.get("inference-header-content-length", len(body)))
    position, read = length, {}
    for output in json.loads(body[:length])["outputs"]:
        name, datatype, shape = output["name"], output["datatype"], output["shape"]
        size = output["parameters"]["binary_data_size"]
        data = body[position : position + size]
        position += size
        read[name] = Tensor(name, datatype, elements(datatype, data).reshape(shape))
    return read


def elements(datatype: str, data: bytes) -> np.ndarray:
    if datatype != "BYTES":
        return np.frombuffer(data, DTYPES[datatype])
    texts, position = [], 0
    while position < len(data):
        (length,) = struct.unpack_from("<I", data, position)
        texts.append(data[position + 4 : position + 4 + length])
        position += 4 + length
    return np.array(texts, dtype=object)


def compare(got: Tensor | None, expected: Tensor, case: Case) -> None:
    """As `onnx.backend.test.runner` does. Raises `Failed` where it is another tensor."""
    at = f"output '{expected.name}'"
    if got is None:
        raise Failed("wrong", f"{at} is missing")
    if got.datatype != expected.datatype:
        raise Failed("wrong", f"{at} has datatype {got.datatype}, not {expected.datatype}")
    if got.array.shape != expected.array.shape:
        raise Failed("wrong", f"{at} has shape {list(got.array.shape)}, not {list(expected.array.shape)}")
    if expected.datatype == "BYTES":
        expected_texts = [as_bytes(text) for text in expected.array.ravel()]
        differ = sum(one != other for one, other in zip(got.array.ravel(), expected_texts))
        if differ:
            raise Failed("wrong", f"{at}: {differ} of {len(expected_texts)} texts differ")
        return
    compare_numbers(at, got, expected, case)


def compare_numbers(at: str, got: Tensor, expected: Tensor, case: Case) -> None:
    ours, theirs, rtol = got.array, expected.array, case.rtol
    if expected.datatype == "BF16":
        ours, theirs, rtol = ours.astype(np.float32), theirs.astype(np.float32), max(rtol, BF16_RTOL)
    with np.errstate(all="ignore"):
        far = ~np.isclose(ours, theirs, rtol=rtol, atol=case.atol, equal_nan=True)
        if not far.any():
            return
        by = np.abs(ours[far].astype(np.float64) - theirs[far].astype(np.float64))
        largest = float(np.max(by))
    raise Failed("wrong", f"{at}: {far.sum()} of {far.size} elements differ, by up to {largest:.3g}")


def error_text(answer: bytes) -> str:
    try:
        return json.loads(answer)["error"]
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace")
