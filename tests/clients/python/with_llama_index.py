"""LlamaIndex: chat, streams, tools, structured answers, Responses, embeddings."""

from typing import Literal

from flows import API_KEY, BASE_URL, EMBEDDING_MODEL, MODEL, flow, run
from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.openai import OpenAIResponses
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel


class City(BaseModel):
    """A city."""

    name: Literal["Oslo", "Rome"]


def weather(city: Literal["Oslo", "Rome"]) -> str:
    """What the weather is like in a city."""
    return f"It rains in {city}."


def chat(max_tokens: int = 6) -> OpenAILike:
    # (Its class for OpenAI itself knows the context of OpenAI's own models only.)
    return OpenAILike(
        model=MODEL,
        api_base=BASE_URL,
        api_key=API_KEY,
        is_chat_model=True,
        is_function_calling_model=True,
        max_tokens=max_tokens,
        max_retries=0,
        timeout=300,
    )


@flow
def answers() -> None:
    assert (
        chat()
        .chat([ChatMessage(role="system", content="Be brief."), ChatMessage(content="Say hello.")])
        .message.content
    )


@flow
async def answers_while_others_wait() -> None:
    assert (await chat().acomplete("Say hello.")).text


@flow
def streams() -> None:
    assert "".join(chunk.delta or "" for chunk in chat().stream_chat([ChatMessage(content="Say hello.")]))


@flow
def completes_a_text() -> None:
    plain = OpenAILike(
        model=MODEL, api_base=BASE_URL, api_key=API_KEY, is_chat_model=False, max_tokens=8, max_retries=0, timeout=300
    )
    assert plain.complete("Once upon a time").text
    assert "".join(chunk.delta or "" for chunk in plain.stream_complete("Once upon a time"))


@flow
def calls_a_tool() -> None:
    tool = FunctionTool.from_defaults(weather)
    called = chat(96).chat_with_tools([tool], "What is the weather in Oslo?", tool_required=True)
    (call, *_) = chat().get_tool_calls_from_response(called)
    assert call.tool_name == "weather"
    assert tool(**call.tool_kwargs).content.startswith("It rains in ")


@flow
def answers_in_a_structure() -> None:
    assert isinstance(chat(96).as_structured_llm(City).complete("Name a city.").raw, City)


@flow
def answers_by_responses() -> None:
    model = OpenAIResponses(
        model=MODEL,
        api_base=BASE_URL,
        api_key=API_KEY,
        max_output_tokens=6,
        max_retries=0,
        timeout=300,
        context_window=2048,
    )
    assert model.chat([ChatMessage(content="Say hello.")]).message.content
    assert "".join(chunk.delta or "" for chunk in model.stream_chat([ChatMessage(content="Say hello.")]))


@flow
def embeds() -> None:
    embed = OpenAIEmbedding(model_name=EMBEDDING_MODEL, api_base=BASE_URL, api_key=API_KEY, max_retries=0)
    one, other = embed.get_text_embedding_batch(["a cat", "the stock exchange"])
    assert len(one) == len(other) == 384


run()
