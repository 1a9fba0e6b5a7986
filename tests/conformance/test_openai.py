"""openai's client, sync and async: embeddings and models."""

import base64
import math
from collections.abc import Iterator

import numpy as np
import openai
import pytest

TEXTS = ["A plugin is a WebAssembly component.", "Irises are flowers.", "ä世界", "Irises are flowers."]


@pytest.fixture(scope="module", params=["/v1", "/openai/v1"])
def base_url(http_address: str, request: pytest.FixtureRequest) -> str:
    return f"http://{http_address}{request.param}"


@pytest.fixture
def client(base_url: str) -> Iterator[openai.OpenAI]:
    # Without retries: what the server refuses is to be seen.
    with openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_embeddings(client: openai.OpenAI) -> None:
    """The client asks for base64 where nothing else is said, and decodes it."""
    answer = client.embeddings.create(model="embed", input=TEXTS)
    assert (answer.object, answer.model) == ("list", "embed")
    assert [each.index for each in answer.data] == list(range(len(TEXTS)))
    assert {each.object for each in answer.data} == {"embedding"}
    vectors = [each.embedding for each in answer.data]
    assert [len(vector) for vector in vectors] == [384] * len(TEXTS)
    for vector in vectors:
        assert math.isclose(sum(value * value for value in vector), 1.0, rel_tol=1e-4)
    assert vectors[1] == vectors[3] != vectors[0]
    assert answer.usage.prompt_tokens >= 0
    assert answer.usage.total_tokens >= answer.usage.prompt_tokens


def test_float_and_base64_are_equal(client: openai.OpenAI) -> None:
    floats = client.embeddings.create(model="embed", input=TEXTS, encoding_format="float")
    encoded = client.embeddings.create(model="embed", input=TEXTS, encoding_format="base64")
    for as_float, as_base64 in zip(floats.data, encoded.data, strict=True):
        decoded = np.frombuffer(base64.b64decode(as_base64.embedding), dtype="<f4")
        # Printed in full: each number is the one that it was.
        assert np.array(as_float.embedding, dtype=np.float32).tolist() == decoded.tolist()


def test_one_text(client: openai.OpenAI) -> None:
    (alone,) = client.embeddings.create(model="embed", input=TEXTS[0]).data
    (listed,) = client.embeddings.create(model="embed", input=[TEXTS[0]]).data
    assert alone.embedding == listed.embedding


async def test_the_async_client(base_url: str) -> None:
    async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=60) as client:
        answer = await client.embeddings.create(model="embed", input=TEXTS[:2])
        assert len(answer.data) == 2
        assert "embed" in [model.id async for model in client.models.list()]
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("wrong_model_name")


def test_models(client: openai.OpenAI) -> None:
    models = client.models.list().data
    assert {"embed", "iris"} <= {model.id for model in models}
    model = client.models.retrieve("embed")
    assert (model.id, model.object) == ("embed", "model")
    assert isinstance(model.created, int) and isinstance(model.owned_by, str), model
    # The path is also that of KServe's protocol v1, which wants more in the answer.
    (listed,) = [each for each in models if each.id == "embed"]
    assert (listed.object, listed.created, listed.owned_by) == (model.object, model.created, model.owned_by)


def test_refusals(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="wrong_model_name"):
        client.embeddings.create(model="wrong_model_name", input="a")
    with pytest.raises(openai.NotFoundError, match="wrong_model_name"):
        client.models.retrieve("wrong_model_name")
    # A model that gives no embeddings.
    with pytest.raises(openai.BadRequestError) as raised:
        client.embeddings.create(model="iris", input="a")
    assert "iris" in raised.value.message
    for wrong in (
        {"input": []},
        {"input": [["a"]]},
        {"input": 5},
        {"input": "a", "encoding_format": "hex"},
    ):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="embed", **wrong)


def test_what_is_asked_for_is_given_or_refused(client: openai.OpenAI) -> None:
    """Tokens and fewer dimensions are what OpenAI's own models take; a user's name is no wish."""
    client.embeddings.create(model="embed", input="a", user="somebody")
    for wish in ({"input": [1, 2, 3]}, {"input": "a", "dimensions": 2}):
        try:
            answer = client.embeddings.create(model="embed", **wish)
        except openai.BadRequestError:
            continue
        assert "dimensions" in wish, "tokens are not texts"
        assert len(answer.data[0].embedding) == wish["dimensions"]


def test_an_error_is_what_the_client_reads(client: openai.OpenAI) -> None:
    """OpenAI's errors are objects, of which the client shows the parts."""
    with pytest.raises(openai.NotFoundError) as raised:
        client.models.retrieve("wrong_model_name")
    error = raised.value
    assert isinstance(error.body, dict), error.body
    assert error.body["message"] and error.type, error.body
