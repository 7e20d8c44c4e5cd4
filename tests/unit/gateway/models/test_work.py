"""Classes of work, by their urgency."""

import pytest
from cloister_gateway.models.work import WorkClass, class_of
from cloister_gateway.runs.records import TurnRequest


def test_what_is_more_urgent_has_the_lower_priority_and_what_names_none_is_interactive() -> None:
    assert [work.priority for work in WorkClass] == sorted({work.priority for work in WorkClass})
    assert WorkClass.INTERACTIVE.priority == 0


@pytest.mark.parametrize("tier", [None, "auto", "default", "scale", "priority", "fast", "ultrafast"])
def test_no_other_tier_than_flex_is_told_apart(tier: str | None) -> None:
    assert class_of(service_tier=tier) is WorkClass.INTERACTIVE
    assert class_of(background=True, service_tier=tier) is WorkClass.BACKGROUND


@pytest.mark.parametrize("background", [False, True])
def test_a_request_of_a_version_before_is_of_the_class_that_it_had(background: bool) -> None:
    stored = TurnRequest.model_validate({"model": "fake", "input": [], "background": background})
    assert stored.work_class is class_of(background=background)


def test_the_class_of_a_stored_request_is_what_it_was_given() -> None:
    stored = TurnRequest.model_validate({"model": "fake", "input": [], "work": "batch"})
    assert stored.work_class is WorkClass.BATCH
