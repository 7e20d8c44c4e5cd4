"""Functions that the model calls: their events, what they returned, and the turn after, by every way there is."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any

import openai
import pydantic
import pytest
from cloister_common.testing.llm import Call, FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found

WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "weather",
    "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    "strict": True,
}
TIME = {"type": "function", "name": "time", "parameters": None, "strict": False}
DECLARED = {"type": "function", "function": {name: WEATHER[name] for name in WEATHER if name != "type"}}
BERN = Call("weather", '{"city":"Bern"}')


def answers(body: dict[str, Any]) -> Sequence[str | Call]:
    """Calls until what was called has returned, then says what did."""
    last = body["messages"][-1]
    return ["It is ", last["content"], "."] if last["role"] == "tool" else [BERN]


def output(call: Any, text: Any = "rain") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call.call_id, "output": text}


def told(llm: FakeLlm) -> list[tuple[str, Any]]:
    """What the pod was told last: of each message its role, and its text or the ids of its calls."""
    messages = llm.chats()[-1]["messages"]
    return [
        (
            message["role"],
            [call["id"] for call in message["tool_calls"]] if "tool_calls" in message else message["content"],
        )
        for message in messages
    ]


def refused(ask: Callable[[], Any]) -> openai.BadRequestError:
    with pytest.raises(openai.BadRequestError) as caught:
        ask()
    return caught.value


@pytest.fixture
def ask(client: Any) -> Callable[..., Any]:
    def create(input: Any = "Weather in Bern?", **fields: Any) -> Any:
        return client.responses.create(**{"model": "fake", "input": input, "tools": [WEATHER, TIME], **fields})

    return create


def test_the_events_of_text_and_calls_come_in_openais_order(ask: Callable[..., Any], llm: FakeLlm) -> None:
    llm.answer, llm.calls = ["Let me", " see [1]."], [BERN, Call("time", "")]
    events = list(ask(stream=True))
    # (What came in one read is one delta.)
    kinds = [kind for kind, _ in itertools.groupby(event.type.removeprefix("response.") for event in events)]
    call = ["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"]
    message = ["output_item.added", "content_part.added", "output_text.delta"]
    closed = ["output_text.done", "content_part.done", "output_item.done"]
    assert kinds == ["created", "in_progress", *message, *closed, *call, *call, "completed"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    response = events[-1].response
    said, bern, time = response.output
    assert said.content[0].text == "Let me see [1]."
    assert (bern.type, bern.name, bern.arguments, bern.status) == (
        "function_call",
        "weather",
        BERN.arguments,
        "completed",
    )
    assert (time.name, time.arguments) == ("time", "{}")
    assert bern.id.startswith("fc_")
    assert bern.call_id.startswith("call_")
    assert bern.call_id != time.call_id
    added = [event.item for event in events if event.type == "response.output_item.added"]
    assert [(item.status, item.arguments) for item in added[1:]] == [("in_progress", "")] * 2
    assert response.usage.output_tokens == 2 + 1 + 4 + 1
    assert [tool.to_dict() for tool in response.tools] == [WEATHER, {**TIME, "description": None}]
    assert (response.tool_choice, response.parallel_tool_calls) == ("auto", True)
    body = llm.chats()[-1]
    assert body["tools"] == [DECLARED, {"type": "function", "function": {"name": "time", "strict": False}}]
    assert body["tool_choice"] == "auto"
    assert "parallel_tool_calls" not in body


def test_without_text_there_is_no_message(ask: Callable[..., Any], llm: FakeLlm) -> None:
    llm.answer, llm.calls = [], [BERN]
    response = ask()
    assert [item.type for item in response.output] == ["function_call"]
    assert (response.status, response.output_text) == ("completed", "")


@pytest.mark.parametrize("way", ["previous_response_id", "conversation", "items"])
@pytest.mark.parametrize("text", ["rain", [{"type": "input_text", "text": "ra"}, {"type": "input_text", "text": "in"}]])
def test_what_was_called_returns_and_the_model_goes_on(
    way: str, text: Any, client: Any, ask: Callable[..., Any], llm: FakeLlm
) -> None:
    llm.respond = answers
    conversation = client.conversations.create().id if way == "conversation" else None
    where = {"conversation": conversation} if conversation else {"store": way == "previous_response_id"}
    first = ask(**where)
    (call,) = first.output
    if way == "items":
        sent: list[Any] = [{"role": "user", "content": "Weather in Bern?"}, *first.output, output(call, text)]
    else:
        sent = [output(call, text)]
    if way == "previous_response_id":
        where["previous_response_id"] = first.id
    second = ask(sent, **where)
    assert second.output_text == "It is rain."
    history = [("user", "Weather in Bern?"), ("assistant", [call.call_id]), ("tool", "rain")]
    assert told(llm) == history
    if conversation:
        items = list(client.conversations.items.list(conversation, order="asc"))
        assert [item.type for item in items] == ["message", "function_call", "function_call_output", "message"]
        assert items[2].output == text if isinstance(text, str) else [one["text"] for one in text] == ["ra", "in"]
    # A turn later they are history.
    where.pop("store", None)
    if way != "items":
        where = where if conversation else {"previous_response_id": second.id}
        ask("And now?", **where)
        assert told(llm) == [*history, ("assistant", "It is rain."), ("user", "And now?")]


def test_a_loop_over_a_socket_needs_nothing_stored(client: Any, llm: FakeLlm) -> None:
    llm.respond = answers
    with client.responses.connect() as connection:
        previous: str | None = None
        sent: Any = "Weather in Bern?"
        for _ in range(2):
            connection.response.create(
                model="fake", input=sent, previous_response_id=previous, tools=[WEATHER], store=False
            )
            response = next(event.response for event in connection if event.type == "response.completed")
            previous = response.id
            sent = [output(item) for item in response.output if item.type == "function_call"]
        assert (response.output_text, sent) == ("It is rain.", [])
        connection.response.create(model="fake", input=[output(Unknown())], previous_response_id=previous)
        error = next(iter(connection))
        assert (error.type, error.error.param) == ("error", "input[0].call_id")
        assert Unknown.call_id in error.error.message


class Unknown:
    """A call that nobody made."""

    call_id = "call_unknown"


def test_the_sdks_helpers_read_calls(client: Any, llm: FakeLlm) -> None:
    class Weather(pydantic.BaseModel):
        city: str

    llm.answer, llm.calls = [], [BERN]
    tools = [openai.pydantic_function_tool(Weather, name="weather")]
    parsed = client.responses.parse(model="fake", input="x", tools=tools)
    assert parsed.output[0].parsed_arguments == Weather(city="Bern")
    with client.responses.stream(model="fake", input="x", tools=tools) as stream:
        done = [event for event in stream if event.type == "response.function_call_arguments.delta"]
        assert done[-1].snapshot == BERN.arguments
        assert json.loads(stream.get_final_response().output[0].arguments) == {"city": "Bern"}


@pytest.mark.parametrize("way", ["previous_response_id", "conversation"])
def test_calls_and_outputs_that_do_not_fit_are_a_400_and_nothing_is_stored(
    way: str, client: Any, ask: Callable[..., Any], llm: FakeLlm
) -> None:
    llm.respond = answers
    conversation = client.conversations.create().id
    first = ask(conversation=conversation) if way == "conversation" else ask()
    where = {way: conversation if way == "conversation" else first.id}
    (call,) = first.output
    asked = len(llm.chats())
    error = refused(lambda: ask("Well?", **where))
    assert (error.param, error.message.partition(" - ")[2]) == (
        "input",
        f"No tool output found for function call {call.call_id}.",
    )
    error = refused(lambda: ask([output(Unknown()), output(call)], **where))
    assert (error.param, "No tool call found" in error.message) == ("input[0].call_id", True)
    error = refused(lambda: ask([output(call), output(call)], **where))
    assert (error.param, "already" in error.message) == ("input[1].call_id", True)
    assert len(llm.chats()) == asked
    second = ask([output(call)], **where)
    if way == "previous_response_id":
        where = {way: second.id}
    error = refused(lambda: ask([output(call)], **where))
    assert error.param == "input[0].call_id"
    if way == "conversation":
        assert len(list(client.conversations.items.list(conversation))) == 4


def test_outputs_are_added_to_a_conversation_as_items(client: Any, ask: Callable[..., Any], llm: FakeLlm) -> None:
    llm.respond = answers
    conversation = client.conversations.create().id
    (call,) = ask(conversation=conversation).output
    llm.respond = None
    add = client.conversations.items.create
    error = refused(lambda: add(conversation, items=[output(Unknown())]))
    assert error.param == "items[0].call_id"
    (added,) = add(conversation, items=[output(call)]).data
    assert (added.type, added.call_id, added.output, added.status) == (
        "function_call_output", call.call_id, "rain", "completed"
    )  # fmt: skip
    assert refused(lambda: add(conversation, items=[output(call)])).param == "items[0].call_id"
    ask("So?", conversation=conversation)
    assert told(llm) == [
        ("user", "Weather in Bern?"), ("assistant", [call.call_id]), ("tool", "rain"), ("user", "So?")
    ]  # fmt: skip
    # What a deleted call returned is not sent, and the call can be answered again where its output was deleted.
    items = {item.type: item.id for item in client.conversations.items.list(conversation, order="asc", limit=3)}
    client.conversations.items.delete(items["function_call_output"], conversation_id=conversation)
    assert refused(lambda: ask("So?", conversation=conversation)).param == "input"
    ask([output(call, "sun")], conversation=conversation)
    client.conversations.items.delete(items["function_call"], conversation_id=conversation)
    ask("So?", conversation=conversation)
    assert "tool" not in [role for role, _ in told(llm)]


def test_a_conversation_may_begin_with_calls_that_were_made_elsewhere(client: Any, ask: Callable[..., Any]) -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    returned = {"type": "function_call_output", "call_id": "call_1", "output": "sun"}
    conversation = client.conversations.create(items=[call, returned]).id
    assert ask(conversation=conversation).status == "completed"
    assert refused(lambda: client.conversations.create(items=[returned])).param == "items[0].call_id"


def test_a_call_whose_turn_failed_afterwards_can_be_answered_again(
    client: Any, ask: Callable[..., Any], llm: FakeLlm
) -> None:
    llm.respond = answers
    conversation = client.conversations.create().id
    (call,) = ask(conversation=conversation).output
    llm.refuse_status = 500
    assert ask([output(call)], conversation=conversation).status == "failed"
    llm.refuse_status = None
    assert ask([output(call)], conversation=conversation).output_text == "It is rain."


@pytest.mark.parametrize(
    ("fields", "names", "choice"),
    [
        ({"tool_choice": "none"}, [], None),
        ({"tool_choice": "required"}, ["weather", "time"], "required"),
        (
            {"tool_choice": {"type": "function", "name": "time"}},
            ["weather", "time"],
            {"type": "function", "function": {"name": "time"}},
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "time"}],
                }
            },
            ["time"],
            "required",
        ),
    ],
)
def test_the_choice_of_tools_reaches_the_pod_and_is_shown(
    fields: dict[str, Any], names: list[str], choice: Any, ask: Callable[..., Any], llm: FakeLlm
) -> None:
    llm.answer, llm.calls = ["Well"], [Call("time", "{}")]
    response = ask(**fields)
    body = llm.chats()[-1]
    assert [tool["function"]["name"] for tool in body.get("tools", [])] == names
    assert body.get("tool_choice") == choice
    shown = response.to_dict()
    assert shown["tool_choice"] == fields["tool_choice"]
    assert len(shown["tools"]) == 2
    assert [item.type for item in response.output] == ["message", "function_call"][: 2 if names else 1]


def test_one_call_at_a_time_where_asked_for(ask: Callable[..., Any], llm: FakeLlm) -> None:
    llm.answer, llm.calls = [], [BERN, Call("time", "{}")]
    response = ask(parallel_tool_calls=False, max_tool_calls=2)
    assert [item.name for item in response.output] == ["weather"]
    assert (response.parallel_tool_calls, response.max_tool_calls) == (False, 2)
    assert llm.chats()[-1]["parallel_tool_calls"] is False


def test_a_call_that_was_cut_off_is_none(client: Any, ask: Callable[..., Any], llm: FakeLlm) -> None:
    llm.answer, llm.calls = ["See"], [BERN]
    conversation = client.conversations.create().id
    response = ask(conversation=conversation, max_output_tokens=4)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert [item.type for item in response.output] == ["message"]
    assert ask("Go on.", conversation=conversation).output[-1].type == "function_call"


FORM = {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}}


def test_a_form_of_the_answer_keeps_no_function_from_being_called(ask: Callable[..., Any], llm: FakeLlm) -> None:
    llm.answer, llm.calls, llm.reasoning = [], [BERN], ["Hm"]
    first = ask(text=FORM)
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    (asked,) = llm.chats()
    assert "response_format" not in asked
    # Where the model speaks instead, it is stopped, and what it then says has the form.
    llm.counts_on = True
    llm.calls, llm.reasoning = [], []
    llm.respond = lambda body: ['{"a":', "1}"] if "response_format" in body else ["\n", "Well,", " it", " is", "..."]
    second = ask([output(first.output[-1])], previous_response_id=first.id, text=FORM)
    assert (second.output_text, [item.type for item in second.output]) == ('{"a":1}', ["message"])
    asked, answered = llm.chats()[1:]
    assert "response_format" not in asked
    assert answered["tool_choice"] == "none"
    assert answered["tools"] == asked["tools"]
    assert 2 + 2 <= second.usage.output_tokens <= 2 + 5


def test_a_call_that_must_be_made_has_the_form_of_its_function(ask: Callable[..., Any], llm: FakeLlm) -> None:
    llm.answer, llm.calls = [], [BERN]
    assert ask(text=FORM, tool_choice="required").output[0].name == "weather"
    (body,) = llm.chats()
    assert "response_format" not in body


def test_functions_count_in_what_fits(ask: Callable[..., Any], llm: FakeLlm) -> None:
    long = {**TIME, "description": "word " * 3000}
    error = refused(lambda: ask(tools=[long]))
    assert (error.code, error.param) == ("context_length_exceeded", "input")
    assert ask(tools=[TIME]).status == "completed"


def test_the_server_searches_before_the_model_calls(client: Any, llm: FakeLlm, search: FakeRetriever) -> None:
    search.planted["vs_1"] = [found("The moon is made of rock.", file_id="file-moon", filename="moon.md")]
    files = {"type": "file_search", "vector_store_ids": ["vs_1"]}
    llm.answer, llm.calls = ["Rock", " [1]."], [Call("weather", '{"city":"[1]"}')]
    response = client.responses.create(model="fake", input="The moon?", tools=[WEATHER, files])
    assert [item.type for item in response.output] == ["file_search_call", "message", "function_call"]
    assert response.output[1].content[0].text == "Rock."
    assert len(response.output[1].content[0].annotations) == 1
    assert response.output[2].arguments == '{"city":"[1]"}'
    second = client.responses.create(
        model="fake", input=[output(response.output[2])], previous_response_id=response.id, tools=[WEATHER, files]
    )
    assert [item.type for item in second.output] == ["file_search_call", "message", "function_call"]
    assert "The moon?" in str(search.searches[-1])
    missing = {"type": "file_search", "vector_store_ids": ["vs_2"]}
    with pytest.raises(openai.NotFoundError) as unknown:
        client.responses.create(model="fake", input="x", tools=[WEATHER, missing])
    assert unknown.value.param == "tools[1].vector_store_ids"
