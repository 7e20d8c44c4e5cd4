"""Sealed, versioned records: what opens, what does not, and what an error shows of them."""

from typing import Any

import pytest
from cloister_common.vault import DataKey, VaultError
from cloister_gateway.prompt import Layout, Parts
from cloister_gateway.runs.records import OUTCOME, PROMPT, REQUEST, TokenCount, TurnRequest
from cloister_gateway.storage import RESPONSE, KeyedObject, SealedField, seal_field

KEYED = KeyedObject(RESPONSE, "resp_1", DataKey(bytes(32), tenant="proj_a"))
ASKED: dict[str, Any] = {"model": "m", "input": [{"id": "msg_1", "type": "message", "content": []}], "affinity": "a"}


def stored(field: SealedField[Any], value: Any) -> bytes:
    return seal_field(KEYED.key, KEYED.kind, KEYED.id, field.name, value)


def test_a_record_without_a_version_is_of_the_first() -> None:
    request = REQUEST.open(KEYED, stored(REQUEST, ASKED))
    assert (request.v, request.input, request.earlier) == (1, ASKED["input"], None)


def test_what_a_later_version_adds_is_passed_over() -> None:
    assert REQUEST.open(KEYED, stored(REQUEST, {**ASKED, "later": 1})) == TurnRequest(**ASKED)


@pytest.mark.parametrize(
    "altered", [{**ASKED, "v": 2}, {**ASKED, "model": None}, {"model": "m"}, {**ASKED, "tools": "secret words"}, []]
)
def test_what_lacks_its_type_does_not_open_and_is_not_shown(altered: Any) -> None:
    with pytest.raises(VaultError) as refused:
        REQUEST.open(KEYED, stored(REQUEST, altered))
    assert refused.value.__cause__ is None
    assert "secret words" not in repr(refused.value)


def test_a_field_opens_as_itself_only() -> None:
    with pytest.raises(VaultError):
        OUTCOME.open(KEYED, stored(PROMPT, {"status": "completed"}))
    with pytest.raises(VaultError):
        OUTCOME.open(KEYED._replace(id="resp_2"), stored(OUTCOME, {"status": "completed"}))
    with pytest.raises(VaultError):
        OUTCOME.open(KEYED, None)


def test_an_outcome_changes_only_what_it_knows() -> None:
    outcome = OUTCOME.open(KEYED, stored(OUTCOME, {"status": "cancelled", "truncation_details": None}))
    assert outcome.changes() == {"status": "cancelled"}


def test_usage_has_openais_shape() -> None:
    assert TokenCount(prompt=7, cached=2, output=3).usage().model_dump() == {
        "input_tokens": 7,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 10,
        "cloister": None,
    }


def test_usage_tells_the_prompts_parts_apart_and_they_sum_to_it() -> None:
    tokens = TokenCount(prompt=50, query_prompt=7, layout=Layout(Parts(system=100, history=300, tools=9, new=50)))
    usage = tokens.usage()
    parts = usage.cloister
    assert parts is not None
    assert parts.model_dump() == {"system": 9, "history": 27, "retrieved": 7, "tools": 9, "new": 5}
    assert sum(parts.model_dump().values()) == usage.input_tokens == 57
