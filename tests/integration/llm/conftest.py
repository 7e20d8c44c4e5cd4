"""The real vLLM of the run, and what the tests ask it with."""

from typing import Any

import httpx
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.support.llm import LlmServer, chat_model_folder


@pytest.fixture(scope="session")
def llm(vllm_pod: LlmServer) -> LlmServer:
    """A running pod."""
    return vllm_pod


@pytest.fixture
async def client(llm: LlmServer) -> Any:
    """A client with the pod's token."""
    async with httpx.AsyncClient(base_url=llm.url, headers=llm.headers, timeout=600) as client:
        yield client


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The chat model's own tokenizer."""
    return AutoTokenizer.from_pretrained(chat_model_folder(), local_files_only=True)
