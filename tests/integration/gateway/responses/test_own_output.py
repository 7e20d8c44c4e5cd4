"""What the server put out comes back: items as the SDK dumps them, and items by their ids."""

from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found

from tests.integration.gateway.conftest import sdk
from tests.support.gateway import GatewayFixture
from tests.support.sockets import ask, opened, send, text_of, turn
from tests.support.waiting import wait_until

TOOL: dict[str, Any] = {"type": "file_search", "vector_store_ids": ["vs_1"]}
ANSWER = {"role": "assistant", "content": "Rock."}
NEXT = {"role": "user", "content": "next"}


@pytest.fixture
def searched(client: Any, llm: FakeLlm, search: FakeRetriever) -> Any:
    """A response with a search, its results, and a citation."""
    search.planted["vs_1"] = [found("The moon is made of rock.", file_id="file-1", filename="a.md", page=2)]
    llm.answer = ["Rock", " [1]", "."]
    response = client.responses.create(
        model="fake", input="moon?", tools=[TOOL], include=["file_search_call.results"], store=True
    )
    assert response.output[1].content[0].annotations
    return response


@pytest.fixture
def key(gateway: GatewayFixture, gateway_url: str) -> Iterator[Callable[..., Any]]:
    """Makes clients of one project, with keys of some scopes."""
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        projects = admin.admin.organization.projects
        project = projects.create(name="p").id
        account = projects.service_accounts.create(project, name="bot").id

        def make(*scopes: str) -> Any:
            made = projects.service_accounts.api_keys.create(account, project_id=project, scopes=list(scopes))
            return sdk(gateway_url, gateway, made.value)

        yield make


def less_ids(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in item.items() if name != "id"} for item in items]


@pytest.mark.parametrize("dump", ["to_dict", "model_dump", "without nulls"])
def test_output_comes_back_as_input_and_is_kept_as_it_was(client: Any, llm: FakeLlm, searched: Any, dump: str) -> None:
    if dump == "without nulls":
        output = [item.model_dump(exclude_none=True) for item in searched.output]
    else:
        output = [getattr(item, dump)() for item in searched.output]
    response = client.responses.create(model="fake", input=[{"role": "user", "content": "moon?"}, *output, NEXT])
    assert llm.chats()[-1]["messages"] == [{"role": "user", "content": "moon?"}, ANSWER, NEXT]
    listed = client.responses.input_items.list(response.id, order="asc")
    kept = [item.to_dict() for item in listed][1:-1]
    sent = [item.to_dict() for item in searched.output]
    assert less_ids(kept) == less_ids(sent)


def test_output_comes_back_into_a_conversation_and_over_a_socket(
    client: Any, gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, searched: Any
) -> None:
    output = [item.to_dict() for item in searched.output]
    conversation = client.conversations.create(items=output)
    items = list(client.conversations.items.list(conversation.id, order="asc", include=["file_search_call.results"]))
    assert less_ids([item.to_dict() for item in items]) == less_ids(output)
    again = client.conversations.items.create(conversation.id, items=[item.model_dump() for item in items])
    assert len(again.data) == len(items)
    with opened(gateway_url, gateway) as socket:
        send(socket, "response.create", model="fake", input=[*output, NEXT])
        assert text_of(turn(socket)) == "Rock [1]."
    assert llm.chats()[-1]["messages"] == [ANSWER, NEXT]


def test_a_reference_says_what_its_item_says_and_is_kept_as_a_copy(client: Any, llm: FakeLlm, searched: Any) -> None:
    asked = client.responses.input_items.list(searched.id).data[0]
    named = [{"type": "item_reference", "id": item.id} for item in (asked, *searched.output)]
    response = client.responses.create(model="fake", input=[*named[:1], {"id": named[1]["id"]}, *named[2:], NEXT])
    assert llm.chats()[-1]["messages"] == [{"role": "user", "content": "moon?"}, ANSWER, NEXT]
    listed = [item.to_dict() for item in client.responses.input_items.list(response.id, order="asc")]
    # What a search found is shown with the response that made it.
    sent = [item.to_dict() for item in (asked, *searched.output)]
    sent[1]["results"] = None
    assert less_ids(listed[:-1]) == less_ids(sent)
    assert not {item["id"] for item in listed} & {item["id"] for item in sent}
    client.responses.create(model="fake", input=[{"type": "item_reference", "id": listed[0]["id"]}])
    assert llm.chats()[-1]["messages"] == [{"role": "user", "content": "moon?"}]


