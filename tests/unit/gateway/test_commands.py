"""What is not loaded: nothing that only serving needs by the command line, and the SDK by nobody."""

import re
import subprocess
import sys
from pathlib import Path

import cloister_gateway


def test_the_command_line_loads_nothing_that_only_serving_needs() -> None:
    code = "import sys, cloister_gateway.commands; print(*(sys.modules.keys() & {'fastapi', 'aiohttp', 'httpx'}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == []


def test_a_gateway_loads_no_sdk_which_takes_a_fifth_of_its_start() -> None:
    folder = Path(cloister_gateway.__file__).parent
    loads = re.compile(r"^\s*(from|import) openai\b", re.MULTILINE)
    assert [path.name for path in folder.rglob("*.py") if loads.search(path.read_text())] == []
