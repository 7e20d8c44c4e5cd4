"""Turns with file search: the events, the results, the documents' turn, and citations that point at real passages."""

from functools import partial
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found

from tests.integration.gateway.conftest import joined_text, sdk
from tests.support.gateway import GatewayFixture
from tests.support.waiting import wait_until

TOOL = {"type": "file_search", "vector_store_ids": ["vs_1"]}


@pytest.fixture(autouse=True)
def store(search: FakeRetriever) -> None:
    search.planted["vs_1"] = [
        found("The moon is made of rock.", file_id="file-moon", filename="moon.md", page=2, section="Facts"),
        found("The sun is a star.", file_id="file-sun", filename="sun.md"),
    ]


def test_events_of_a_search_come_in_openais_order(client: Any, llm: FakeLlm) -> None:
    llm.answer = ["Rock", " [1]", ". A", " star", " [", "2", "].", " Or", " [7]", " a[0]", "?"]
    events = list(client.responses.create(model="fake", input="What is the moon?", tools=[TOOL], stream=True))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    call, message = events[-1].response.output
    assert (call.type, call.status, call.queries, call.results) == (
        "file_search_call", "completed", ["What is the moon?"], None
    )  # fmt: skip
    text = "Rock. A star. Or a[0]?"
    assert joined_text(events) == message.content[0].text == text
    cited = [(one.file_id, one.filename, one.index) for one in message.content[0].annotations]
    assert cited == [("file-moon", "moon.md", 4), ("file-sun", "sun.md", 12)]
    assert message.content[0].annotations[0].to_dict() | {"page": 2, "section": "Facts"} == (
        message.content[0].annotations[0].to_dict()
    )


def test_a_marker_of_a_passage_that_says_something_else_is_no_citation(client: Any, llm: FakeLlm) -> None:
    llm.answer = ["The moon is not made of rock", " [1]", ". The sun is a star", " [2]."]
    message = client.responses.create(model="fake", input="What is the moon?", tools=[TOOL]).output[1]
    assert message.content[0].text == "The moon is not made of rock. The sun is a star."
    (citation,) = message.content[0].annotations
    assert (citation.file_id, citation.index, citation.quote) == ("file-sun", 47, "The sun is a star.")


def test_passages_come_in_a_turn_of_their_own_before_the_question(client: Any, llm: FakeLlm) -> None:
    client.responses.create(model="fake", input="What?", instructions="be kind", tools=[TOOL])
    system, documents, question = llm.chats()[-1]["messages"]
    assert [message["role"] for message in (system, documents, question)] == ["system", "user", "user"]
    assert system["content"].startswith("be kind")
    assert "moon.md" not in system["content"]
    assert "| The moon is made of rock." in documents["content"]
    assert "[1] moon.md, page 2, Facts" in documents["content"]
    assert question["content"] == "What?"


def test_results_are_shown_to_those_who_ask(client: Any) -> None:
    response = client.responses.create(
        model="fake", input="What?", tools=[{**TOOL, "max_num_results": 1}], include=["file_search_call.results"]
    )
    results = response.output[0].results
    assert [(result.file_id, result.filename, result.text) for result in results] == [
        ("file-moon", "moon.md", "The moon is made of rock.")
    ]


def test_results_are_kept_for_those_who_ask_later_and_hidden_from_the_rest(client: Any, other: Any) -> None:
    conversation = client.conversations.create()
    response = client.responses.create(model="fake", input="What?", tools=[TOOL], conversation=conversation.id)
    asked: dict[str, Any] = {"include": ["file_search_call.results"]}
    call = response.output[0]
    item = other.conversations.items.retrieve
    shown = [
        other.responses.retrieve(response.id, **asked).output[0],
        next(one for one in other.conversations.items.list(conversation.id, **asked) if one.id == call.id),
        item(call.id, conversation_id=conversation.id, **asked),
    ]
    for one in shown:
        assert [result.filename for result in one.results] == ["moon.md", "sun.md"]
    hidden = [
        call,
        other.responses.retrieve(response.id).output[0],
        next(one for one in other.conversations.items.list(conversation.id) if one.id == call.id),
        item(call.id, conversation_id=conversation.id),
    ]
    assert [one.results for one in hidden] == [None] * 4


