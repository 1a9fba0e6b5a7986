"""tritonclient.grpc.aio: what test_triton_grpc.py asks in depth, and what only this client does. After simple_grpc_aio_*.py."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable

import numpy as np
import pytest
import pytest_asyncio
import tritonclient.grpc.aio as triton
from conftest import PATIENCE, Metrics, eventually
from models import BLOBS, FLOWERS, VALUES, as_text, classes, equal, operands, running_sums
from tritonclient.grpc import InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException, np_to_triton_dtype


@pytest_asyncio.fixture
async def client(grpc_address: str) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(grpc_address) as client:
        yield client


def given(name: str, values: np.ndarray) -> InferInput:
    tensor = InferInput(name, list(values.shape), np_to_triton_dtype(values.dtype))
    return tensor.set_data_from_numpy(values)


def simple_inputs(rows: int = 1, dtype: type = np.int32) -> list[InferInput]:
    left, right = operands(rows, dtype)
    return [given("INPUT0", left), given("INPUT1", right)]


def endless() -> list[InferInput]:
    return [given("kind", np.zeros([1], dtype=np.int32))]


def repeat(values: list[int], delay: int = 0) -> list[InferInput]:
    return [
        given("IN", np.array(values, dtype=np.int32)),
        given("DELAY", np.full(len(values), delay, dtype=np.uint32)),
        given("WAIT", np.zeros(1, dtype=np.uint32)),
    ]


async def refused(code: str, message: str, ask: Awaitable[object]) -> None:
    with pytest.raises(InferenceServerException) as raised:
        await ask
    error = raised.value
    assert (error.status(), message in error.message()) == (f"StatusCode.{code}", True), f"expected {code} '{message}': {error}"


def cancelled(metrics: Metrics, model: str) -> float:
    return metrics("nv_inference_request_failure", model=model, reason="CANCELED")


async def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("simple", "1")
    assert not await client.is_model_ready("wrong_model_name")
    assert "statistics" in (await client.get_server_metadata()).extensions
    assert (await client.get_model_metadata("simple")).name == "simple"
    assert (await client.get_model_config("simple", as_json=True))["config"]["name"] == "simple"
    await refused("NOT_FOUND", "Request for unknown model", client.get_model_metadata("wrong_model_name"))


@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
async def test_simple(client: triton.InferenceServerClient, algorithm: str | None) -> None:
    left, right = operands(8)
    result = await client.infer("simple", simple_inputs(8), request_id="7", compression_algorithm=algorithm)
    assert result.get_response().id == "7"
    equal(result.as_numpy("OUTPUT0"), left + right)
    equal(result.as_numpy("OUTPUT1"), left - right)


async def test_strings_int8_and_classes(client: triton.InferenceServerClient) -> None:
    left, right = operands()
    result = await client.infer("simple_string", [given("INPUT0", as_text(left)), given("INPUT1", as_text(right))])
    equal(result.as_numpy("OUTPUT0").astype(np.int32), left + right)
    left, right = operands(1, np.int8)
    result = await client.infer("simple_int8", simple_inputs(1, np.int8))
    equal(result.as_numpy("OUTPUT1"), left - right)
    equal((await client.infer("simple_identity", [given("INPUT0", BLOBS)])).as_numpy("OUTPUT0"), BLOBS)
    outputs = [InferRequestedOutput("probabilities", class_count=1)]
    result = await client.infer("iris", [given("measurements", FLOWERS)], outputs=outputs)
    assert [row[0][1] for row in classes(result.as_numpy("probabilities"))] == [0, 1, 2]


async def test_many_at_once(client: triton.InferenceServerClient) -> None:
    left, right = operands()

    async def ask(count: int) -> None:
        inputs = [given("INPUT0", left + count), given("INPUT1", right)]
        result = await client.infer("simple", inputs, request_id=str(count))
        assert result.get_response().id == str(count)
        equal(result.as_numpy("OUTPUT0"), left + count + right)

    await asyncio.gather(*(ask(count) for count in range(64)))


async def test_sequences_in_a_stream(client: triton.InferenceServerClient) -> None:
    """As simple_grpc_aio_sequence_stream_infer_client.py does, but in turns."""
    names: list[int | str] = [1000, 1001, str(uuid.uuid4())]

    async def requests() -> AsyncIterator[dict[str, object]]:
        for step, value in enumerate(VALUES):
            for factor, sequence in enumerate(names, start=1):
                yield {
                    "model_name": "simple_sequence",
                    "inputs": [given("INPUT", np.full((1, 1), factor * value, dtype=np.int32))],
                    "outputs": [InferRequestedOutput("OUTPUT")],
                    "request_id": f"{sequence}_{step}",
                    "sequence_id": sequence,
                    "sequence_start": step == 0,
                    "sequence_end": step == len(VALUES) - 1,
                }

    sums: dict[str, list[int]] = {str(sequence): [] for sequence in names}
    async for result, error in client.stream_infer(requests(), stream_timeout=PATIENCE):
        assert error is None, error
        sums[result.get_response().id.split("_")[0]].append(int(result.as_numpy("OUTPUT")[0][0]))
    for factor, sequence in enumerate(names, start=1):
        assert sums[str(sequence)] == running_sums([factor * value for value in VALUES])


async def once(request: dict[str, object]) -> AsyncIterator[dict[str, object]]:
    yield request


async def test_many_responses(client: triton.InferenceServerClient) -> None:
    values = list(range(100, 110))
    request = {"model_name": "repeat_int32", "inputs": repeat(values, delay=5), "request_id": "r"}
    got = []
    async for result, error in client.stream_infer(once(request), stream_timeout=PATIENCE):
        assert error is None, error
        assert result.get_response().id == "r"
        got.extend(result.as_numpy("OUT").tolist())
    assert got == values


async def test_an_error_in_a_stream_does_not_end_it(client: triton.InferenceServerClient) -> None:
    async def requests() -> AsyncIterator[dict[str, object]]:
        yield {"model_name": "wrong_model_name", "inputs": simple_inputs()}
        yield {"model_name": "simple", "inputs": simple_inputs()}

    answers = [answer async for answer in client.stream_infer(requests(), stream_timeout=PATIENCE)]
    errors = [error.message() for _, error in answers if error]
    results = [result for result, _ in answers if result]
    assert len(errors) == len(results) == 1
    assert "Request for unknown model" in errors[0]
    assert isinstance(results[0], InferResult)


async def test_a_stream_that_is_cancelled_ends_its_calls(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    before = cancelled(metrics, "repeat_int32")
    responses = client.stream_infer(once({"model_name": "repeat_int32", "inputs": repeat(list(range(1000)), delay=50)}))
    result, error = await anext(aiter(responses))
    assert error is None, error
    assert result.as_numpy("OUT").tolist() == [0]
    assert responses.cancel()
    await asyncio.to_thread(eventually, "it ends", lambda: cancelled(metrics, "repeat_int32") == before + 1)


async def test_a_task_that_is_cancelled_ends_its_call(client: triton.InferenceServerClient, metrics: Metrics) -> None:
    before = cancelled(metrics, "loop")
    asked = asyncio.create_task(client.infer("loop", endless()))
    await asyncio.sleep(0.5)
    assert not asked.done()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await asyncio.to_thread(eventually, "it ends", lambda: cancelled(metrics, "loop") == before + 1)
    assert metrics("nv_inference_pending_request_count", model="loop") == 0


async def test_deadlines(client: triton.InferenceServerClient) -> None:
    await refused("DEADLINE_EXCEEDED", "", client.infer("loop", endless(), client_timeout=0.3))
    asked = time.monotonic()
    await refused("DEADLINE_EXCEEDED", "", client.infer("loop", endless(), timeout=200_000, client_timeout=PATIENCE))
    assert time.monotonic() - asked < PATIENCE / 2
    result = await client.infer("simple", simple_inputs(), priority=1, timeout=30_000_000, client_timeout=PATIENCE)
    assert result.as_numpy("OUTPUT0") is not None


async def test_model_control(client: triton.InferenceServerClient) -> None:
    await client.unload_model("simple_string")
    assert not await client.is_model_ready("simple_string")
    await client.load_model("simple_string")
    assert await client.is_model_ready("simple_string")
    await refused("INVALID_ARGUMENT", "failed to load", client.load_model("simple_string", config="{{"))
    index = {model.name: model.state for model in (await client.get_model_repository_index()).models}
    assert index["simple_string"] == "READY"


async def test_statistics_and_settings(client: triton.InferenceServerClient) -> None:
    before = (await client.get_inference_statistics("simple")).model_stats[0].inference_stats.success.count
    await client.infer("simple", simple_inputs())
    after = (await client.get_inference_statistics("simple")).model_stats[0].inference_stats.success.count
    assert after - before == 1
    log = await client.get_log_settings()
    level = log.settings["log_verbose_level"].uint32_param
    assert await client.update_log_settings({"log_verbose_level": level}) == log
    trace = await client.get_trace_settings()
    rate = list(trace.settings["trace_rate"].value)
    assert await client.update_trace_settings(settings={"trace_rate": rate}) == trace


async def test_shared_memory_is_refused_by_choice(client: triton.InferenceServerClient) -> None:
    await refused("UNIMPLEMENTED", "memory", client.get_system_shared_memory_status())
    await refused("UNIMPLEMENTED", "memory", client.register_system_shared_memory("region", "/key", 64))
    await refused("UNIMPLEMENTED", "memory", client.unregister_cuda_shared_memory())
