"""Calls of functions as they come from a model, and the events that they become."""

from typing import Any

import orjson
import pytest
from cloister_common.errors import Forbidden, InvalidRequest
from cloister_gateway.identity.principal import Credential, Principal
from cloister_gateway.prompt import History
from cloister_gateway.runs.calls import Calls, MadeCall
from cloister_gateway.runs.returned import check_all_returned, check_returned
from cloister_gateway.runs.transcript import Transcript
from cloister_gateway.wire.items import item_messages

KEY = Principal("proj", "svc", Credential("api_key", "key_1"), frozenset({"api"}))
FENCED = Principal("proj", "svc", Credential("api_key", "key_1"), frozenset({"api", "server_state_only"}))


def piece(index: int, arguments: str = "", name: str | None = None) -> dict[str, Any]:
    return {"index": index, "function": {"arguments": arguments} | ({"name": name} if name else {})}


def fed(*, parallel: bool = True) -> Calls:
    calls = Calls(["f", "g"], parallel=parallel)
    calls.feed([piece(0, name="f")])
    calls.feed([piece(0, '{"a":'), piece(0, "1}")])
    calls.feed([piece(1, name="g"), piece(1, '{"b"')])
    return calls


def test_calls_are_put_together_from_their_pieces() -> None:
    calls = fed()
    calls.feed([piece(1, ":2}"), piece(2, name="f")])
    made, text = calls.finish(cut=False)
    assert [(call.name, call.arguments) for call in made] == [("f", '{"a":1}'), ("g", '{"b":2}'), ("f", "{}")]
    assert len({call.call_id for call in made}) == 3
    assert text == ""


def test_what_an_answer_was_cut_in_is_no_call() -> None:
    made, _ = fed().finish(cut=True)
    assert [call.name for call in made] == ["f"]


def test_only_the_first_counts_where_calls_may_not_be_parallel() -> None:
    made, _ = fed(parallel=False).finish(cut=False)
    assert [call.name for call in made] == ["f"]


def test_a_call_of_what_there_is_not_stays_text() -> None:
    calls = Calls(["f"], parallel=True)
    calls.feed([piece(0, '{"a":1}', name="rm -rf")])
    assert calls.finish(cut=False) == ([], '{"name":"rm -rf","arguments":"{\\"a\\":1}"}')


def test_a_generation_that_begins_again_makes_its_calls_anew() -> None:
    calls = fed()
    calls.restart()
    assert (calls.pieces, calls.finish(cut=False)) == (0, ([], ""))


def test_the_events_of_calls_come_in_openais_order() -> None:
    transcript = Transcript({"id": "resp_1", "status": "in_progress", "output": [], "usage": None})
    transcript.calls = [MadeCall("call_1", "f", '{"a":1}'), MadeCall("call_2", "g", "{}")]
    transcript.show_calls()
    events = [orjson.loads(event) for event in transcript.take_pending()[1]]
    assert [event["type"].removeprefix("response.") for event in events] == [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ] * 2
    added, delta, done, ended = events[:4]
    item = transcript.output[0]
    assert added["item"] == {**item, "status": "in_progress", "arguments": ""}
    assert {event["item_id"] for event in (delta, done)} == {item["id"]}
    assert (delta["delta"], done["arguments"], ended["item"]) == ('{"a":1}', '{"a":1}', item)
    assert (item["status"], item["call_id"], item["name"]) == ("completed", "call_1", "f")
    assert [event["output_index"] for event in events] == [0] * 4 + [1] * 4


def call(call_id: str, item_id: str = "fc_1") -> dict[str, Any]:
    return {"id": item_id, "type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}


def output(call_id: str) -> dict[str, Any]:
    return {"id": "fco_1", "type": "function_call_output", "call_id": call_id, "output": "x"}


def before(*items: dict[str, Any]) -> History:
    return History.of(item_messages(items))


@pytest.mark.parametrize(
    ("history", "items", "param", "says"),
    [
        (before(), [output("a")], "input[0].call_id", "No tool call found for function call output with call_id 'a'"),
        (before(call("a"), output("a")), [output("a")], "input[0].call_id", "has its output already"),
        (before(call("a")), [output("a"), output("a")], "input[1].call_id", "has its output already"),
        (before(), [call("a"), output("a"), output("a")], "input[2].call_id", "has its output already"),
        (before(), [output("a"), call("a")], "input[0].call_id", "No tool call found"),
        (before(call("a"), output("a")), [call("a")], "input[0].call_id", "already"),
        (before(), [call("a"), call("a")], "input[1].call_id", "already"),
    ],
)
def test_outputs_and_calls_that_do_not_fit_are_named(
    history: History, items: list[dict[str, Any]], param: str, says: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_returned(KEY, history, items, "input")
    assert refused.value.param == param
    assert says in refused.value.message


@pytest.mark.parametrize(("history", "items"), [(before(call("a")), []), (before(), [call("a")])])
def test_no_model_goes_on_before_every_call_has_returned(history: History, items: list[dict[str, Any]]) -> None:
    with pytest.raises(InvalidRequest, match="No tool output found for function call a"):
        check_all_returned(history, items, "input")
    check_all_returned(history, [*items, output("a")], "input")


def test_a_fenced_key_answers_only_calls_that_the_model_made() -> None:
    check_returned(FENCED, before(call("a")), [output("a")], "items")
    check_returned(KEY, before(call("a", "fci_1")), [output("a")], "items")
    with pytest.raises(Forbidden) as refused:
        check_returned(FENCED, before(call("a", "fci_1")), [output("a")], "items")
    assert (refused.value.param, refused.value.error_code) == ("items[0].call_id", "server_state_only")