def test_include_takes_all_that_openai_knows_and_refuses_the_rest_everywhere(client: Any) -> None:
    conversation = client.conversations.create(items=[{"role": "user", "content": "hi"}])
    response = client.responses.create(model="fake", input="hi")
    for one in (
        partial(client.responses.retrieve, response.id),
        partial(client.responses.input_items.list, response.id),
        partial(client.conversations.items.list, conversation.id),
    ):
        one(include=["file_search_call.results", "reasoning.encrypted_content", "message.output_text.logprobs"])
        with pytest.raises(openai.BadRequestError) as refused:
            one(include=["file_search_call.results", "everything"])
        assert (refused.value.code, refused.value.param) == ("invalid_value", "include")


def test_search_options_and_the_last_questions_reach_the_retriever(client: Any, search: FakeRetriever) -> None:
    filters = {"type": "eq", "key": "team", "value": "a"}
    weights = {"embedding_weight": 0.5, "text_weight": 2.0}
    options = {"ranker": "default-2024-11-15", "score_threshold": 0.2, "hybrid_search": weights}
    conversation = client.conversations.create(items=[{"role": "user", "content": "About the moon."}])
    client.responses.create(
        model="fake",
        input="Of what is it made?",
        conversation=conversation.id,
        tools=[{**TOOL, "filters": filters, "ranking_options": options, "max_num_results": 3}],
    )
    tenant, body = search.searches[-1]
    assert tenant.startswith("proj_")
    assert (body["filters"], body["ranking_options"], body["max_num_results"]) == (filters, options, 3)
    assert body["query"] == ["Of what is it made?", "About the moon.\nOf what is it made?"]


def test_tool_choice_none_does_not_search(client: Any, search: FakeRetriever) -> None:
    response = client.responses.create(model="fake", input="What?", tools=[TOOL], tool_choice="none")
    assert [item.type for item in response.output] == ["message"]
    assert search.searches == []


def test_without_a_question_nothing_is_searched(client: Any, search: FakeRetriever) -> None:
    response = client.responses.create(model="fake", input=[{"role": "system", "content": "Say hi."}], tools=[TOOL])
    assert response.status == "completed"
    assert search.searches == []


@pytest.mark.parametrize(("status", "code"), [(500, "server_error"), (429, "rate_limit_exceeded")])
def test_a_search_that_fails_fails_the_response_and_closes_the_call(
    status: int, code: str, client: Any, search: FakeRetriever
) -> None:
    search.refuse_status = status
    events = list(client.responses.create(model="fake", input="What?", tools=[TOOL], stream=True))
    failed = events[-1].response
    assert (events[-1].type, failed.error.code) == ("response.failed", code)
    assert [item.status for item in failed.output] == ["failed"]
    assert [event.item.status for event in events if event.type == "response.output_item.done"] == ["failed"]


def test_an_unknown_store_is_a_404_before_anything_is_stored(client: Any) -> None:
    conversation = client.conversations.create().id
    unknown = {**TOOL, "vector_store_ids": ["vs_1", "vs_other"]}
    with pytest.raises(openai.NotFoundError) as refused:
        client.responses.create(model="fake", input="What?", conversation=conversation, tools=[unknown])
    assert refused.value.param == "tools[0].vector_store_ids"
    assert "'vs_other'" in refused.value.message
    assert list(client.conversations.items.list(conversation)) == []


def test_a_repeated_request_gets_its_response_although_the_store_is_gone(client: Any, search: FakeRetriever) -> None:
    ask = {"model": "fake", "input": "What?", "tools": [TOOL], "extra_headers": {"idempotency-key": "gone-store"}}
    first = client.responses.create(**ask)
    del search.planted["vs_1"]
    assert client.responses.create(**ask).id == first.id
    with pytest.raises(openai.ConflictError):
        client.responses.create(**{**ask, "input": "Who?"})


def test_a_store_that_goes_before_the_search_is_the_callers_fault(client: Any, search: FakeRetriever) -> None:
    search.gone_after_look = {"vs_1"}
    response = client.responses.create(model="fake", input="What?", tools=[TOOL])
    assert (response.status, response.error.code) == ("failed", "invalid_prompt")


def test_structured_answers_keep_their_brackets_and_are_not_asked_for_markers(client: Any, llm: FakeLlm) -> None:
    llm.answer = ['{"rooms"', ":[[1]],", '"label":"Room', " [2]", '"}']
    form = {"type": "json_schema", "name": "rooms", "schema": {"type": "object"}}
    response = client.responses.create(model="fake", input="Which?", tools=[TOOL], text={"format": form})
    assert response.output_text == "".join(llm.answer)
    grounding = llm.chats()[-1]["messages"][0]["content"]
    assert "excerpts" in grounding
    assert "square brackets" not in grounding


