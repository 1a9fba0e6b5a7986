"""tritonclient.http.aio: what test_triton_http.py asks in depth, and what only this client does.

It says of every body that it is `application/octet-stream`, accepts compressed answers always, and undoes that for inference alone.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.http.aio as triton
from conftest import Metrics, eventually
from models import BLOBS, FLOWERS, VALUES, as_bytes, as_text, classes, equal, operands, running_sums
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

BINARY = pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])


@pytest_asyncio.fixture
async def client(http_address: str) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(http_address) as client:
        yield client


def given(name: str, values: np.ndarray, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return tensor.set_data_from_numpy(values, binary_data=binary)


def simple_inputs(rows: int = 1, binary: bool = True, dtype: type = np.int32) -> list[triton.InferInput]:
    left, right = operands(rows, dtype)
    return [given("INPUT0", left, binary), given("INPUT1", right, binary)]


async def refused(status: str, message: str, ask: Awaitable[object]) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await ask
    error = raised.value
    assert (error.status(), message in error.message()) == (status, True), f"expected {status} '{message}': {error}"


async def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("simple", "1")
    assert not await client.is_model_ready("wrong_model_name")
    assert "binary_tensor_data" in (await client.get_server_metadata())["extensions"]
    assert (await client.get_model_metadata("simple"))["name"] == "simple"
    assert (await client.get_model_config("simple"))["name"] == "simple"
    await refused("404", "Request for unknown model", client.get_model_metadata("wrong_model_name"))


async def test_long_answers_are_read_as_they_come(client: triton.InferenceServerClient) -> None:
    """Compressed, as this client says it accepts, they would be: it decodes them as JSON all the same."""
    stats = (await client.get_inference_statistics())["model_stats"]
    index = await client.get_model_repository_index()
    assert {"simple", "iris"} <= {entry["name"] for entry in stats} & {entry["name"] for entry in index}
    missing = "a" * 4000
    with pytest.raises(InferenceServerException, match="Request for unknown model"):
        await client.get_model_metadata("wrong_model_name", query_params={"long": missing})
    with pytest.raises(InferenceServerException, match=missing):
        await client.infer("simple", [*simple_inputs(), given(missing, np.ones((1, 16), dtype=np.int32))])


@BINARY
@pytest.mark.parametrize("rows", [1, 64])
async def test_simple(client: triton.InferenceServerClient, rows: int, binary: bool) -> None:
    left, right = operands(rows)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("OUTPUT0", "OUTPUT1")]
    result = await client.infer("simple", simple_inputs(rows, binary), outputs=outputs, request_id="7")
    assert result.get_response()["id"] == "7"
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


@BINARY
async def test_strings_and_int8(client: triton.InferenceServerClient, binary: bool) -> None:
    left, right = operands()
    inputs = [given("INPUT0", as_text(left), binary), given("INPUT1", as_text(right), binary)]
    result = await client.infer("simple_string", inputs)
    equal(result.as_numpy("OUTPUT0").astype(np.int32), left + right)
    left, right = operands(1, np.int8)
    result = await client.infer("simple_int8", simple_inputs(1, binary, np.int8))
    equal(result.as_numpy("OUTPUT1"), left - right)
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    result = await client.infer("simple_identity", [given("INPUT0", BLOBS, binary)], outputs=outputs)
    equal(as_bytes(result.as_numpy("OUTPUT0")), BLOBS)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_compression(client: triton.InferenceServerClient, algorithm: str) -> None:
    left, right = operands(64)
    for binary in (True, False):
        result = await client.infer(
            "simple",
            simple_inputs(64, binary),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        equal(result.as_numpy("OUTPUT0"), left + right)


async def test_classification(client: triton.InferenceServerClient) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", class_count=1)]
    result = await client.infer("iris", [given("measurements", FLOWERS)], outputs=outputs)
    assert [row[0][1] for row in classes(result.as_numpy("probabilities"))] == [0, 1, 2]


async def test_many_at_once(client: triton.InferenceServerClient) -> None:
    left, right = operands()

    async def ask(count: int) -> None:
        inputs = [given("INPUT0", left + count), given("INPUT1", right)]
        result = await client.infer("simple", inputs, request_id=str(count))
        assert result.get_response()["id"] == str(count)
        equal(result.as_numpy("OUTPUT0"), left + count + right)

    await asyncio.gather(*(ask(count) for count in range(64)))


async def test_sequences(client: triton.InferenceServerClient) -> None:
    async def sequence(name: int | str, factor: int) -> None:
        sums = []
        for step, value in enumerate(VALUES):
            result = await client.infer(
                "simple_sequence",
                [given("INPUT", np.full((1, 1), factor * value, dtype=np.int32))],
                sequence_id=name,
                sequence_start=(step == 0),
                sequence_end=(step == len(VALUES) - 1),
            )
            sums.append(int(result.as_numpy("OUTPUT")[0][0]))
        assert sums == running_sums([factor * value for value in VALUES])

    await asyncio.gather(*(sequence(name, factor) for factor, name in enumerate((1, 2, 3, "1", "a"))))
    values = np.ones((1, 1), dtype=np.int32)
    await refused("400", "4001", client.infer("simple_sequence", [given("INPUT", values)], sequence_id=4001))


async def test_model_control(client: triton.InferenceServerClient) -> None:
    await client.unload_model("simple_string")
    assert not await client.is_model_ready("simple_string")
    await client.load_model("simple_string")
    assert await client.is_model_ready("simple_string")
    broken = '"parameters": {"config": {{"max_batch_size": "16"}}}'
    await refused("400", "failed to load", client.load_model("simple_string", config=broken))
    assert await client.is_model_ready("simple_string")


async def test_settings(client: triton.InferenceServerClient) -> None:
    log = await client.get_log_settings()
    level = log["log_verbose_level"]
    assert await client.update_log_settings({"log_verbose_level": level}) == log
    trace = await client.get_trace_settings()
    assert await client.update_trace_settings(settings={"trace_rate": trace["trace_rate"]}) == trace


async def test_a_task_that_is_cancelled_ends_its_call(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    """The model would go on for far longer than the test waits."""

    def cancelled() -> float:
        return metrics("nv_inference_request_failure", model="loop", reason="CANCELED")

    before = cancelled()
    kind = given("kind", np.zeros([1], dtype=np.int32))
    asked = asyncio.create_task(client.infer("loop", [kind]))
    await asyncio.sleep(0.5)
    assert not asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.to_thread(eventually, "it ends", lambda: cancelled() == before + 1)
    assert metrics("nv_inference_pending_request_count", model="loop") == 0
    assert metrics("nv_inference_request_success", model="loop") == 0


async def test_timeouts(client: triton.InferenceServerClient) -> None:
    kind = given("kind", np.zeros([1], dtype=np.int32))
    await refused("504", "", client.infer("loop", [kind], timeout=200_000))
    result = await client.infer("simple", simple_inputs(), priority=1, timeout=30_000_000)
    assert result.as_numpy("OUTPUT0") is not None


async def test_shared_memory_is_refused_by_choice(client: triton.InferenceServerClient) -> None:
    await refused("501", "memory", client.get_system_shared_memory_status())
    await refused("501", "memory", client.register_system_shared_memory("region", "/key", 64))
    await refused("501", "memory", client.unregister_cuda_shared_memory())
