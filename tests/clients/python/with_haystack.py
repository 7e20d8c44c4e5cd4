"""Haystack: generators, tools, an agent, embedders."""

from typing import Literal

from flows import EMBEDDING_MODEL, MODEL, flow, run
from haystack.components.agents import Agent
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, Document
from haystack.tools import tool


@tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """What the weather is like in a city."""
    return f"It rains in {city}."


def chat(max_completion_tokens: int = 6, **options: object) -> OpenAIChatGenerator:
    settings = {"max_completion_tokens": max_completion_tokens, **options}
    return OpenAIChatGenerator(model=MODEL, max_retries=0, generation_kwargs=settings)


def called_once() -> OpenAIChatGenerator:
    return chat(96, tool_choice="required", parallel_tool_calls=False)


@flow
def answers() -> None:
    (reply,) = chat().run([ChatMessage.from_system("Be brief."), ChatMessage.from_user("Say hello.")])["replies"]
    assert reply.text
    assert reply.meta["usage"]["completion_tokens"] > 0


@flow
def streams() -> None:
    chunks: list[str] = []
    generator = OpenAIChatGenerator(
        model=MODEL,
        generation_kwargs={"max_completion_tokens": 6},
        streaming_callback=lambda c: chunks.append(c.content),
    )
    (reply,) = generator.run([ChatMessage.from_user("Say hello.")])["replies"]
    assert "".join(chunks) == reply.text


@flow
def calls_a_tool_and_goes_on() -> None:
    asked = [ChatMessage.from_user("What is the weather in Oslo?")]
    (called,) = called_once().run(asked, tools=[weather])["replies"]
    (call,) = called.tool_calls
    assert call.tool_name == "weather"
    said = ChatMessage.from_tool(weather.invoke(**call.arguments), origin=call)
    (reply,) = chat(tool_choice="none").run([*asked, called, said], tools=[weather])["replies"]
    assert reply.text is not None


@flow
def an_agent_calls_a_tool() -> None:
    agent = Agent(chat_generator=called_once(), tools=[weather], exit_conditions=["weather"])
    said = agent.run([ChatMessage.from_user("What is the weather in Rome?")])["messages"]
    assert said[-1].tool_call_result.result.startswith("It rains in ")


@flow
def answers_by_responses() -> None:
    generator = OpenAIResponsesChatGenerator(model=MODEL, max_retries=0, generation_kwargs={"max_output_tokens": 6})
    (reply,) = generator.run([ChatMessage.from_user("Say hello.")])["replies"]
    assert reply.text
    (again,) = generator.run([ChatMessage.from_user("Say hello."), reply, ChatMessage.from_user("Again.")])["replies"]
    assert again.text


@flow
def embeds() -> None:
    query = OpenAITextEmbedder(model=EMBEDDING_MODEL, max_retries=0).run("a cat")["embedding"]
    (document,) = OpenAIDocumentEmbedder(model=EMBEDDING_MODEL, max_retries=0, progress_bar=False).run(
        [Document(content="a cat")]
    )["documents"]
    assert len(query) == len(document.embedding) == 384


run()