@pytest.mark.parametrize("by", ["conversation", "previous_response_id"])
def test_references_name_items_of_their_conversation_and_chain(client: Any, llm: FakeLlm, by: str) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "first"}])
    (first,) = client.conversations.items.list(conversation.id).data
    response = client.responses.create(model="fake", input="hi", conversation=conversation.id)
    link = {"conversation": conversation.id} if by == "conversation" else {"previous_response_id": response.id}
    named = response.output[0].id if by == "previous_response_id" else first.id
    client.responses.create(model="fake", input=[{"type": "item_reference", "id": named}], **link)
    messages = llm.chats()[-1]["messages"]
    said = {"role": "assistant", "content": "Hello, this is the fake."}
    assert messages[:3] == [{"role": "user", "content": "first"}, {"role": "user", "content": "hi"}, said]
    assert messages[3:] == [said if by == "previous_response_id" else messages[0]]


def test_a_reference_to_what_is_not_there_is_not_found(client: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create()
    unstored = client.responses.create(model="fake", input="hi", store=False)
    deleted = client.responses.create(model="fake", input="hi")
    client.responses.delete(deleted.id)
    removed = client.responses.create(model="fake", input="hi", conversation=conversation.id)
    client.conversations.items.delete(removed.output[0].id, conversation_id=conversation.id)
    llm.hold_after = 1
    running = client.responses.create(model="fake", input="hi", background=True)
    wait_until(lambda: llm.running == 1)
    before = len(llm.chats())
    names = ["msg_none", "resp_", "x", running.id.replace("resp_", "msg_") + "000"]
    names += [one.output[0].id for one in (unstored, deleted, removed)]
    for name in names:
        for field, ask_for in (("input", client.responses.create), ("items", client.conversations.create)):
            more = {"model": "fake"} if field == "input" else {}
            with pytest.raises(openai.NotFoundError) as refused:
                ask_for(**{field: [NEXT, {"type": "item_reference", "id": name}]}, **more)
            assert refused.value.param == f"{field}[1].id"
            assert name in refused.value.message
    llm.release()
    assert len(llm.chats()) == before


def test_a_socket_names_items_of_what_it_did_not_store(gateway: GatewayFixture, gateway_url: str, llm: FakeLlm) -> None:
    with opened(gateway_url, gateway) as socket:
        ask(socket, store=False)
        output = turn(socket)[-1]["response"]["output"]
        named = {"type": "item_reference", "id": output[0]["id"]}
        send(socket, "response.create", model="fake", input=[named, NEXT])
        assert turn(socket)[-1]["type"] == "response.completed"
    assert llm.chats()[-1]["messages"][0]["role"] == "assistant"


def test_a_fenced_key_names_what_was_said_and_sends_nothing_of_the_models(
    key: Callable[..., Any], llm: FakeLlm
) -> None:
    llm.reasoning = ["I see."]
    client, fenced = key("api"), key("api", "server_state_only")
    kept = {"store": True, "include": ["reasoning.encrypted_content"]}
    thought, message = client.responses.create(model="fake", input="hi", **kept).output
    named = [{"type": "item_reference", "id": item.id} for item in (thought, message)]
    assert fenced.responses.create(model="fake", input=[*named, NEXT]).status == "completed"
    assert llm.chats()[-1]["messages"] == [{"role": "assistant", "content": message.content[0].text}, NEXT]
    operators = client.responses.create(model="fake", input=[{"role": "developer", "content": "Be kind."}])
    (item,) = client.responses.input_items.list(operators.id).data
    for sent in (thought.to_dict(), message.to_dict(), {"type": "item_reference", "id": item.id}):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            fenced.responses.create(model="fake", input=[sent, NEXT])
        assert refused.value.code == "server_state_only"
        with pytest.raises(openai.PermissionDeniedError) as refused:
            fenced.conversations.create(items=[sent])
        assert refused.value.code == "server_state_only"


def test_a_key_that_reads_no_conversations_names_nothing_in_them(key: Callable[..., Any]) -> None:
    client, narrow = key("api"), key("responses")
    conversation = client.conversations.create()
    inside = client.responses.create(model="fake", input="hi", conversation=conversation.id).output[0].id
    outside = client.responses.create(model="fake", input="hi").output[0].id
    assert narrow.responses.create(model="fake", input=[{"type": "item_reference", "id": outside}, NEXT])
    with pytest.raises(openai.PermissionDeniedError) as refused:
        narrow.responses.create(model="fake", input=[{"type": "item_reference", "id": inside}, NEXT])
    assert refused.value.param == "input[0]"
