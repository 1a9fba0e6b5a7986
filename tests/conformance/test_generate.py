"""Triton's generate extension, for which there is no client: plain HTTP, by httpx."""

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from conftest import Metrics, eventually


@pytest.fixture
def client(http_address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{http_address}/v2/models", timeout=30) as client:
        yield client


def events(response: httpx.Response) -> Iterator[dict[str, object]]:
    assert response.status_code == 200, response.read()
    assert response.headers["content-type"].startswith("text/event-stream"), response.headers
    for line in response.iter_lines():
        if line:
            assert line.startswith("data:"), line
            yield json.loads(line.removeprefix("data:"))


def repeat(values: list[int], delay: int = 0) -> dict[str, object]:
    return {"IN": values, "DELAY": [delay] * len(values), "WAIT": 0}


@pytest.mark.parametrize("path", ["simple_identity", "simple_identity/versions/1"])
@pytest.mark.parametrize("text", ["hello", "", "ä世界"])
def test_generate(client: httpx.Client, path: str, text: str) -> None:
    response = client.post(f"/{path}/generate", json={"INPUT0": text})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    answer = {"model_name": "simple_identity", "model_version": "1", "OUTPUT0": text}
    assert answer.items() <= response.json().items(), response.json()


def test_an_id_is_given_back(client: httpx.Client) -> None:
    response = client.post("/simple_identity/generate", json={"id": "7", "INPUT0": "a"})
    assert response.json()["id"] == "7"


def test_what_is_no_input_is_a_parameter(client: httpx.Client) -> None:
    body = {"INPUT0": "a", "temperature": 0.5, "stream": False, "parameters": {"top": 1}}
    assert client.post("/simple_identity/generate", json=body).json()["OUTPUT0"] == "a"


def test_generate_stream(client: httpx.Client) -> None:
    with client.stream("POST", "/repeat_int32/generate_stream", json=repeat([5, 6, 7], delay=5)) as response:
        answers = list(events(response))
    assert [answer["OUT"] for answer in answers] == [5, 6, 7], answers
    assert {(answer["model_name"], answer["model_version"]) for answer in answers} == {("repeat_int32", "1")}


def test_each_response_comes_when_it_is_made(client: httpx.Client) -> None:
    delay = 1.5
    with client.stream("POST", "/repeat_int32/generate_stream", json=repeat([1, 2], delay=int(delay * 1000))) as response:
        came = [time.monotonic() for _ in events(response)]
    assert len(came) == 2
    # Together they would come where something waited to fill a buffer.
    assert came[1] - came[0] > delay / 2


def test_a_model_that_answers_once_streams_once(client: httpx.Client) -> None:
    with client.stream("POST", "/simple_identity/generate_stream", json={"INPUT0": "a"}) as response:
        assert [answer["OUTPUT0"] for answer in events(response)] == ["a"]


def test_one_answer_is_what_generate_gives(client: httpx.Client) -> None:
    assert client.post("/repeat_int32/generate", json=repeat([5])).json()["OUT"] == 5
    response = client.post("/repeat_int32/generate", json=repeat([5, 6]))
    assert response.status_code in (400, 501), response.text
    assert response.json()["error"]


def test_refusals_before_the_stream_are_errors(client: httpx.Client) -> None:
    for path in ("generate", "generate_stream"):
        response = client.post(f"/wrong_model_name/{path}", json={"INPUT0": "a"})
        assert response.status_code == 404, response.text
        assert response.json()["error"].startswith("Request for unknown model")
        response = client.post(f"/simple_identity/{path}", json={"temperature": 1})
        assert (response.status_code, "INPUT0" in response.json()["error"]) == (400, True), response.text
        response = client.post(f"/simple_identity/{path}", content=b"{")
        assert response.status_code == 400, response.text


def test_a_client_that_leaves_ends_its_call(client: httpx.Client, metrics: Metrics) -> None:
    def cancelled() -> float:
        return metrics("nv_inference_request_failure", model="repeat_int32", reason="CANCELED")

    before = cancelled()
    with client.stream("POST", "/repeat_int32/generate_stream", json=repeat(list(range(1000)), delay=50)) as response:
        next(events(response))
    eventually("it ends", lambda: cancelled() == before + 1)
