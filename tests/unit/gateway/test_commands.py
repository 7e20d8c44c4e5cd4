"""The command line starts without what only serving needs."""

import subprocess
import sys


def test_the_command_line_loads_nothing_that_only_serving_needs() -> None:
    code = "import sys, cloister_gateway.commands; print(*(sys.modules.keys() & {'fastapi', 'aiohttp', 'httpx'}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.split() == []
