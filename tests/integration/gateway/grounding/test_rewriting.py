"""Queries that a chat model writes: searched for beside the user's own words, bounded, and never needed."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import httpx
import openai
import orjson
import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.llm_shapes import Call
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found
from cloister_gateway.documents.search import search_of
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import Catalog, ModelUpstream
from cloister_gateway.models.catalog import ChatModel
from cloister_gateway.models.rewriting import QueryRewriter
from cloister_gateway.usage import Metering, Unmetered

from tests.support.gateway import GatewayFixture

TOOL = {"type": "file_search", "vector_store_ids": ["vs_1"], "rewrite_query": True}
QUERY = "minutes of the board of 2025"
EARLIER = [
    {"role": "user", "content": "What did the board decide in 2024?"},
    {"role": "assistant", "content": "A roof."},
]
ASKED = [*EARLIER, {"role": "user", "content": "And in 2025?"}]


@pytest.fixture(autouse=True)
def store(search: FakeRetriever, llm: FakeLlm) -> None:
    search.planted["vs_1"] = [found("The board decided on a pool.")]
    llm.respond = writing(f'Query: "{QUERY}"\nAnd more.')


def is_rewriting(body: dict[str, Any]) -> bool:
    return "search query" in str(body["messages"][0]["content"])


def writing(text: str) -> Any:
    """A model that writes this query, and answers with a word."""

    def respond(body: dict[str, Any]) -> Sequence[str | Call]:
        return [text] if is_rewriting(body) else ["Yes."]

    return respond


def rewritings(llm: FakeLlm) -> list[dict[str, Any]]:
    return [body for body in llm.chats() if is_rewriting(body)]


def test_a_follow_up_is_also_searched_for_by_a_query_that_stands_alone(
    client: Any, llm: FakeLlm, search: FakeRetriever
) -> None:
    response = client.responses.create(model="fake", input=ASKED, tools=[TOOL])
    own = ["And in 2025?", "What did the board decide in 2024?\nAnd in 2025?"]
    assert response.output[0].queries == search.searches[-1][1]["query"] == [*own, QUERY]
    [body] = rewritings(llm)
    assert "A roof." in body["messages"][1]["content"]
    assert (body["max_completion_tokens"], body["temperature"]) == (64, 0.0)
    assert response.tools[0].to_dict()["rewrite_query"] is True
    alone = client.responses.create(model="fake", input=ASKED, tools=[{**TOOL, "rewrite_query": False}])
    assert alone.output[0].queries == own
    assert response.usage.input_tokens > alone.usage.input_tokens, "what the query cost is in the usage"
    assert response.usage.output_tokens > alone.usage.output_tokens


def test_nothing_is_written_for_a_first_question_or_where_nobody_asks(client: Any, llm: FakeLlm) -> None:
    assert client.responses.create(model="fake", input="And in 2025?", tools=[TOOL]).output[0].queries == [
        "And in 2025?"
    ]
    unsaid = {name: value for name, value in TOOL.items() if name != "rewrite_query"}
    response = client.responses.create(model="fake", input=ASKED, tools=[unsaid])
    assert len(response.output[0].queries) == 2
    assert "rewrite_query" not in response.tools[0].to_dict()
    assert rewritings(llm) == []


@pytest.mark.parametrize("said", ["", "\n \n", '"…"'])
def test_a_model_that_says_nothing_leaves_the_search_as_it_is(client: Any, llm: FakeLlm, said: str) -> None:
    llm.respond = writing(said)
    response = client.responses.create(model="fake", input=ASKED, tools=[TOOL])
    assert len(response.output[0].queries) == 2
    assert response.status == "completed"


def test_what_the_model_writes_is_one_line_of_bounded_length(client: Any, llm: FakeLlm) -> None:
    llm.respond = writing("x\u202e\x07y " * 400)
    query = client.responses.create(model="fake", input=ASKED, tools=[TOOL]).output[0].queries[-1]
    assert len(query) == 300
    assert query.startswith("xy xy ")


def asked(url: str, gateway: GatewayFixture, **body: Any) -> httpx.Response:
    path = f"{url}/v1/vector_stores/vs_1/search"
    return httpx.post(path, headers=gateway.headers(), json=body, timeout=30)


def test_a_search_says_what_was_searched_for(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, search: FakeRetriever
) -> None:
    answer = asked(gateway_url, gateway, query="And in 2025?", rewrite_query=True).json()
    assert answer["search_query"] == search.searches[-1][1]["query"] == ["And in 2025?", QUERY]
    assert answer["query_rewritten"] is True
    assert answer["data"][0]["content"][0]["text"] == "The board decided on a pool."
    plain = asked(gateway_url, gateway, query="And in 2025?").json()
    assert plain["search_query"] == ["And in 2025?"]
    assert "query_rewritten" not in plain
    llm.refuse_status = 500
    answer = asked(gateway_url, gateway, query=["a", "b"], rewrite_query=True).json()
    assert (answer["search_query"], answer["query_rewritten"]) == (["a", "b"], False)


def test_a_model_that_takes_too_long_is_not_waited_for(gateway: GatewayFixture, gateway_url: str, llm: FakeLlm) -> None:
    llm.hold_after = 0
    answer = asked(gateway_url, gateway, query="And in 2025?", rewrite_query=True).json()
    assert (answer["search_query"], answer["query_rewritten"]) == (["And in 2025?"], False)
    llm.release()


def test_a_search_that_is_wrong_is_told_so_by_the_retriever(gateway: GatewayFixture, gateway_url: str) -> None:
    answer = asked(gateway_url, gateway, query="x", colour="red", rewrite_query=True)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "colour")


@pytest.mark.parametrize("query", [7, [], [7], None])
async def test_for_what_is_no_query_none_is_written(query: object) -> None:
    rewriter = QueryRewriter("m", Catalog([ChatModel("m", 100, 10)]), cast("ModelUpstream", None), seconds=1)
    caller = cast("Principal", SimpleNamespace(tenant="proj_a"))
    found = await search_of(
        orjson.dumps({"query": query, "rewrite_query": True}), caller, rewriter, Metering(Unmetered())
    )
    assert (orjson.loads(found.body), found.rewritten) == ({"query": query, "rewrite_query": False}, None)
    broken = b'{"rewrite_query": true'
    assert (await search_of(broken, caller, rewriter, Metering(Unmetered()))).body == broken


def test_without_a_model_for_it_it_is_refused_by_name(fresh_gateway: GatewayFixture, fresh_url: str) -> None:
    answer = asked(fresh_url, fresh_gateway, query="x", rewrite_query=True)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "rewrite_query")
    with (
        openai.OpenAI(base_url=f"{fresh_url}/v1", api_key=fresh_gateway.project_key, max_retries=0) as client,
        pytest.raises(openai.BadRequestError) as refused,
    ):
        client.responses.create(model="fake", input="x", tools=[TOOL])  # type: ignore[list-item] # ours in it
    assert refused.value.param == "tools[0].rewrite_query"
