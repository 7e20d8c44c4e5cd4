"""Runs in vLLM's environment: becomes vLLM as the launcher would, with the changes of one way. See `ways`.

python -m tests.bench.llm.start SETTINGS WAY
"""

import json
import os
import sys
from pathlib import Path

from cloister_common.settings import load_settings
from cloister_llm.launcher import prepare
from cloister_llm.settings import LlmSettings

__all__: list[str] = []


def main() -> None:
    """Does not return."""
    file, way = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    ready = prepare(load_settings(LlmSettings, file), file)
    command = [word for word in ready.command if word.partition("=")[0].removeprefix("--") not in way["options"]]
    command += [f"--{name}={value}" for name, value in way["options"].items() if value is not None]
    environment = {name: value for name, value in ready.environment.items() if name not in way["environment"]}
    environment |= {name: value for name, value in way["environment"].items() if value is not None}
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
