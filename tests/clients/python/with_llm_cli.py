"""The ``llm`` command, with the model in its own configuration, as its manual tells for servers like OpenAI's."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from flows import API_KEY, BASE_URL, MODEL, flow, run

_folder = tempfile.TemporaryDirectory()
_COMMAND = [sys.executable, "-m", "llm"]
Path(_folder.name, "extra-openai-models.yaml").write_text(
    f"""\
- model_id: ours
  model_name: {MODEL}
  api_base: {BASE_URL}
  api_key_name: ours
  supports_schema: true
  supports_tools: true
"""
)


def llm(*arguments: str) -> str:
    environment = {**os.environ, "LLM_USER_PATH": _folder.name}
    done = subprocess.run(
        [*_COMMAND, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


llm("keys", "set", "ours", "--value", API_KEY)


@flow
def answers_and_goes_on() -> None:
    assert llm("-m", "ours", "-o", "max_tokens", "6", "Say hello.")
    assert llm("-c", "-o", "max_tokens", "6", "Again.")


@flow
def answers_without_a_stream() -> None:
    assert llm("-m", "ours", "--no-stream", "-s", "Be brief.", "-o", "max_tokens", "6", "Say hello.")


@flow
def answers_in_a_structure() -> None:
    # (Its short form of a schema has no bounds, and a small model writes on until it meets one.)
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["age"],
        "additionalProperties": False,
    }
    asked = ("-o", "max_tokens", "64", "--schema", json.dumps(schema), "Ada is 36 years old.")
    assert "age" in json.loads(llm("-m", "ours", *asked))


run()
