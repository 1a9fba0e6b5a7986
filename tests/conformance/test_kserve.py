"""kserve's InferenceRESTClient, for its protocols v1 and v2, and InferenceGRPCClient."""

import uuid
from collections.abc import AsyncIterator

import grpc
import httpx
import numpy as np
import pytest
import pytest_asyncio
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from models import (
    BINARY_ONLY,
    BLOBS,
    EVERY_DATATYPE,
    FLOWERS,
    NO_TEXT,
    SPECIES,
    as_bytes,
    as_text,
    equal,
    identity_graph,
    operands,
    push,
)

BINARY = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])

# The client has no name for brain floats.
DATATYPES = [name for name in EVERY_DATATYPE if name != "BF16"]


@pytest.fixture(scope="module")
def url(http_address: str) -> str:
    return f"http://{http_address}"


@pytest.fixture(scope="module")
def datatypes(http_address: str) -> str:
    push(http_address, "kserve-datatypes", identity_graph(DATATYPES))
    return "kserve-datatypes"


@pytest_asyncio.fixture
async def v1() -> AsyncIterator[InferenceRESTClient]:
    async with InferenceRESTClient(RESTConfig(protocol="v1")) as client:
        yield client


@pytest_asyncio.fixture
async def v2() -> AsyncIterator[InferenceRESTClient]:
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:
        yield client


@pytest_asyncio.fixture
async def rpc(grpc_address: str) -> AsyncIterator[InferenceGRPCClient]:
    # One attempt: what the server refuses is to be seen.
    async with InferenceGRPCClient(grpc_address, retries=0, timeout=30) as client:
        yield client


def given(name: str, datatype: str, values: np.ndarray, binary: bool = True) -> InferInput:
    tensor = InferInput(name, list(values.shape), datatype)
    tensor.set_data_from_numpy(values, binary_data=binary)
    return tensor


def simple(rows: int = 1, binary: bool = True, **more: object) -> InferRequest:
    left, right = operands(rows)
    inputs = [given("INPUT0", "INT32", left, binary), given("INPUT1", "INT32", right, binary)]
    return InferRequest("simple", inputs, **more)


def output(response: InferResponse, name: str) -> np.ndarray:
    return response.get_output_by_name(name).as_numpy()


# REST, protocol v2


async def test_v2_health(v2: InferenceRESTClient, url: str) -> None:
    assert await v2.is_server_live(url) is True
    assert await v2.is_server_ready(url) is True
    assert await v2.is_model_ready(url, "simple") is True
    assert await v2.is_model_ready(url, "wrong_model_name") is False


@BINARY
@pytest.mark.parametrize("rows", [1, 64])
async def test_v2_infer(v2: InferenceRESTClient, url: str, rows: int, binary: bool) -> None:
    left, right = operands(rows)
    headers: dict[str, str] = {}
    response = await v2.infer(url, simple(rows, binary, request_id="7"), model_name="simple", response_headers=headers)
    assert (response.id, response.model_name) == ("7", "simple")
    equal(output(response, "OUTPUT0"), left + right)
    equal(output(response, "OUTPUT1"), left - right)
    # What the client accepts is long enough to be worth it.
    assert ("content-encoding" in headers) == (rows == 64), headers


async def test_v2_answers_in_binary_where_that_is_asked_for(v2: InferenceRESTClient, url: str) -> None:
    left, right = operands()
    headers: dict[str, str] = {}
    request = simple(parameters={"binary_data_output": True})
    response = await v2.infer(url, request, model_name="simple", response_headers=headers)
    assert "inference-header-content-length" in headers
    equal(output(response, "OUTPUT0"), left + right)
    chosen = [RequestedOutput("OUTPUT1", {"binary_data": True})]
    response = await v2.infer(url, simple(request_outputs=chosen), model_name="simple")
    assert [each.name for each in response.outputs] == ["OUTPUT1"]
    equal(output(response, "OUTPUT1"), left - right)


async def test_v2_takes_plain_json(v2: InferenceRESTClient, url: str) -> None:
    rows = FLOWERS.tolist()
    request = {"inputs": [{"name": "measurements", "shape": [3, 4], "datatype": "FP32", "data": rows}]}
    response = await v2.infer(url, request, model_name="iris")
    assert output(response, "species").tolist() == [name.decode() for name in SPECIES]


@BINARY
async def test_v2_texts_and_bytes(v2: InferenceRESTClient, url: str, binary: bool) -> None:
    request = InferRequest("simple_identity", [given("INPUT0", "BYTES", BLOBS, binary)])
    response = await v2.infer(url, request, model_name="simple_identity")
    equal(as_bytes(output(response, "OUTPUT0")), BLOBS)
    left, right = operands()
    inputs = [given("INPUT0", "BYTES", as_text(left), binary), given("INPUT1", "BYTES", as_text(right), binary)]
    response = await v2.infer(url, InferRequest("simple_string", inputs), model_name="simple_string")
    equal(output(response, "OUTPUT0").astype(np.int32), left + right)


@BINARY
async def test_v2_every_datatype(v2: InferenceRESTClient, url: str, datatypes: str, binary: bool) -> None:
    inputs, outputs = [], []
    for name in DATATYPES:
        as_binary = binary or name in BINARY_ONLY
        inputs.append(given(f"IN_{name}", name, EVERY_DATATYPE[name], as_binary))
        outputs.append(RequestedOutput(f"OUT_{name}", {"binary_data": as_binary}))
    request = InferRequest(datatypes, inputs, request_outputs=outputs)
    response = await v2.infer(url, request, model_name=datatypes)
    for name in DATATYPES:
        got = output(response, f"OUT_{name}")
        equal(as_bytes(got) if name == "BYTES" else got, EVERY_DATATYPE[name])


