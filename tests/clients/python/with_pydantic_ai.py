"""Pydantic AI, over chat completions and over Responses."""

from typing import Literal

from flows import MODEL, flow, run
from pydantic import BaseModel
from pydantic_ai import Agent, ModelSettings, NativeOutput, RunContext, ToolOutput
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel

MODELS = (OpenAIChatModel, OpenAIResponsesModel)


class City(BaseModel):
    """A city."""

    name: Literal["Oslo", "Rome"]


def agent(kind: type, max_tokens: int = 6, **options: object) -> Agent:
    return Agent(kind(MODEL), model_settings={"max_tokens": max_tokens}, instructions="Be brief.", **options)


@flow
async def answers() -> None:
    for kind in MODELS:
        result = await agent(kind).run("Say hello.")
        assert result.output
        again = await agent(kind).run("And goodbye.", message_history=result.all_messages())
        assert again.output
        assert again.usage.output_tokens > 0


@flow
async def streams() -> None:
    for kind in MODELS:
        async with agent(kind).run_stream("Say hello.") as result:
            assert "".join([text async for text in result.stream_text(delta=True)])


@flow
async def answers_in_a_structure_by_a_tool() -> None:
    for kind in MODELS:
        result = await agent(kind, 96, output_type=ToolOutput(City)).run("Name a city.")
        assert isinstance(result.output, City)


@flow
async def answers_in_a_structure_by_a_schema() -> None:
    for kind in MODELS:
        result = await agent(kind, 96, output_type=NativeOutput(City)).run("Name a city.")
        assert isinstance(result.output, City)


def first_weather(context: RunContext) -> ModelSettings:
    """The tool at the first step, and an answer at the next."""
    if context.run_step <= 1:
        return {"max_tokens": 96, "tool_choice": ["weather"], "parallel_tool_calls": False}
    return {"max_tokens": 6, "tool_choice": "none"}


@flow
async def calls_a_tool_and_goes_on() -> None:
    for kind in MODELS:
        made = Agent(kind(MODEL), instructions="Be brief.")

        @made.tool_plain
        def weather(city: Literal["Oslo", "Rome"]) -> str:
            """What the weather is like in a city."""
            return f"It rains in {city}."

        result = await made.run("What is the weather in Oslo?", model_settings=first_weather)
        assert result.output is not None
        kinds = [part.part_kind for message in result.all_messages() for part in message.parts]
        assert "tool-call" in kinds
        assert "tool-return" in kinds


run()
