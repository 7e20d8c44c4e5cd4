"""The unmodified ``openai`` SDK is a client of the embedder, with the internal token as its key."""

import base64
import math

import numpy as np
import openai
import pytest

from tests.support.embedder import EMBEDDER_TOKEN
from tests.support.models import MINILM
from tests.support.sdk import closing


@pytest.fixture
def sdk(url: str) -> openai.OpenAI:
    return closing(openai.OpenAI(base_url=f"{url}/v1", api_key=EMBEDDER_TOKEN, max_retries=0))


def test_embeddings_in_the_sdks_own_encoding_and_in_floats_agree(sdk: openai.OpenAI) -> None:
    with sdk:
        default = sdk.embeddings.create(model=MINILM, input=["one text", "another"])
        floats = sdk.embeddings.create(model=MINILM, input=["one text", "another"], encoding_format="float")
        packed = sdk.embeddings.create(model=MINILM, input="one text", encoding_format="base64")
    assert [row.index for row in default.data] == [0, 1]
    assert default.model == MINILM
    assert default.usage.total_tokens == default.usage.prompt_tokens > 0
    for one, other in zip(default.data, floats.data, strict=True):
        assert np.allclose(one.embedding, other.embedding, atol=1e-6)
        assert math.isclose(sum(value * value for value in one.embedding), 1, abs_tol=1e-5)
    raw = np.frombuffer(base64.b64decode(str(packed.data[0].embedding)), "<f4")
    assert np.allclose(raw, floats.data[0].embedding, atol=2e-3)


async def test_async_sdk_embeds_2048_inputs(url: str) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=EMBEDDER_TOKEN, max_retries=0) as sdk:
        answer = await sdk.embeddings.create(model=MINILM, input=[f"text {index}" for index in range(2048)])
    assert [row.index for row in answer.data] == list(range(2048))
    assert {len(row.embedding) for row in answer.data} == {384}


def test_models_are_listed_and_retrieved(sdk: openai.OpenAI) -> None:
    with sdk:
        assert MINILM in [model.id for model in sdk.models.list()]
        assert sdk.models.retrieve(MINILM).id == MINILM
        with pytest.raises(openai.NotFoundError) as unknown:
            sdk.models.retrieve("nobody")
    assert unknown.value.code == "model_not_found"


def test_errors_are_the_sdks_own_classes(sdk: openai.OpenAI, url: str) -> None:
    with sdk:
        with pytest.raises(openai.BadRequestError) as long:
            sdk.embeddings.create(model=MINILM, input=["x", "word " * 300])
        assert (long.value.code, long.value.param) == ("context_length_exceeded", "input[1]")
        with pytest.raises(openai.BadRequestError) as short:
            sdk.embeddings.create(model=MINILM, input="x", dimensions=8)
        assert short.value.code == "unsupported_parameter"
    stranger = closing(openai.OpenAI(base_url=f"{url}/v1", api_key="sk-wrong", max_retries=0))
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.embeddings.create(model=MINILM, input="x")
