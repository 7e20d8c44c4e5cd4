"""The real vLLM of the run, and what the tests ask it with."""

from collections.abc import Iterator
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


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    """A pod whose model sees images and thinks; see `tests.support.tiny_chat`. Start it where it does not run."""
    from tests.support.tiny_chat import make_tiny_chat

    model = make_tiny_chat(tmp_path_factory.mktemp("tiny") / "model", chat_model_folder())
    yield (
        server := LlmServer(
            tmp_path_factory.mktemp("tiny-pod"),
            model={"path": str(model), "reasoning_parser": "deepseek_r1"},
            shutdown_seconds=3,
            max_model_len=8192,
        )
    )
    server.kill()