async def test_v2_refusals(v2: InferenceRESTClient, url: str) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="Request for unknown model") as raised:
        await v2.infer(url, simple(), model_name="wrong_model_name")
    assert raised.value.response.status_code == 404
    request = InferRequest("simple", simple().inputs[:1])
    with pytest.raises(httpx.HTTPStatusError, match="INPUT1") as raised:
        await v2.infer(url, request, model_name="simple")
    assert raised.value.response.status_code == 400


# REST, protocol v1


async def test_v1_health(v1: InferenceRESTClient, url: str) -> None:
    assert await v1.is_server_live(url) is True
    assert await v1.is_model_ready(url, "iris") is True
    with pytest.raises(httpx.HTTPStatusError, match="Request for unknown model"):
        await v1.is_model_ready(url, "wrong_model_name")


async def test_v1_predict(v1: InferenceRESTClient, url: str) -> None:
    response = await v1.infer(url, {"instances": FLOWERS.tolist()}, model_name="iris")
    predictions = response["predictions"]
    assert [each["species"] for each in predictions] == [name.decode() for name in SPECIES], response
    assert [len(each["probabilities"]) for each in predictions] == [3, 3, 3], response


async def test_v1_predict_of_several_inputs(v1: InferenceRESTClient, url: str) -> None:
    left, right = operands(2)
    instances = [{"INPUT0": a.tolist(), "INPUT1": b.tolist()} for a, b in zip(left, right, strict=True)]
    predictions = (await v1.infer(url, {"instances": instances}, model_name="simple"))["predictions"]
    assert [each["OUTPUT0"] for each in predictions] == (left + right).tolist(), predictions
    assert [each["OUTPUT1"] for each in predictions] == (left - right).tolist(), predictions


async def test_v1_predict_of_one_output(v1: InferenceRESTClient, url: str) -> None:
    """A model with one input and one output needs no names, as TensorFlow Serving has it, of which v1 is."""
    response = await v1.infer(url, {"instances": FLOWERS.tolist()}, model_name="iris-native")
    assert np.allclose(np.sum(response["predictions"], axis=1), 1.0, atol=1e-5), response


async def test_v1_refusals(v1: InferenceRESTClient, url: str) -> None:
    for request in ({"instances": "flower"}, {"instances": [[1.0, 2.0]]}, {"flowers": []}, {"instances": [["a"] * 4]}):
        with pytest.raises(httpx.HTTPStatusError) as raised:
            await v1.infer(url, request, model_name="iris")
        assert raised.value.response.status_code == 400, request
        assert raised.value.response.json()["error"], request
    with pytest.raises(httpx.HTTPStatusError, match="Request for unknown model") as raised:
        await v1.infer(url, {"instances": []}, model_name="wrong_model_name")
    assert raised.value.response.status_code == 404


async def test_v1_has_no_explanations(v1: InferenceRESTClient, url: str) -> None:
    with pytest.raises(httpx.HTTPStatusError) as raised:
        await v1.explain(url, "iris", {"instances": FLOWERS.tolist()})
    assert raised.value.response.status_code in (404, 501)


# gRPC


async def test_rpc_health(rpc: InferenceGRPCClient) -> None:
    assert await rpc.is_server_live() is True
    assert await rpc.is_server_ready() is True
    assert await rpc.is_model_ready("simple") is True
    assert await rpc.is_model_ready("wrong_model_name") is False


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "contents"])
async def test_rpc_infer(rpc: InferenceGRPCClient, raw: bool) -> None:
    left, right = operands(2)
    response = await rpc.infer(simple(2, raw, request_id=str(uuid.uuid4())))
    assert response.model_name == "simple"
    equal(output(response, "OUTPUT0"), left + right)
    equal(output(response, "OUTPUT1"), left - right)


async def test_rpc_bytes(rpc: InferenceGRPCClient) -> None:
    for sent in (BLOBS, NO_TEXT):
        response = await rpc.infer(InferRequest("simple_identity", [given("INPUT0", "BYTES", sent)], request_id="7"))
        assert response.id == "7"
        equal(output(response, "OUTPUT0"), sent)


async def test_rpc_every_datatype(rpc: InferenceGRPCClient, datatypes: str) -> None:
    inputs = [given(f"IN_{name}", name, EVERY_DATATYPE[name]) for name in DATATYPES]
    response = await rpc.infer(InferRequest(datatypes, inputs, request_id="7"))
    for name in DATATYPES:
        equal(output(response, f"OUT_{name}"), EVERY_DATATYPE[name])


async def test_rpc_refusals(rpc: InferenceGRPCClient) -> None:
    asks = {
        grpc.StatusCode.NOT_FOUND: InferRequest("wrong_model_name", simple().inputs, request_id="7"),
        grpc.StatusCode.INVALID_ARGUMENT: InferRequest("simple", simple().inputs[:1], request_id="7"),
    }
    for code, request in asks.items():
        with pytest.raises(grpc.RpcError) as raised:
            await rpc.infer(request)
        assert raised.value.code() == code, raised.value
