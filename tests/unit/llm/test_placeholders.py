"""Where images go: at placeholders that only the template can have written, or nowhere."""

from dataclasses import dataclass
from typing import Any

import pytest
from cloister_common.errors import InvalidRequest
from cloister_llm.rendering.placeholders import keep_placeholders

IMAGE, TEXT = 7, 100


@dataclass
class Update:
    target: Any


class Processor:
    """As vLLM's: what it does not find among the ids it looks for in the text."""

    def _apply_prompt_updates(self, token_ids: list[int], updates: dict[str, list[list[Update]]]) -> list[int]:
        (target,) = (update.target for item in updates["image"] for update in item)
        if isinstance(target, list) and target[0] not in token_ids:
            return self._apply_prompt_updates_via_text(token_ids, updates)
        return [*token_ids, -1]

    def _apply_prompt_updates_via_text(self, token_ids: list[int], updates: Any) -> list[int]:
        return [*token_ids, -2]


@pytest.fixture
def kept() -> Processor:
    processor = Processor()
    keep_placeholders(processor, {IMAGE})
    return processor


def put(processor: Processor, ids: list[int], target: Any) -> list[int]:
    return processor._apply_prompt_updates(ids, {"image": [[Update(target)]]})


def test_an_image_goes_where_its_placeholder_is(kept: Processor) -> None:
    assert put(kept, [TEXT, IMAGE], [IMAGE]) == [TEXT, IMAGE, -1]


def test_one_that_has_a_place_by_number_goes_there(kept: Processor) -> None:
    assert put(kept, [TEXT], object()) == [TEXT, -1]


def test_the_text_of_a_prompt_is_never_searched(kept: Processor) -> None:
    assert put(Processor(), [TEXT], [IMAGE]) == [TEXT, -2]
    with pytest.raises(InvalidRequest, match="chat template"):
        put(kept, [TEXT], [IMAGE])


def test_a_placeholder_that_anybody_could_write_is_none(kept: Processor) -> None:
    with pytest.raises(InvalidRequest, match="ordinary text"):
        put(kept, [TEXT], [TEXT])
