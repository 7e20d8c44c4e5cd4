"""OpenAI's Agents SDK, with its defaults (the Responses API), and over chat completions."""

from typing import Literal

from agents import (
    Agent,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIConversationsSession,
    Runner,
    SQLiteSession,
    function_tool,
    set_tracing_disabled,
)
from flows import MODEL, flow, run
from openai import AsyncOpenAI
from pydantic import BaseModel

set_tracing_disabled(disabled=True)  # it would be sent to OpenAI


TALK = [{"role": "user", "content": "Say hello."}, {"role": "assistant", "content": "Hello."}] * 3
"""What a model can only go on with in one way. The SDK raises where an answer is cut off at a number of tokens."""
ASKED = [*TALK, TALK[0]]


@function_tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """What the weather is like in a city."""
    return f"It rains in {city}."


class City(BaseModel):
    """A city."""

    name: Literal["Oslo", "Rome"]


def agent(**options: object) -> Agent:
    # (A small model that must call something would call it again and again.)
    settings = {"max_tokens": 96, "parallel_tool_calls": False, **options.pop("settings", {})}
    options = {"name": "Helper", "instructions": "Be brief.", "model": MODEL, **options}
    return Agent(model_settings=ModelSettings(**settings), **options)


@flow
async def answers() -> None:
    result = await Runner.run(agent(), ASKED)
    assert result.final_output
    assert result.context_wrapper.usage.output_tokens > 0


@flow
async def streams() -> None:
    result = Runner.run_streamed(agent(), ASKED)
    kinds = [event.type async for event in result.stream_events()]
    assert "raw_response_event" in kinds
    assert result.final_output


@flow
async def calls_a_tool_and_goes_on() -> None:
    # (The SDK takes the force back after the first call.)
    made = agent(tools=[weather], output_type=City, settings={"tool_choice": "required"})
    result = await Runner.run(made, "What is the weather in Oslo?", max_turns=4)
    kinds = [item.type for item in result.new_items]
    assert kinds[:2] == ["tool_call_item", "tool_call_output_item"], kinds
    assert isinstance(result.final_output, City)


@flow
async def stops_on_what_a_tool_says_in_a_stream() -> None:
    made = agent(tools=[weather], settings={"tool_choice": "weather"}, tool_use_behavior="stop_on_first_tool")
    result = Runner.run_streamed(made, "What is the weather in Rome?")
    async for _ in result.stream_events():
        pass
    assert result.final_output.startswith("It rains in ")


@flow
async def goes_on_with_its_own_output() -> None:
    first = await Runner.run(agent(), ASKED)
    second = await Runner.run(agent(), [*first.to_input_list(), TALK[0]])
    assert second.final_output


@flow
async def goes_on_by_the_previous_response() -> None:
    first = await Runner.run(agent(), ASKED)
    assert (await Runner.run(agent(), "Say hello.", previous_response_id=first.last_response_id)).final_output


@flow
async def remembers_in_a_session() -> None:
    for session in (SQLiteSession("one"), OpenAIConversationsSession()):
        await session.add_items(TALK)
        await Runner.run(agent(), "Say hello.", session=session)
        await Runner.run(agent(), "Say hello.", session=session)
        assert len(await session.get_items()) == len(TALK) + 4


@flow
async def answers_in_a_structure() -> None:
    result = await Runner.run(agent(output_type=City), "Name a city.")
    assert isinstance(result.final_output, City)


@flow
async def hands_over_to_another() -> None:
    other = agent(name="Other", output_type=City)
    made = agent(handoffs=[other], settings={"tool_choice": "required"})
    result = await Runner.run(made, "Let the other speak.", max_turns=3)
    assert result.last_agent.name == "Other"


@flow
async def calls_a_tool_by_chat_completions() -> None:
    model = OpenAIChatCompletionsModel(model=MODEL, openai_client=AsyncOpenAI(max_retries=0))
    made = agent(model=model, tools=[weather], output_type=City, settings={"tool_choice": "required"})
    result = await Runner.run(made, "What is the weather in Oslo?", max_turns=4)
    assert [item.type for item in result.new_items][:2] == ["tool_call_item", "tool_call_output_item"]
    assert isinstance(result.final_output, City)


run()
