"""The main flows with the unmodified JavaScript SDK."""

import os
import shutil
import subprocess
from pathlib import Path

from tests.e2e.conftest import CHAT_MODEL
from tests.support.stack import Stack


def test_the_javascript_sdk_does_the_main_flows(stack: Stack, javascript_folder: Path, tmp_path: Path) -> None:
    for name in ("package.json", "main.mjs"):
        shutil.copy(javascript_folder / name, tmp_path / name)
    install = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
    installed = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert installed.returncode == 0, installed.stderr
    environment = {**os.environ, "OPENAI_BASE_URL": stack.base_url, "OPENAI_API_KEY": stack.api_key}
    command = ["node", "main.mjs", CHAT_MODEL]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "ok"
