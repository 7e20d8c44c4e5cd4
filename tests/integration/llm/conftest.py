"""One real vLLM for all tests of this folder: it takes half a minute to start."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.support.llm import LlmServer, chat_model_folder


@pytest.fixture(scope="session")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlmServer]:
    """A running pod."""
    extra = {"tool-call-parser": "hermes", "enable-auto-tool-choice": True}
    limits = {"head_seconds": 5, "body_window_seconds": 5}
    server = LlmServer(tmp_path_factory.mktemp("llm"), limits=limits, extra_arguments=extra)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
async def client(llm: LlmServer) -> Any:
    """A client with the pod's token."""
    async with httpx.AsyncClient(base_url=llm.url, headers=llm.headers, timeout=600) as client:
        yield client


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """The chat model's own tokenizer."""
    return AutoTokenizer.from_pretrained(chat_model_folder(), local_files_only=True)
