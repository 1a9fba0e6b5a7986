"""tritonclient.http, as Triton's example clients use it: simple_http_*.py."""

import gzip
import http.client
import json
import uuid
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import tritonclient.http as triton
from conftest import Metrics, eventually
from models import (
    BINARY_ONLY,
    BLOBS,
    EVERY_DATATYPE,
    FLOWERS,
    NO_TEXT,
    SIMPLE,
    SPECIES,
    VALUES,
    as_bytes,
    as_text,
    classes,
    equal,
    identity_graph,
    operands,
    push,
    running_sums,
)
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

BINARY = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])


@pytest.fixture
def client(http_address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(http_address, concurrency=4) as client:
        yield client


@pytest.fixture(scope="module")
def datatypes(http_address: str) -> str:
    push(http_address, "datatypes", identity_graph(list(EVERY_DATATYPE)))
    return "datatypes"


def given(name: str, values: np.ndarray, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return tensor.set_data_from_numpy(values, binary_data=binary)


def simple_inputs(rows: int = 1, binary: bool = True, dtype: type = np.int32) -> list[triton.InferInput]:
    left, right = operands(rows, dtype)
    return [given("INPUT0", left, binary), given("INPUT1", right, binary)]


def refused(status: str, message: str, ask: Callable[[], object]) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as raised:
        ask()
    error = raised.value
    assert (error.status(), message in error.message()) == (status, True), f"expected {status} '{message}': {error}"
    return error


# Health, metadata, configuration


def test_health(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live(query_params={"test_1": 1, "test_2": 2})
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("simple", "2")
    assert not client.is_model_ready("wrong_model_name")


def test_server_metadata(client: triton.InferenceServerClient) -> None:
    server = client.get_server_metadata(headers={"test": "1"})
    assert server["name"] and server["version"], server
    expected = {
        "binary_tensor_data",
        "classification",
        "logging",
        "model_configuration",
        "model_repository",
        "schedule_policy",
        "sequence",
        "sequence(string_id)",
        "statistics",
        "trace",
    }
    assert expected <= set(server["extensions"]), server
    assert not [name for name in server["extensions"] if "shared_memory" in name], server


@pytest.mark.parametrize("version", ["", "1"])
def test_model_metadata(client: triton.InferenceServerClient, version: str) -> None:
    model = client.get_model_metadata("simple", version)
    assert (model["name"], model["versions"]) == ("simple", ["1"]), model
    assert model["platform"], model
    tensors = {tensor["name"]: (tensor["datatype"], tensor["shape"]) for tensor in model["inputs"] + model["outputs"]}
    assert tensors == {name: ("INT32", [-1, 16]) for name in SIMPLE}, tensors


@pytest.mark.parametrize("version", ["", "1"])
@pytest.mark.parametrize("name", ["simple", "simple_string", "iris-native"])
def test_model_configuration(client: triton.InferenceServerClient, name: str, version: str) -> None:
    config = client.get_model_config(name, version)
    model = client.get_model_metadata(name)
    assert config["name"] == name, config
    assert config["platform"] == model["platform"], config
    assert not config.get("model_transaction_policy", {}).get("decoupled", False), config
    batches = config["max_batch_size"] > 0
    for kind in ("input", "output"):
        for tensor, described in zip(config[kind], model[f"{kind}s"], strict=True):
            datatype = {"BYTES": "STRING"}.get(described["datatype"], described["datatype"])
            assert (tensor["name"], tensor["data_type"]) == (described["name"], f"TYPE_{datatype}"), config
            # The batch is a dimension of requests, and not of the configuration.
            dims = described["shape"][1:] if batches else described["shape"]
            assert [int(size) for size in tensor["dims"]] == dims, config


def test_configuration_says_what_is_special(client: triton.InferenceServerClient) -> None:
    decoupled = client.get_model_config("repeat_int32")
    assert decoupled["model_transaction_policy"]["decoupled"] is True, decoupled
    assert "sequence_batching" in client.get_model_config("simple_sequence")
    assert "sequence_batching" not in client.get_model_config("simple")


# Inference


@BINARY
@pytest.mark.parametrize("rows", [1, 8])
def test_simple(client: triton.InferenceServerClient, rows: int, binary: bool) -> None:
    left, right = operands(rows)
    # One output as binary data and one in the JSON, as the example has it.
    outputs = [
        triton.InferRequestedOutput("OUTPUT0", binary_data=binary),
        triton.InferRequestedOutput("OUTPUT1", binary_data=False),
    ]
    result = client.infer("simple", simple_inputs(rows, binary), outputs=outputs, query_params={"test_1": 1})
    response = result.get_response()
    assert (response["model_name"], response["model_version"]) == ("simple", "1"), response
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


def test_inputs_in_json_and_binary_at_once(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    result = client.infer("simple", [given("INPUT0", left, False), given("INPUT1", right, True)])
    equal(result.as_numpy("OUTPUT0"), left + right)


def test_all_outputs_come_binary_where_none_is_named(client: triton.InferenceServerClient) -> None:
    left, right = operands(2)
    result = client.infer("simple", simple_inputs(2))
    assert len(result.get_response()["outputs"]) == 2
    for output in result.get_response()["outputs"]:
        assert output["parameters"]["binary_data_size"] == 2 * 16 * 4, output
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


def test_one_output(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    outputs = [triton.InferRequestedOutput("OUTPUT1")]
    result = client.infer("simple", simple_inputs(), model_version="1", outputs=outputs)
    equal(result.as_numpy("OUTPUT1"), left - right)
    assert result.as_numpy("OUTPUT0") is None


@BINARY
def test_simple_string(client: triton.InferenceServerClient, binary: bool) -> None:
    left, right = operands()
    inputs = [given("INPUT0", as_text(left), binary), given("INPUT1", as_text(right), binary)]
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
    result = client.infer("simple_string", inputs, outputs=outputs)
    equal(result.as_numpy("OUTPUT0").astype(np.int32), left + right)
    equal(result.as_numpy("OUTPUT1").astype(np.int32), left - right)


@BINARY
def test_simple_int8(client: triton.InferenceServerClient, binary: bool) -> None:
    left, right = operands(1, np.int8)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
    result = client.infer("simple_int8", simple_inputs(1, binary, np.int8), outputs=outputs)
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


@BINARY
def test_texts_and_bytes(client: triton.InferenceServerClient, binary: bool) -> None:
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    result = client.infer("simple_identity", [given("INPUT0", BLOBS, binary)], outputs=outputs)
    equal(as_bytes(result.as_numpy("OUTPUT0")), BLOBS)


def test_bytes_that_no_json_can_hold(client: triton.InferenceServerClient) -> None:
    equal(client.infer("simple_identity", [given("INPUT0", NO_TEXT)]).as_numpy("OUTPUT0"), NO_TEXT)
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=False)]
    refused("400", "UTF-8", lambda: client.infer("simple_identity", [given("INPUT0", NO_TEXT)], outputs=outputs))


def test_tensors_without_elements(client: triton.InferenceServerClient) -> None:
    for rows, columns in ((0, 1), (1, 0)):
        sent = np.empty((rows, columns), dtype=np.object_)
        result = client.infer("simple_identity", [given("INPUT0", sent)])
        assert result.as_numpy("OUTPUT0").shape == (rows, columns)


def test_a_large_tensor(client: triton.InferenceServerClient) -> None:
    sent = np.array([[b"x" * (5 << 20)]], dtype=np.object_)
    equal(client.infer("simple_identity", [given("INPUT0", sent)]).as_numpy("OUTPUT0"), sent)


@BINARY
def test_every_datatype(client: triton.InferenceServerClient, datatypes: str, binary: bool) -> None:
    as_binary = {datatype: binary or datatype in BINARY_ONLY for datatype in EVERY_DATATYPE}
    inputs = [given(f"IN_{name}", values, as_binary[name]) for name, values in EVERY_DATATYPE.items()]
    outputs = [triton.InferRequestedOutput(f"OUT_{name}", binary_data=as_binary[name]) for name in EVERY_DATATYPE]
    result = client.infer(datatypes, inputs, outputs=outputs)
    for name, values in EVERY_DATATYPE.items():
        got = result.as_numpy(f"OUT_{name}")
        equal(as_bytes(got) if name == "BYTES" else got, values)


@BINARY
def test_classification(client: triton.InferenceServerClient, binary: bool) -> None:
    plain = client.infer("iris", [given("measurements", FLOWERS)])
    assert plain.as_numpy("species").tolist() == SPECIES
    probabilities = plain.as_numpy("probabilities")
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
    result = client.infer("iris", [given("measurements", FLOWERS)], outputs=outputs)
    assert result.get_output("probabilities")["datatype"] == "BYTES"
    elements = result.as_numpy("probabilities")
    assert elements.shape == (3, 2)
    for row, found in zip(probabilities, classes(elements), strict=True):
        order = np.argsort(-row)[:2]
        assert [index for _, index in found] == order.tolist(), (row, found)
        assert np.allclose([value for value, _ in found], row[order], atol=1e-5), (row, found)


def test_more_classes_than_there_are(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=100)]
    result = client.infer("iris", [given("measurements", FLOWERS)], outputs=outputs)
    assert result.as_numpy("probabilities").shape == (3, 3)


def test_request_id(client: triton.InferenceServerClient) -> None:
    assert client.infer("simple", simple_inputs(), request_id="my id ä").get_response()["id"] == "my id ä"
    assert client.infer("simple", simple_inputs()).get_response().get("id", "") == ""


def test_many_at_once(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    asked = [
        client.async_infer("simple", [given("INPUT0", left + count), given("INPUT1", right)], request_id=str(count))
        for count in range(16)
    ]
    for count, request in enumerate(asked):
        result = request.get_result(timeout=30)
        assert result.get_response()["id"] == str(count)
        equal(result.as_numpy("OUTPUT0"), left + count + right)


def test_the_client_s_body_sent_by_other_means(http_address: str) -> None:
    left, right = operands()
    body, head = triton.InferenceServerClient.generate_request_body(simple_inputs())
    connection = http.client.HTTPConnection(http_address, timeout=30)
    connection.request("POST", "/v2/models/simple/infer", body, {"Inference-Header-Content-Length": str(head)})
    response = connection.getresponse()
    head = int(response.headers["Inference-Header-Content-Length"])
    result = triton.InferenceServerClient.parse_response_body(response.read(), header_length=head)
    equal(result.as_numpy("OUTPUT0"), left + right)


@pytest.mark.parametrize("answered", [None, "gzip", "deflate"])
@pytest.mark.parametrize("asked", [None, "gzip", "deflate"])
@BINARY
def test_compression(client: triton.InferenceServerClient, asked: str, answered: str, binary: bool) -> None:
    left, right = operands(64)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
    result = client.infer(
        "simple",
        simple_inputs(64, binary),
        outputs=outputs,
        request_compression_algorithm=asked,
        response_compression_algorithm=answered,
    )
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_answer_is_compressed_where_that_is_asked_for(http_address: str, encoding: str) -> None:
    body, head = triton.InferenceServerClient.generate_request_body(simple_inputs(64))
    headers = {"Inference-Header-Content-Length": str(head), "Accept-Encoding": encoding}
    connection = http.client.HTTPConnection(http_address, timeout=30)
    connection.request("POST", "/v2/models/simple/infer", body, headers)
    response = connection.getresponse()
    assert response.headers["Content-Encoding"] == encoding, response.headers
    content = response.read()
    inflated = gzip.decompress(content) if encoding == "gzip" else zlib.decompress(content)
    # The length is that of the JSON as it was.
    json.loads(inflated[: int(response.headers["Inference-Header-Content-Length"])])


# Scheduling


def test_priority_and_timeout(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    for priority in (0, 1, 2):
        result = client.infer("simple", simple_inputs(), priority=priority, timeout=30_000_000)
        equal(result.as_numpy("OUTPUT0"), left + right)


def test_a_timeout_ends_the_call(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    kind = given("kind", np.zeros([1], dtype=np.int32))
    refused("504", "", lambda: client.infer("loop", [kind], timeout=200_000))
    eventually("nothing waits", lambda: metrics("nv_inference_pending_request_count", model="loop") == 0)


# Sequences


def send(client: triton.InferenceServerClient, sequence: int | str, value: int, **flags: bool) -> int:
    outputs = [triton.InferRequestedOutput("OUTPUT")]
    inputs = [given("INPUT", np.full((1, 1), value, dtype=np.int32))]
    result = client.infer("simple_sequence", inputs, outputs=outputs, sequence_id=sequence, **flags)
    output = result.as_numpy("OUTPUT")
    assert (output.shape, output.dtype) == ((1, 1), np.int32)
    return int(output[0][0])


def whole(client: triton.InferenceServerClient, sequence: int | str, values: list[int]) -> list[int]:
    last = len(values) - 1
    return [
        send(client, sequence, value, sequence_start=(step == 0), sequence_end=(step == last))
        for step, value in enumerate(values)
    ]


@pytest.mark.parametrize("sequence", [1000, 2**63 - 1, 2**64 - 1, str(uuid.uuid4()), "ä"])
def test_sequence(client: triton.InferenceServerClient, sequence: int | str) -> None:
    assert whole(client, sequence, VALUES) == running_sums(VALUES)
    # Its end was the end of what it knew.
    assert whole(client, sequence, [100, -1]) == [100, 99]


def test_sequences_that_interleave(client: triton.InferenceServerClient) -> None:
    sums: dict[int | str, list[int]] = {1001: [], 1002: [], "1001": []}
    for step, value in enumerate(VALUES):
        for factor, sequence in enumerate(sums, start=1):
            ends = step == len(VALUES) - 1
            got = send(client, sequence, factor * value, sequence_start=(step == 0), sequence_end=ends)
            sums[sequence].append(got)
    for factor, found in enumerate(sums.values(), start=1):
        assert found == running_sums([factor * value for value in VALUES])


def test_a_sequence_begins_with_its_start(client: triton.InferenceServerClient) -> None:
    refused("400", "2001", lambda: send(client, 2001, 1))
    send(client, 2001, 1, sequence_start=True, sequence_end=True)
    refused("400", "2001", lambda: send(client, 2001, 1))


def test_a_second_start_begins_anew(client: triton.InferenceServerClient) -> None:
    assert send(client, 2002, 5, sequence_start=True) == 5
    assert send(client, 2002, 7, sequence_start=True) == 7
    assert send(client, 2002, 1, sequence_end=True) == 8


def test_a_sequence_model_wants_a_sequence(client: triton.InferenceServerClient) -> None:
    inputs = [given("INPUT", np.ones((1, 1), dtype=np.int32))]
    refused("400", "sequence", lambda: client.infer("simple_sequence", inputs))


# Model control


def test_index(client: triton.InferenceServerClient) -> None:
    index = client.get_model_repository_index()
    states = {(entry["name"], entry["version"]): entry["state"] for entry in index}
    assert states["simple", "1"] == "READY", index
    assert all(isinstance(entry["reason"], str) for entry in index), index


def test_unload_and_load(client: triton.InferenceServerClient) -> None:
    client.unload_model("simple_string")
    eventually("it is unloaded", lambda: not client.is_model_ready("simple_string"))
    left, right = operands()
    inputs = [given("INPUT0", as_text(left)), given("INPUT1", as_text(right))]
    with pytest.raises(InferenceServerException, match="^.*Request for unknown model"):
        client.infer("simple_string", inputs)
    states = {entry["name"]: entry["state"] for entry in client.get_model_repository_index()}
    assert states["simple_string"] == "UNAVAILABLE", states
    client.load_model("simple_string")
    assert client.is_model_ready("simple_string")
    equal(client.infer("simple_string", inputs).as_numpy("OUTPUT0").astype(np.int32), left + right)
    # Of one that is loaded it is a reload.
    client.load_model("simple_string")
    assert client.is_model_ready("simple_string")


def test_load_with_a_configuration(client: triton.InferenceServerClient) -> None:
    """As simple_http_model_control.py does, down to the number that is written as text."""
    before = client.get_model_config("iris-native")["max_batch_size"]
    assert before != 16
    broken = '"parameters": {"config": {{"max_batch_size": "16"}}}'
    refused("400", "failed to load", lambda: client.load_model("iris-native", config=broken))
    client.load_model("iris-native", config='{"max_batch_size":"16"}')
    assert client.get_model_config("iris-native")["max_batch_size"] == 16
    client.load_model("iris-native")
    assert client.get_model_config("iris-native")["max_batch_size"] == before


def test_load_with_files(client: triton.InferenceServerClient) -> None:
    config = '{"backend": "onnxruntime"}'
    files = {"file:1/model.onnx": identity_graph(["FP32"])}
    client.load_model("uploaded", config=config, files=files)
    assert client.is_model_ready("uploaded", "1")
    sent = np.array([1.5, -2.5], dtype=np.float32)
    equal(client.infer("uploaded", [given("IN_FP32", sent)]).as_numpy("OUT_FP32"), sent)
    client.unload_model("uploaded")
    assert not client.is_model_ready("uploaded")


def test_files_want_a_configuration(client: triton.InferenceServerClient) -> None:
    files = {"file:1/model.onnx": identity_graph(["FP32"])}
    refused("400", "failed to load", lambda: client.load_model("no_config", files=files))
    too_long = {"file:" + "A" * 256: b"a"}
    refused("400", "", lambda: client.load_model("simple", config="{}", files=too_long))
    outside = {"file:1/../../escape": b"a"}
    refused("400", "", lambda: client.load_model("simple", config="{}", files=outside))
    assert client.is_server_live()
    assert client.is_model_ready("simple")


def test_what_is_not_there_cannot_be_loaded(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("wrong_model_name")


# Statistics and settings


def count(client: triton.InferenceServerClient, model: str) -> dict[str, int]:
    stats = client.get_inference_statistics(model)["model_stats"]
    assert len(stats) == 1, stats
    of_model = stats[0]
    assert (of_model["name"], of_model["version"]) == (model, "1"), stats
    counts = {name: duration["count"] for name, duration in of_model["inference_stats"].items()}
    return counts | {name: of_model[name] for name in ("inference_count", "execution_count", "last_inference")}


@pytest.mark.parametrize("model", ["simple", "iris-native"])
def test_statistics(client: triton.InferenceServerClient, model: str) -> None:
    inputs = simple_inputs() if model == "simple" else [given("measurements", FLOWERS[:1])]
    client.infer(model, inputs)
    before = count(client, model)
    for _ in range(5):
        client.infer(model, inputs)
    after = count(client, model)
    # One after the other, so that each is a run of its own.
    counted = ("success", "queue", "compute_input", "compute_infer", "compute_output", "inference_count", "execution_count")
    assert {name: after[name] - before[name] for name in counted} == dict.fromkeys(counted, 5)
    assert after["fail"] == before["fail"]
    assert after["last_inference"] >= before["last_inference"] > 1_600_000_000_000


def test_each_row_is_an_inference(client: triton.InferenceServerClient) -> None:
    before = count(client, "iris-native")
    client.infer("iris-native", [given("measurements", FLOWERS)])
    after = count(client, "iris-native")
    assert after["inference_count"] - before["inference_count"] == 3
    assert after["execution_count"] - before["execution_count"] == 1
    batches = client.get_inference_statistics("iris-native", "1")["model_stats"][0]["batch_stats"]
    assert 3 in [batch["batch_size"] for batch in batches], batches
    for batch in batches:
        assert {"compute_input", "compute_infer", "compute_output"} <= batch.keys(), batch


def test_failures_are_counted(client: triton.InferenceServerClient) -> None:
    before = count(client, "simple_string")
    texts = np.full((1, 16), b"no number", dtype=np.object_)
    with pytest.raises(InferenceServerException):
        client.infer("simple_string", [given("INPUT0", texts), given("INPUT1", texts)])
    after = count(client, "simple_string")
    assert after["fail"] - before["fail"] == 1
    assert after["success"] == before["success"]


def test_statistics_of_all_models(client: triton.InferenceServerClient) -> None:
    names = [entry["name"] for entry in client.get_inference_statistics()["model_stats"]]
    assert {"simple", "simple_identity", "iris"} <= set(names), names
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.get_inference_statistics("wrong_model_name")


def test_trace_settings(client: triton.InferenceServerClient) -> None:
    original = client.get_trace_settings()
    assert {"trace_level", "trace_rate", "trace_count", "log_frequency"} <= original.keys(), original
    try:
        changed = client.update_trace_settings(settings={"trace_rate": "500"})
        assert changed == original | {"trace_rate": "500"}
        assert client.get_trace_settings() == changed
        # A model's own settings go before, and are the server's again once they are cleared.
        own = client.update_trace_settings("simple", {"trace_rate": "7", "trace_level": ["OFF"]})
        assert (own["trace_level"], own["trace_rate"]) == (["OFF"], "7"), own
        assert client.get_trace_settings("simple")["trace_rate"] == "7"
        assert client.get_trace_settings()["trace_rate"] == "500"
        assert client.update_trace_settings("simple", {"trace_rate": None})["trace_rate"] == "500"
    finally:
        client.update_trace_settings(settings={"trace_rate": original["trace_rate"]})
    with pytest.raises(InferenceServerException):
        client.update_trace_settings(settings={"trace_rate": "often"})
    with pytest.raises(InferenceServerException, match="unknown model"):
        client.get_trace_settings("wrong_model_name")


def test_log_settings(client: triton.InferenceServerClient) -> None:
    original = client.get_log_settings()
    names = {"log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format"}
    assert names <= original.keys(), original
    try:
        changed = client.update_log_settings({"log_verbose_level": 1})
        assert changed == original | {"log_verbose_level": 1}
        assert client.get_log_settings() == changed
    finally:
        client.update_log_settings({"log_verbose_level": original["log_verbose_level"]})
    assert client.get_log_settings() == original
    with pytest.raises(InferenceServerException):
        client.update_log_settings({"log_verbose_level": "much"})
    with pytest.raises(InferenceServerException):
        client.update_log_settings({"wrong_setting": 1})


# Refusals


def test_unknown_models_and_versions(client: triton.InferenceServerClient) -> None:
    asks: list[Callable[[], object]] = [
        lambda: client.infer("wrong_model_name", simple_inputs()),
        lambda: client.infer("simple", simple_inputs(), model_version="99"),
        lambda: client.get_model_metadata("wrong_model_name"),
        lambda: client.get_model_config("wrong_model_name"),
    ]
    for ask in asks:
        error = refused("404", "Request for unknown model", ask)
        assert error.message().startswith("Request for unknown model"), error
    with pytest.raises(InferenceServerException):
        client.infer("simple", simple_inputs(), model_version="wrong_specification")


def test_what_does_not_suit_the_model(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    asks = {
        "INPUT1": simple_inputs()[:1],
        "INPUT0": [given("INPUT0", left[:, :8]), given("INPUT1", right[:, :8])],
        "FP32": [given("INPUT0", left.astype(np.float32)), given("INPUT1", right)],
        "INPUT2": [*simple_inputs(), given("INPUT2", left)],
    }
    for named, inputs in asks.items():
        refused("400", named, lambda: client.infer("simple", inputs))
    outputs = [triton.InferRequestedOutput("OUTPUT9")]
    refused("400", "OUTPUT9", lambda: client.infer("simple", simple_inputs(), outputs=outputs))


def test_many_responses_do_not_fit_into_one(client: triton.InferenceServerClient) -> None:
    inputs = [
        given("IN", np.arange(3, dtype=np.int32)),
        given("DELAY", np.zeros(3, dtype=np.uint32)),
        given("WAIT", np.zeros(1, dtype=np.uint32)),
    ]
    with pytest.raises(InferenceServerException):
        client.infer("repeat_int32", inputs)


def test_shared_memory_is_refused_by_choice(client: triton.InferenceServerClient) -> None:
    asks: list[Callable[[], object]] = [
        lambda: client.get_system_shared_memory_status(),
        lambda: client.get_system_shared_memory_status("region"),
        lambda: client.register_system_shared_memory("region", "/key", 64),
        lambda: client.unregister_system_shared_memory("region"),
        lambda: client.unregister_system_shared_memory(),
        lambda: client.get_cuda_shared_memory_status(),
        lambda: client.register_cuda_shared_memory("region", "aGFuZGxl", 0, 64),
        lambda: client.unregister_cuda_shared_memory(),
    ]
    for ask in asks:
        refused("501", "memory", ask)
    tensor = triton.InferInput("INPUT0", [1, 16], "INT32")
    tensor.set_shared_memory("region", 64)
    refused("501", "memory", lambda: client.infer("simple", [tensor, simple_inputs()[1]]))
    output = triton.InferRequestedOutput("OUTPUT0")
    output.set_shared_memory("region", 64)
    refused("501", "memory", lambda: client.infer("simple", simple_inputs(), outputs=[output]))