def test_an_answer_whose_sources_could_not_be_looked_for_says_so(
    gateway: GatewayFixture, client: Any, llm: FakeLlm
) -> None:
    llm.answer = ["The moon is made of rock."]
    embedder = gateway.settings.embedder.model_copy(update={"attribution_model": "away"})
    settings = gateway.settings.model_copy(update={"embedder": embedder})
    with GatewayFixture(settings, gateway.project_key, gateway.admin_key).serve() as url:
        response = sdk(url, gateway).responses.create(model="fake", input="What is the moon?", tools=[TOOL])
    assert (response.status, response.output_text) == ("completed", "The moon is made of rock.")
    assert response.citation_details == {"status": "partial"}
    assert client.responses.retrieve(response.id).citation_details == {"status": "partial"}
    assert client.responses.create(model="fake", input="hi").citation_details is None


@pytest.mark.parametrize("stream", [False, True])
def test_a_question_that_no_passage_is_about_is_not_in_the_documents(
    client: Any, search: FakeRetriever, llm: FakeLlm, stream: bool
) -> None:
    search.planted["vs_1"] = [{**found("The moon is made of rock."), "score": 0.05}]
    ask = {"model": "fake", "input": "Who sells tea?", "tools": [TOOL], "include": ["file_search_call.results"]}
    if stream:
        events = list(client.responses.create(**ask, stream=True))
        (call,) = [e.item for e in events if e.type == "response.output_item.done" and e.item.type != "message"]
    else:
        call = client.responses.create(**ask).output[0]
    assert (call.status, call.results, call.coverage) == ("completed", [], "not_in_documents")
    system, question = llm.chats()[-1]["messages"]
    assert "not in the documents" in system["content"]
    assert question["content"] == "Who sells tea?"


def test_a_store_without_text_says_so_to_the_model_and_to_the_caller(
    client: Any, search: FakeRetriever, llm: FakeLlm
) -> None:
    search.planted["vs_1"] = []
    conversation = client.conversations.create()
    call = client.responses.create(model="fake", input="What?", tools=[TOOL], conversation=conversation.id).output[0]
    assert call.coverage == "no_documents"
    assert "there are no documents" in llm.chats()[-1]["messages"][0]["content"]
    kept = client.conversations.items.retrieve(call.id, conversation_id=conversation.id)
    assert kept.coverage == "no_documents"


def test_filters_that_let_nothing_through_do_not_say_that_there_are_no_documents(
    client: Any, search: FakeRetriever
) -> None:
    tool = {**TOOL, "filters": {"type": "eq", "key": "team", "value": "nobody"}}
    assert client.responses.create(model="fake", input="What?", tools=[tool]).output[0].coverage == "not_in_documents"


def test_who_sets_a_threshold_gets_what_passes_it(client: Any, search: FakeRetriever, llm: FakeLlm) -> None:
    search.planted["vs_1"] = [{**found("The moon is made of rock."), "score": 0.05}]
    tool = {**TOOL, "ranking_options": {"score_threshold": 0}}
    assert client.responses.create(model="fake", input="What?", tools=[tool]).output[0].coverage == "found"
    assert "| The moon is made of rock." in llm.chats()[-1]["messages"][1]["content"]


def test_text_in_brackets_stays_where_nothing_was_found(client: Any, search: FakeRetriever, llm: FakeLlm) -> None:
    search.planted["vs_1"] = []
    llm.answer = ["See", " [1]", "."]
    response = client.responses.create(model="fake", input="What?", tools=[TOOL])
    assert response.output_text == "See [1]."


def test_what_a_search_found_is_shown_while_the_answer_is_written(client: Any, llm: FakeLlm) -> None:
    llm.hold_after = 1
    created = client.responses.create(model="fake", input="the moon?", tools=[TOOL], background=True)
    include = ["file_search_call.results"]
    wait_until(lambda: client.responses.retrieve(created.id).output_text, what="the answer has begun")
    running = client.responses.retrieve(created.id, include=include)
    assert running.status == "in_progress"
    llm.release()
    wait_until(lambda: client.responses.retrieve(created.id).status == "completed", what="the end")
    ended = client.responses.retrieve(created.id, include=include)
    assert [one.file_id for one in running.output[0].results] == ["file-moon", "file-sun"]
    assert running.output[0] == ended.output[0]
