"""tritonclient.grpc, as Triton's example clients use it: simple_grpc_*.py and grpc_explicit_*_content_client.py."""

import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from conftest import PATIENCE, Metrics, eventually
from models import (
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
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

FINAL = "triton_final_response"


@pytest.fixture
def client(grpc_address: str) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(grpc_address) as client:
        yield client


@pytest.fixture
def stub(grpc_address: str) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with grpc.insecure_channel(grpc_address) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


@pytest.fixture(scope="module")
def datatypes(http_address: str) -> str:
    push(http_address, "datatypes", identity_graph(list(EVERY_DATATYPE)))
    return "datatypes"


def given(name: str, values: np.ndarray) -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return tensor.set_data_from_numpy(values)


def simple_inputs(rows: int = 1, dtype: type = np.int32) -> list[triton.InferInput]:
    left, right = operands(rows, dtype)
    return [given("INPUT0", left), given("INPUT1", right)]


def endless() -> list[triton.InferInput]:
    """What the model `loop` is asked: it would go on for far longer than any test waits."""
    return [given("kind", np.zeros([1], dtype=np.int32))]


def repeat(values: list[int], delay: int = 0, wait: int = 0) -> list[triton.InferInput]:
    """What the model `repeat_int32` is asked. Times are in milliseconds."""
    return [
        given("IN", np.array(values, dtype=np.int32)),
        given("DELAY", np.full(len(values), delay, dtype=np.uint32)),
        given("WAIT", np.array([wait], dtype=np.uint32)),
    ]


def refused(code: str, message: str, ask: Callable[[], object]) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as raised:
        ask()
    error = raised.value
    assert (error.status(), message in error.message()) == (f"StatusCode.{code}", True), f"expected {code} '{message}': {error}"
    return error


class Answers:
    """The callback of a stream or of a call, and what it was given."""

    def __init__(self):
        self._queue: queue.Queue[triton.InferResult | InferenceServerException] = queue.Queue()

    def __call__(self, result: triton.InferResult | None, error: InferenceServerException | None) -> None:
        self._queue.put(result if error is None else error)

    def next(self) -> triton.InferResult | InferenceServerException:
        return self._queue.get(timeout=PATIENCE)

    def result(self) -> triton.InferResult:
        answer = self.next()
        assert isinstance(answer, triton.InferResult), answer
        return answer

    def error(self) -> InferenceServerException:
        answer = self.next()
        assert isinstance(answer, InferenceServerException), answer.get_response()
        return answer

    def nothing_more(self) -> None:
        assert self._queue.empty(), self._queue.get()


# Health, metadata, configuration


def test_health(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live(headers={"test": "1", "dummy": "2"})
    assert client.is_server_ready()
    assert client.is_model_ready("simple")
    assert client.is_model_ready("simple", "1")
    assert not client.is_model_ready("simple", "2")
    assert not client.is_model_ready("wrong_model_name")


def test_the_standard_health_service(grpc_address: str) -> None:
    """grpc.health.v1, in the bytes of its messages: what Kubernetes' probes ask."""
    with grpc.insecure_channel(grpc_address) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        service = b"inference.GRPCInferenceService"
        for request in (b"", b"\x0a" + bytes([len(service)]) + service):
            assert check(request, timeout=PATIENCE) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as raised:
            check(b"\x0a\x05wrong", timeout=PATIENCE)
        assert raised.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection(grpc_address: str) -> None:
    """grpc.reflection.v1, in the bytes of its messages: what grpcurl asks."""
    with grpc.insecure_channel(grpc_address) as channel:
        ask = channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo")
        service = b"inference.GRPCInferenceService"
        listed, described = ask(iter([b"\x3a\x01*", b"\x22" + bytes([len(service)]) + service]), timeout=PATIENCE)
        assert service in listed
        assert b"ModelInfer" in described


def test_server_metadata(client: triton.InferenceServerClient) -> None:
    server = client.get_server_metadata()
    assert server.name and server.version, server
    extensions = set(server.extensions)
    assert {"model_repository", "model_configuration", "statistics", "sequence", "classification", "trace"} <= extensions
    assert client.get_server_metadata(as_json=True)["name"] == server.name


@pytest.mark.parametrize("version", ["", "1"])
def test_model_metadata(client: triton.InferenceServerClient, version: str) -> None:
    model = client.get_model_metadata("simple", version)
    assert (model.name, list(model.versions)) == ("simple", ["1"]), model
    assert model.platform, model
    tensors = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in [*model.inputs, *model.outputs]}
    assert tensors == {name: ("INT32", [-1, 16]) for name in SIMPLE}, tensors


@pytest.mark.parametrize("name", ["simple", "simple_string", "iris-native"])
def test_model_configuration(client: triton.InferenceServerClient, name: str) -> None:
    config = client.get_model_config(name).config
    model = client.get_model_metadata(name)
    assert (config.name, config.platform) == (name, model.platform), config
    batches = config.max_batch_size > 0
    for configured, described in (config.input, model.inputs), (config.output, model.outputs):
        for tensor, expected in zip(configured, described, strict=True):
            datatype = {"BYTES": "STRING"}.get(expected.datatype, expected.datatype)
            assert tensor.name == expected.name
            assert triton.model_config_pb2.DataType.Name(tensor.data_type) == f"TYPE_{datatype}", config
            dims = list(expected.shape)[1:] if batches else list(expected.shape)
            assert list(tensor.dims) == dims, config


def test_configuration_says_what_is_special(client: triton.InferenceServerClient) -> None:
    assert client.get_model_config("repeat_int32").config.model_transaction_policy.decoupled
    assert client.get_model_config("simple_sequence").config.HasField("sequence_batching")
    assert not client.get_model_config("simple").config.HasField("sequence_batching")


# Inference


@pytest.mark.parametrize("rows", [1, 8])
def test_simple(client: triton.InferenceServerClient, rows: int) -> None:
    left, right = operands(rows)
    result = client.infer("simple", simple_inputs(rows), request_id="7", headers={"test": "1"})
    response = result.get_response()
    assert (response.model_name, response.model_version, response.id) == ("simple", "1", "7"), response
    assert len(response.raw_output_contents) == 2
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


def test_one_output(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    outputs = [triton.InferRequestedOutput("OUTPUT1")]
    result = client.infer("simple", simple_inputs(), model_version="1", outputs=outputs)
    equal(result.as_numpy("OUTPUT1"), left - right)
    assert result.as_numpy("OUTPUT0") is None


def test_strings_and_int8(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    result = client.infer("simple_string", [given("INPUT0", as_text(left)), given("INPUT1", as_text(right))])
    equal(result.as_numpy("OUTPUT0").astype(np.int32), left + right)
    equal(result.as_numpy("OUTPUT1").astype(np.int32), left - right)
    left, right = operands(1, np.int8)
    result = client.infer("simple_int8", simple_inputs(1, np.int8))
    equal(result.as_numpy("OUTPUT0"), left + right)


def test_bytes(client: triton.InferenceServerClient) -> None:
    for sent in (BLOBS, NO_TEXT):
        equal(client.infer("simple_identity", [given("INPUT0", sent)]).as_numpy("OUTPUT0"), sent)
    empty = np.empty((0, 1), dtype=np.object_)
    assert client.infer("simple_identity", [given("INPUT0", empty)]).as_numpy("OUTPUT0").shape == (0, 1)


def test_a_message_beyond_the_usual_limit(client: triton.InferenceServerClient) -> None:
    """Servers take 4 MiB where nothing else is said; this client takes and sends as much as it is given."""
    sent = np.array([[b"x" * (5 << 20)]], dtype=np.object_)
    equal(client.infer("simple_identity", [given("INPUT0", sent)]).as_numpy("OUTPUT0"), sent)


def test_every_datatype(client: triton.InferenceServerClient, datatypes: str) -> None:
    result = client.infer(datatypes, [given(f"IN_{name}", values) for name, values in EVERY_DATATYPE.items()])
    for name, values in EVERY_DATATYPE.items():
        equal(result.as_numpy(f"OUT_{name}"), values)


# Where messages have the elements that are not raw. Half floats have no such place.
CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def test_explicit_contents(stub: service_pb2_grpc.GRPCInferenceServiceStub, http_address: str) -> None:
    """As grpc_explicit_int_content_client.py and its like do."""
    push(http_address, "explicit", identity_graph(list(CONTENTS)))
    request = service_pb2.ModelInferRequest(model_name="explicit")
    for name, field in CONTENTS.items():
        values = EVERY_DATATYPE[name]
        tensor = request.inputs.add(name=f"IN_{name}", datatype=name, shape=values.shape)
        getattr(tensor.contents, field).extend(values.tolist())
    response = stub.ModelInfer(request, timeout=PATIENCE)
    result = triton.InferResult(response)
    for name in CONTENTS:
        equal(result.as_numpy(f"OUT_{name}"), EVERY_DATATYPE[name])


def test_explicit_int8(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    left, right = operands(1, np.int8)
    request = service_pb2.ModelInferRequest(model_name="simple_int8")
    for name, values in (("INPUT0", left), ("INPUT1", right)):
        tensor = request.inputs.add(name=name, datatype="INT8", shape=[1, 16])
        tensor.contents.int_contents[:] = values[0].tolist()
    for name in ("OUTPUT0", "OUTPUT1"):
        request.outputs.add(name=name)
    response = stub.ModelInfer(request, timeout=PATIENCE)
    sums = np.frombuffer(response.raw_output_contents[0], dtype=np.int8).reshape(1, 16)
    equal(sums, left + right)
    # What is no INT8.
    request.inputs[0].contents.int_contents[0] = 200
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(request, timeout=PATIENCE)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    request.inputs[0].contents.int_contents[0] = 0
    request.model_version = "wrong_specification"
    with pytest.raises(grpc.RpcError, match="failed to get model version from specified version string 'wrong_specification'"):
        stub.ModelInfer(request, timeout=PATIENCE)


def test_contents_and_raw_contents_do_not_mix(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    request = service_pb2.ModelInferRequest(model_name="simple")
    for name in ("INPUT0", "INPUT1"):
        request.inputs.add(name=name, datatype="INT32", shape=[1, 16]).contents.int_contents.extend(range(16))
    request.raw_input_contents.append(bytes(64))
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(request, timeout=PATIENCE)
    assert raised.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_classification(client: triton.InferenceServerClient) -> None:
    plain = client.infer("iris", [given("measurements", FLOWERS)])
    assert plain.as_numpy("species").tolist() == SPECIES
    probabilities = plain.as_numpy("probabilities")
    outputs = [triton.InferRequestedOutput("probabilities", class_count=2)]
    elements = client.infer("iris", [given("measurements", FLOWERS)], outputs=outputs).as_numpy("probabilities")
    assert elements.shape == (3, 2)
    for row, found in zip(probabilities, classes(elements), strict=True):
        order = np.argsort(-row)[:2]
        assert [index for _, index in found] == order.tolist(), (row, found)
        assert np.allclose([value for value, _ in found], row[order], atol=1e-5), (row, found)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: triton.InferenceServerClient, algorithm: str) -> None:
    left, right = operands(64)
    result = client.infer("simple", simple_inputs(64), compression_algorithm=algorithm)
    equal(result.as_numpy("OUTPUT0"), left + right)


def test_calls_without_waiting(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    answers = Answers()
    for count in range(16):
        inputs = [given("INPUT0", left + count), given("INPUT1", right)]
        client.async_infer("simple", inputs, answers, request_id=str(count))
    for _ in range(16):
        result = answers.result()
        equal(result.as_numpy("OUTPUT0"), left + int(result.get_response().id) + right)


def test_keep_alive(grpc_address: str) -> None:
    """A client that asks each second whether the server is there, while it waits, is not sent away."""
    options = triton.KeepAliveOptions(
        keepalive_time_ms=1000, keepalive_timeout_ms=20000, keepalive_permit_without_calls=True, http2_max_pings_without_data=0
    )
    with triton.InferenceServerClient(grpc_address, keepalive_options=options) as client:
        left, right = operands()
        equal(client.infer("simple", simple_inputs()).as_numpy("OUTPUT0"), left + right)
        threading.Event().wait(3.5)
        equal(client.infer("simple", simple_inputs()).as_numpy("OUTPUT0"), left + right)


# Deadlines and cancellation


def pending(metrics: Metrics) -> float:
    return metrics("nv_inference_pending_request_count", model="loop")


def cancelled(metrics: Metrics, model: str) -> float:
    return metrics("nv_inference_request_failure", model=model, reason="CANCELED")


def test_priority_and_timeout(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    for priority in (0, 1, 2):
        result = client.infer("simple", simple_inputs(), priority=priority, timeout=30_000_000, client_timeout=PATIENCE)
        equal(result.as_numpy("OUTPUT0"), left + right)


def test_a_timeout_ends_the_call(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    asked = time.monotonic()
    refused("DEADLINE_EXCEEDED", "", lambda: client.infer("loop", endless(), timeout=200_000, client_timeout=PATIENCE))
    # By the server and not by the client.
    assert time.monotonic() - asked < PATIENCE / 2
    assert pending(metrics) == 0


def test_the_client_s_deadline_is_the_call_s(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    before = metrics("nv_inference_request_failure", model="loop")
    refused("DEADLINE_EXCEEDED", "", lambda: client.infer("loop", endless(), client_timeout=0.3))
    eventually("it fails", lambda: metrics("nv_inference_request_failure", model="loop") == before + 1)
    assert pending(metrics) == 0


def test_a_call_that_is_cancelled_ends(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    before = cancelled(metrics, "loop")
    answers = Answers()
    call = client.async_infer("loop", endless(), answers)
    threading.Event().wait(0.5)
    answers.nothing_more()
    call.cancel()
    assert answers.error().status() == "StatusCode.CANCELLED"
    eventually("it ends", lambda: cancelled(metrics, "loop") == before + 1)
    assert pending(metrics) == 0
    assert metrics("nv_inference_request_success", model="loop") == 0


# Sequences


def send(client: triton.InferenceServerClient, sequence: int | str, value: int, **flags: bool) -> int:
    inputs = [given("INPUT", np.full((1, 1), value, dtype=np.int32))]
    result = client.infer("simple_sequence", inputs, sequence_id=sequence, **flags)
    return int(result.as_numpy("OUTPUT")[0][0])


@pytest.mark.parametrize("sequence", [1000, 2**63 - 1, str(uuid.uuid4()), "ä"])
def test_sequence(client: triton.InferenceServerClient, sequence: int | str) -> None:
    last = len(VALUES) - 1
    sums = [
        send(client, sequence, value, sequence_start=(step == 0), sequence_end=(step == last))
        for step, value in enumerate(VALUES)
    ]
    assert sums == running_sums(VALUES)
    refused("INVALID_ARGUMENT", str(sequence), lambda: send(client, sequence, 1))


def test_sequences_that_interleave_in_a_stream(client: triton.InferenceServerClient) -> None:
    """As simple_grpc_sequence_stream_infer_client.py does, but in turns."""
    answers = Answers()
    client.start_stream(answers)
    names: list[int | str] = [1001, 1002, str(uuid.uuid4())]
    for step, value in enumerate(VALUES):
        for factor, sequence in enumerate(names, start=1):
            client.async_stream_infer(
                "simple_sequence",
                [given("INPUT", np.full((1, 1), factor * value, dtype=np.int32))],
                outputs=[triton.InferRequestedOutput("OUTPUT")],
                request_id=f"{sequence}_{step}",
                sequence_id=sequence,
                sequence_start=(step == 0),
                sequence_end=(step == len(VALUES) - 1),
            )
    sums: dict[str, list[int]] = {str(sequence): [] for sequence in names}
    for _ in range(len(names) * len(VALUES)):
        result = answers.result()
        sums[result.get_response().id.split("_")[0]].append(int(result.as_numpy("OUTPUT")[0][0]))
    client.stop_stream()
    for factor, sequence in enumerate(names, start=1):
        assert sums[str(sequence)] == running_sums([factor * value for value in VALUES])


# Streams


def test_many_responses(client: triton.InferenceServerClient) -> None:
    """As simple_grpc_custom_repeat.py does."""
    answers = Answers()
    client.start_stream(answers)
    values = list(range(100, 110))
    client.async_stream_infer("repeat_int32", repeat(values, delay=10, wait=10), outputs=[triton.InferRequestedOutput("OUT")])
    for value in values:
        equal(answers.result().as_numpy("OUT"), np.array([value], dtype=np.int32))
    client.stop_stream()
    answers.nothing_more()


def test_the_last_response_says_so(client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    for values in ([1, 2, 3], []):
        client.async_stream_infer("repeat_int32", repeat(values), request_id="r", enable_empty_final_response=True)
        for value in values:
            response = answers.result().get_response()
            assert (response.id, response.parameters[FINAL].bool_param) == ("r", False), response
            equal(triton.InferResult(response).as_numpy("OUT"), np.array([value], dtype=np.int32))
        last = answers.result().get_response()
        assert (last.model_name, last.id, len(last.outputs)) == ("repeat_int32", "r", 0), last
        assert last.parameters[FINAL].bool_param, last
    # A model that answers once does so in its last response.
    left, right = operands()
    client.async_stream_infer("simple", simple_inputs(), enable_empty_final_response=True)
    result = answers.result()
    equal(result.as_numpy("OUTPUT0"), left + right)
    assert result.get_response().parameters[FINAL].bool_param
    client.stop_stream()
    answers.nothing_more()


def test_requests_of_a_stream_run_side_by_side(client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("repeat_int32", repeat([1, 2, 3], delay=300), request_id="slow")
    client.async_stream_infer("repeat_int32", repeat([1, 2, 3]), request_id="quick")
    ids = [answers.result().get_response().id for _ in range(6)]
    client.stop_stream()
    assert ids == ["quick"] * 3 + ["slow"] * 3


def test_an_error_in_a_stream_does_not_end_it(client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("wrong_model_name", simple_inputs())
    assert "Request for unknown model" in answers.error().message()
    client.async_stream_infer("simple", simple_inputs()[:1])
    assert "INPUT1" in answers.error().message()
    client.async_stream_infer("simple", simple_inputs())
    answers.result()
    client.stop_stream()
    answers.nothing_more()


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_a_compressed_stream(client: triton.InferenceServerClient, algorithm: str) -> None:
    answers = Answers()
    client.start_stream(answers, compression_algorithm=algorithm)
    left, right = operands(64)
    client.async_stream_infer("simple", simple_inputs(64))
    equal(answers.result().as_numpy("OUTPUT0"), left + right)
    client.stop_stream()


def test_a_stream_that_is_cancelled_ends_its_calls(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    before = cancelled(metrics, "repeat_int32")
    answers = Answers()
    client.start_stream(answers)
    client.async_stream_infer("repeat_int32", repeat(list(range(1000)), delay=50))
    answers.result()
    client.stop_stream(cancel_requests=True)
    eventually("it ends", lambda: cancelled(metrics, "repeat_int32") == before + 1)


def test_a_stream_has_a_deadline(client: triton.InferenceServerClient) -> None:
    answers = Answers()
    client.start_stream(answers, stream_timeout=0.5)
    client.async_stream_infer("repeat_int32", repeat([1, 2], delay=10_000))
    # It is the requests' as well, and the server may say so first, in the stream.
    error = answers.error()
    assert error.status() == "StatusCode.DEADLINE_EXCEEDED" or "deadline" in error.message(), error
    client.stop_stream()


def test_many_responses_want_a_stream(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException):
        client.infer("repeat_int32", repeat([1]))


# Model control, statistics, settings


def test_model_control(client: triton.InferenceServerClient) -> None:
    """As simple_grpc_model_control.py does."""
    index = {(model.name, model.version): model.state for model in client.get_model_repository_index().models}
    assert index["simple", "1"] == "READY", index
    client.load_model("simple_string")
    assert client.is_model_ready("simple_string")
    client.unload_model("simple_string")
    assert not client.is_model_ready("simple_string")
    with pytest.raises(InferenceServerException, match="failed to load"):
        client.load_model("wrong_model_name")
    client.load_model("simple_string")
    before = client.get_model_config("iris-native").config.max_batch_size
    broken = '"parameters": {"config": {{"max_batch_size": "16"}}}'
    refused("INVALID_ARGUMENT", "failed to load", lambda: client.load_model("iris-native", config=broken))
    client.load_model("iris-native", config='{"max_batch_size":"16"}')
    assert client.get_model_config("iris-native").config.max_batch_size == 16
    client.load_model("iris-native")
    assert client.get_model_config("iris-native").config.max_batch_size == before


def test_load_with_files(client: triton.InferenceServerClient) -> None:
    files = {"file:1/model.onnx": identity_graph(["FP32"])}
    client.load_model("uploaded", config='{"backend": "onnxruntime"}', files=files)
    sent = np.array([1.5, -2.5], dtype=np.float32)
    equal(client.infer("uploaded", [given("IN_FP32", sent)]).as_numpy("OUT_FP32"), sent)
    client.unload_model("uploaded")
    assert not client.is_model_ready("uploaded")
    # A name that is longer than file systems have it.
    too_long = {"file:" + "A" * 256: b"a"}
    refused("INVALID_ARGUMENT", "", lambda: client.load_model("simple", config="{}", files=too_long))
    assert client.is_server_live()
    assert client.is_model_ready("simple")


def test_statistics(client: triton.InferenceServerClient) -> None:
    def read() -> service_pb2.ModelStatistics:
        (stats,) = client.get_inference_statistics("simple", "1").model_stats
        assert (stats.name, stats.version) == ("simple", "1")
        return stats

    client.infer("simple", simple_inputs())
    before = read()
    for _ in range(5):
        client.infer("simple", simple_inputs())
    after = read()
    assert after.inference_count - before.inference_count == 5
    assert after.execution_count - before.execution_count == 5
    for name in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        grown = getattr(after.inference_stats, name).count - getattr(before.inference_stats, name).count
        assert grown == 5, (name, after)
    assert after.inference_stats.fail.count == before.inference_stats.fail.count
    assert after.last_inference > 1_600_000_000_000
    names = {stats["name"] for stats in client.get_inference_statistics(as_json=True)["model_stats"]}
    assert {"simple", "iris"} <= names


def test_trace_settings(client: triton.InferenceServerClient) -> None:
    original = client.get_trace_settings(as_json=True)["settings"]
    assert {"trace_level", "trace_rate", "trace_count", "log_frequency"} <= original.keys(), original
    try:
        changed = client.update_trace_settings(settings={"trace_rate": "500"})
        assert list(changed.settings["trace_rate"].value) == ["500"], changed
        own = client.update_trace_settings("simple", {"trace_rate": "7"})
        assert list(own.settings["trace_rate"].value) == ["7"], own
        assert list(client.get_trace_settings().settings["trace_rate"].value) == ["500"]
        cleared = client.update_trace_settings("simple", {"trace_rate": None})
        assert list(cleared.settings["trace_rate"].value) == ["500"], cleared
    finally:
        client.update_trace_settings(settings={"trace_rate": original["trace_rate"]["value"]})


def test_log_settings(client: triton.InferenceServerClient) -> None:
    original = client.get_log_settings()
    names = {"log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format"}
    assert names <= set(original.settings), original
    level = original.settings["log_verbose_level"].uint32_param
    try:
        changed = client.update_log_settings({"log_verbose_level": 1})
        assert changed.settings["log_verbose_level"].uint32_param == 1, changed
    finally:
        client.update_log_settings({"log_verbose_level": level})
    assert client.get_log_settings() == original
    with pytest.raises(InferenceServerException):
        client.update_log_settings({"wrong_setting": True})


# Refusals


def test_unknown_models_and_versions(client: triton.InferenceServerClient) -> None:
    asks: list[Callable[[], object]] = [
        lambda: client.infer("wrong_model_name", simple_inputs()),
        lambda: client.infer("simple", simple_inputs(), model_version="99"),
        lambda: client.get_model_metadata("wrong_model_name"),
        lambda: client.get_model_config("wrong_model_name"),
        lambda: client.get_inference_statistics("wrong_model_name"),
    ]
    for ask in asks:
        error = refused("NOT_FOUND", "Request for unknown model", ask)
        assert error.message().startswith("Request for unknown model"), error


def test_what_does_not_suit_the_model(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    asks = {
        "INPUT1": simple_inputs()[:1],
        "INPUT0": [given("INPUT0", left[:, :8]), given("INPUT1", right[:, :8])],
        "FP32": [given("INPUT0", left.astype(np.float32)), given("INPUT1", right)],
        "INPUT2": [*simple_inputs(), given("INPUT2", left)],
    }
    for named, inputs in asks.items():
        refused("INVALID_ARGUMENT", named, lambda: client.infer("simple", inputs))
    outputs = [triton.InferRequestedOutput("OUTPUT9")]
    refused("INVALID_ARGUMENT", "OUTPUT9", lambda: client.infer("simple", simple_inputs(), outputs=outputs))


def test_shared_memory_is_refused_by_choice(client: triton.InferenceServerClient) -> None:
    asks: list[Callable[[], object]] = [
        lambda: client.get_system_shared_memory_status(),
        lambda: client.register_system_shared_memory("region", "/key", 64),
        lambda: client.unregister_system_shared_memory(),
        lambda: client.get_cuda_shared_memory_status(),
        lambda: client.register_cuda_shared_memory("region", "aGFuZGxl", 0, 64),
        lambda: client.unregister_cuda_shared_memory(),
    ]
    for ask in asks:
        refused("UNIMPLEMENTED", "memory", ask)
    tensor = triton.InferInput("INPUT0", [1, 16], "INT32")
    tensor.set_shared_memory("region", 64)
    refused("UNIMPLEMENTED", "memory", lambda: client.infer("simple", [tensor, simple_inputs()[1]]))
    output = triton.InferRequestedOutput("OUTPUT0")
    output.set_shared_memory("region", 64)
    refused("UNIMPLEMENTED", "memory", lambda: client.infer("simple", simple_inputs(), outputs=[output]))
