"""The SDK at the stack that all end-to-end tests share."""

import io
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI
from reportlab.pdfgen import canvas

from tests.support.sdk import closing
from tests.support.stack import Stack

CHAT_MODEL = "SmolLM2-135M-Instruct"
EMBEDDING_MODEL = "all-MiniLM-L6-v2"


def sdk(**options: Any) -> Any:
    """The unmodified SDK. Typed as Any: its events are unions of sixty types, and tests look into what came."""
    return closing(OpenAI(**options))


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[Any]:
    """The SDK, given what `make run` prints. Without retries, so that no failure hides."""
    with sdk(base_url=stack.base_url, api_key=stack.api_key, max_retries=0, timeout=120) as opened:
        yield opened


@pytest.fixture(scope="session")
def pdf() -> bytes:
    """A PDF of two pages."""
    buffer = io.BytesIO()
    pages = canvas.Canvas(buffer)
    for line in (
        "The Glimmer reactor was commissioned in 1987 by Dr. Helena Vosk.",
        "The maximum output of the Glimmer reactor is 42 megawatts.",
    ):
        pages.drawString(72, 700, line)
        pages.showPage()
    pages.save()
    return buffer.getvalue()


@pytest.fixture(scope="session")
def javascript_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is in JavaScript here, with the packages it wants."""
    folder = tmp_path_factory.mktemp("javascript")
    shutil.copytree(Path(__file__).parent / "javascript", folder, dirs_exist_ok=True)
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    installed = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert installed.returncode == 0, installed.stderr
    return folder
