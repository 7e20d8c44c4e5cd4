"""LangChain, with its defaults: chat, streams, tools, structured answers, Responses, embeddings; and an agent of
LangGraph that calls a tool and goes on with what it gave."""

import asyncio
from collections.abc import Callable
from typing import Literal

from flows import EMBEDDING_MODEL, MODEL, flow, run
from langchain.agents import create_agent
from langchain.agents.middleware import ModelRequest, ModelResponse, wrap_model_call
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel, Field


@tool
def weather(city: Literal["Oslo", "Rome"]) -> str:
    """What the weather is like in a city."""
    return f"It rains in {city}."


class Person(BaseModel):
    """A person."""

    name: Literal["Ada", "Alan"]
    age: int = Field(ge=0, le=150)


def chat(max_tokens: int = 6, **options: object) -> ChatOpenAI:
    return ChatOpenAI(model=MODEL, max_tokens=max_tokens, max_retries=0, **options)


def bound(**options: object) -> ChatOpenAI:
    """For answers that are no good when they are cut off: calls, and those in a structure."""
    return chat(96, **options)


@flow
def answers() -> None:
    answer = chat().invoke([SystemMessage("Be brief."), HumanMessage("Say hello.")])
    assert answer.text
    assert answer.usage_metadata["output_tokens"] > 0
    assert answer.response_metadata["finish_reason"] in {"stop", "length"}


@flow
def streams_with_usage() -> None:
    chunks = list(chat(stream_usage=True).stream("Count to three."))
    assert "".join(chunk.text for chunk in chunks)
    assert any(chunk.usage_metadata for chunk in chunks)


@flow
def answers_many_at_once() -> None:
    answers = asyncio.run(
        (ChatPromptTemplate.from_template("Name a {thing}.") | chat()).abatch([{"thing": "tree"}] * 4)
    )
    assert all(answer.text for answer in answers)


@flow
def says_how_likely_tokens_are() -> None:
    answer = chat(logprobs=True, top_logprobs=2).invoke("Hi")
    assert answer.response_metadata["logprobs"]["content"][0]["top_logprobs"]


@flow
def calls_a_tool_and_goes_on() -> None:
    asked: list[object] = [HumanMessage("What is the weather in Oslo?")]
    called = bound().bind_tools([weather], tool_choice="weather").invoke(asked)
    (call,) = called.tool_calls
    assert call["name"] == "weather"
    assert isinstance(call["args"]["city"], str)
    asked += [called, weather.invoke(call)]
    assert isinstance(asked[-1], ToolMessage)
    assert isinstance(chat().bind_tools([weather], tool_choice="none").invoke(asked), AIMessage)


@flow
def streams_a_tool_call() -> None:
    whole = None
    model = bound().bind_tools([weather], tool_choice="any", parallel_tool_calls=False)
    for chunk in model.stream("What is the weather in Rome?"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    assert whole.tool_calls[0]["name"] == "weather"


@flow
def answers_in_a_structure() -> None:
    for method in ("json_schema", "function_calling"):
        person = bound().with_structured_output(Person, method=method).invoke("Ada is 36 years old.")
        assert isinstance(person, Person), method


@flow
def answers_by_responses() -> None:
    model = chat(use_responses_api=True)
    first = model.invoke("Say hello.")
    assert first.text
    second = model.invoke([HumanMessage("Again.")], previous_response_id=first.response_metadata["id"])
    assert second.text


@flow
def streams_by_responses() -> None:
    chunks = list(chat(use_responses_api=True).stream("Say hello."))
    assert "".join(chunk.text for chunk in chunks)


@flow
def sends_its_own_output_back_by_responses() -> None:
    model = chat(use_responses_api=True, output_version="responses/v1")
    asked: list[object] = [HumanMessage("Say hello.")]
    asked.append(model.invoke(asked))
    assert model.invoke([*asked, HumanMessage("And goodbye.")]).text


@flow
def calls_a_tool_by_responses() -> None:
    asked: list[object] = [HumanMessage("What is the weather in Bergen?")]
    called = bound(use_responses_api=True).bind_tools([weather], tool_choice="weather").invoke(asked)
    (call,) = called.tool_calls
    asked += [called, weather.invoke(call)]
    assert chat(use_responses_api=True).bind_tools([weather], tool_choice="none").invoke(asked).id


@flow
def answers_in_a_structure_by_responses() -> None:
    model = bound(use_responses_api=True).with_structured_output(Person, method="json_schema")
    assert isinstance(model.invoke("Ada is 36 years old."), Person)


@flow
def completes_a_text() -> None:
    assert OpenAI(model=MODEL, max_tokens=8, max_retries=0).invoke("Once upon a time")


@flow
def embeds() -> None:
    # With its default, which sends token ids of OpenAI's vocabulary and not the text.
    embeddings = OpenAIEmbeddings(model=EMBEDDING_MODEL, max_retries=0)
    one, other, again = embeddings.embed_documents(["a cat", "the stock exchange " * 30, "a cat"])
    assert len(one) == len(other)
    assert max(abs(a - b) for a, b in zip(one, again, strict=True)) < 1e-4
    query = embeddings.embed_query("a cat")
    assert sum(a * b for a, b in zip(one, query, strict=True)) > 0.99


@wrap_model_call
def first_a_call(request: ModelRequest, handler: Callable[[ModelRequest], ModelResponse]) -> ModelResponse:
    """The model must call at its first step, and answer at the next."""
    if isinstance(request.messages[-1], ToolMessage):
        return handler(request.override(tool_choice="none", model=chat()))
    settings = {**request.model_settings, "parallel_tool_calls": False}
    return handler(request.override(tool_choice="any", model_settings=settings))


@flow
def an_agent_calls_a_tool() -> None:
    agent = create_agent(bound(), [weather], system_prompt="You tell the weather.", middleware=[first_a_call])
    said = agent.invoke({"messages": [HumanMessage("What is the weather in Oslo?")]})
    kinds = [type(message).__name__ for message in said["messages"]]
    assert kinds == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"]


@flow
def a_graph_loops_over_a_tool_and_remembers() -> None:
    forced = bound().bind_tools([weather], tool_choice="any", parallel_tool_calls=False)
    free = chat().bind_tools([weather], tool_choice="none")

    def think(state: MessagesState) -> dict[str, list[AIMessage]]:
        model = free if isinstance(state["messages"][-1], ToolMessage) else forced
        return {"messages": [model.invoke(state["messages"])]}

    def further(state: MessagesState) -> str:
        return "act" if state["messages"][-1].tool_calls else END

    graph = StateGraph(MessagesState)
    graph.add_node("think", think)
    graph.add_node("act", ToolNode([weather]))
    graph.add_edge(START, "think")
    graph.add_conditional_edges("think", further)
    graph.add_edge("act", "think")
    compiled = graph.compile(checkpointer=InMemorySaver())
    for _ in range(2):
        said = compiled.invoke(
            {"messages": [HumanMessage("What is the weather in Oslo?")]}, {"configurable": {"thread_id": "one"}}
        )
    kinds = [type(message).__name__ for message in said["messages"]]
    assert kinds == ["HumanMessage", "AIMessage", "ToolMessage", "AIMessage"] * 2


run()
