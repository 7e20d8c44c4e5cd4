"""The main flows with the unmodified JavaScript SDK."""

import os
import subprocess
from pathlib import Path

from tests.e2e.conftest import CHAT_MODEL
from tests.support.stack import Stack


def test_the_javascript_sdk_does_the_main_flows(stack: Stack, javascript_folder: Path) -> None:
    environment = {**os.environ, "OPENAI_BASE_URL": stack.base_url, "OPENAI_API_KEY": stack.api_key}
    command = ["node", "main.mjs", CHAT_MODEL]
    done = subprocess.run(
        command, cwd=javascript_folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ok"
