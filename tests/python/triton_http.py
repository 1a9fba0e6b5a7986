"""Uses Triton's own HTTP client against a Vespid server, as Triton's example clients do.

    python triton_http.py HOST:PORT

The examples that it follows are simple_http_health_metadata.py, simple_http_infer_client.py,
simple_http_async_infer_client.py and simple_http_string_infer_client.py. The server has the models `simple`,
`simple_string` and `simple_identity`. Ends with 0 and the word PASS where all is as expected.
"""

import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def main(url: str) -> None:
    with triton.InferenceServerClient(url, concurrency=4) as client:
        health_and_metadata(client)
        for binary in (True, False):
            simple(client, binary)
            simple_string(client, binary)
            simple_identity(client, binary)
        bytes_beyond_json(client)
        no_outputs_named(client)
        one_output(client)
        asynchronous(client)
        refusals(client)
    print("PASS")


def health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("simple", "2")
    assert not client.is_model_ready("wrong_model_name")

    server = client.get_server_metadata()
    assert server["name"] == "vespid", server
    assert "binary_tensor_data" in server["extensions"], server

    model = client.get_model_metadata("simple")
    assert (model["name"], model["versions"]) == ("simple", ["1"]), model
    tensors = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in model["inputs"] + model["outputs"]}
    assert tensors == {name: ("INT32", [-1, 16]) for name in ("INPUT0", "INPUT1", "OUTPUT0", "OUTPUT1")}, tensors

    index = client.get_model_repository_index()
    states = {(entry["name"], entry["version"]): entry["state"] for entry in index}
    assert states == {(name, "1"): "READY" for name in ("simple", "simple_identity", "simple_string")}, states


def simple(client: triton.InferenceServerClient, binary: bool) -> None:
    for rows in (1, 8):
        left, right = operands(rows)
        inputs = [given("INPUT0", left, binary), given("INPUT1", right, binary)]
        # One output as binary data and one in the JSON, as the example has it.
        outputs = [
            triton.InferRequestedOutput("OUTPUT0", binary_data=binary),
            triton.InferRequestedOutput("OUTPUT1", binary_data=False),
        ]
        result = client.infer("simple", inputs, outputs=outputs, request_id="7", query_params={"test_1": 1})
        assert result.get_response()["model_version"] == "1"
        assert result.get_response()["id"] == "7"
        equal(result.as_numpy("OUTPUT0"), left + right)
        equal(result.as_numpy("OUTPUT1"), left - right)


def simple_string(client: triton.InferenceServerClient, binary: bool) -> None:
    left, right = operands(1)
    as_text = np.vectorize(lambda number: str(number).encode(), otypes=[object])
    inputs = [given("INPUT0", as_text(left), binary), given("INPUT1", as_text(right), binary)]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
    result = client.infer("simple_string", inputs, outputs=outputs)
    equal(result.as_numpy("OUTPUT0").astype(np.int32), left + right)
    equal(result.as_numpy("OUTPUT1").astype(np.int32), left - right)


def simple_identity(client: triton.InferenceServerClient, binary: bool) -> None:
    sent = np.array([[b"", b"a"], [b"a longer one " * 100, "ä世界".encode()]], dtype=np.object_)
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    result = client.infer("simple_identity", [given("INPUT0", sent, binary)], outputs=outputs)
    received = result.as_numpy("OUTPUT0")
    # In JSON the client gives text for what it gives as bytes otherwise.
    received = np.vectorize(lambda text: text if isinstance(text, bytes) else text.encode(), otypes=[object])(received)
    equal(received, sent)


def bytes_beyond_json(client: triton.InferenceServerClient) -> None:
    """Bytes that no JSON can hold come and go as binary data."""
    sent = np.array([[bytes(range(256))]], dtype=np.object_)
    result = client.infer("simple_identity", [given("INPUT0", sent, True)])
    equal(result.as_numpy("OUTPUT0"), sent)
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=False)]
    refused("UTF-8", lambda: client.infer("simple_identity", [given("INPUT0", sent, True)], outputs=outputs))


def no_outputs_named(client: triton.InferenceServerClient) -> None:
    left, right = operands(2)
    result = client.infer("simple", [given("INPUT0", left, True), given("INPUT1", right, False)])
    for output in result.get_response()["outputs"]:
        assert "binary_data_size" in output["parameters"], output
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


def one_output(client: triton.InferenceServerClient) -> None:
    left, right = operands(1)
    inputs = [given("INPUT0", left, True), given("INPUT1", right, True)]
    result = client.infer("simple", inputs, model_version="1", outputs=[triton.InferRequestedOutput("OUTPUT1")])
    equal(result.as_numpy("OUTPUT1"), left - right)
    assert result.as_numpy("OUTPUT0") is None


def asynchronous(client: triton.InferenceServerClient) -> None:
    left, right = operands(1)
    asked = [
        client.async_infer("simple", [given("INPUT0", left + count, True), given("INPUT1", right, True)])
        for count in range(16)
    ]
    for count, request in enumerate(asked):
        equal(request.get_result(timeout=30).as_numpy("OUTPUT0"), left + count + right)


def refusals(client: triton.InferenceServerClient) -> None:
    left, right = operands(1)
    inputs = [given("INPUT0", left, True), given("INPUT1", right, True)]
    refused("Request for unknown model", lambda: client.infer("wrong_model_name", inputs))
    refused("Request for unknown model", lambda: client.get_model_metadata("wrong_model_name"))
    refused("input 'INPUT1' is missing", lambda: client.infer("simple", inputs[:1]))
    wrong_shape = [given("INPUT0", left[:, :8], True), given("INPUT1", right[:, :8], True)]
    refused("'INPUT0' has shape [1, 8]", lambda: client.infer("simple", wrong_shape))
    wrong_type = [given("INPUT0", left.astype(np.float32), True), given("INPUT1", right, True)]
    refused("'INPUT0' has datatype FP32", lambda: client.infer("simple", wrong_type))


def operands(rows: int) -> tuple[np.ndarray, np.ndarray]:
    return np.arange(rows * 16, dtype=np.int32).reshape(rows, 16), np.ones((rows, 16), dtype=np.int32)


def given(name: str, values: np.ndarray, binary: bool) -> triton.InferInput:
    datatype = {"int32": "INT32", "float32": "FP32", "object": "BYTES"}[values.dtype.name]
    tensor = triton.InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def equal(got: np.ndarray, expected: np.ndarray) -> None:
    assert got.shape == expected.shape and (got == expected).all(), f"got {got}, expected {expected}"


def refused(message: str, ask) -> None:
    try:
        ask()
    except InferenceServerException as error:
        assert message in error.message(), f"expected '{message}': {error}"
    else:
        raise AssertionError(f"not refused, though '{message}' is expected")


if __name__ == "__main__":
    main(sys.argv[1])
