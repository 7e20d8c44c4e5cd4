"""Instructor, in the modes that open models are used with."""

from typing import Literal

import instructor
from flows import MODEL, flow, run
from openai import OpenAI
from pydantic import BaseModel, Field


class City(BaseModel):
    """A city."""

    name: Literal["Oslo", "Rome"]
    inhabitants: int = Field(ge=0, le=100_000_000)


def extract(mode: instructor.Mode) -> City:
    client = instructor.from_openai(OpenAI(max_retries=0), mode=mode)
    found = client.chat.completions.create(
        model=MODEL,
        max_tokens=128,
        max_retries=1,
        response_model=City,
        messages=[{"role": "user", "content": "Oslo has 700000 inhabitants."}],
    )
    assert isinstance(found, City)
    return found


@flow
def extracts_by_a_tool() -> None:
    extract(instructor.Mode.TOOLS)


@flow
def extracts_by_a_strict_tool() -> None:
    extract(instructor.Mode.TOOLS_STRICT)


@flow
def extracts_by_a_schema() -> None:
    extract(instructor.Mode.JSON_SCHEMA)


@flow
def extracts_by_responses() -> None:
    client = instructor.from_openai(OpenAI(max_retries=0), mode=instructor.Mode.RESPONSES_TOOLS)
    found = client.responses.create(
        model=MODEL, input="Oslo has 700000 inhabitants.", response_model=City, max_retries=1
    )
    assert isinstance(found, City)


@flow
def streams_what_is_there_already() -> None:
    client = instructor.from_openai(OpenAI(max_retries=0), mode=instructor.Mode.TOOLS)
    parts = list(
        client.chat.completions.create_partial(
            model=MODEL,
            max_tokens=128,
            response_model=City,
            messages=[{"role": "user", "content": "Oslo has 700000 inhabitants."}],
        )
    )
    assert parts[-1].name is not None


run()
