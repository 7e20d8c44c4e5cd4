"""How much a model shall think is asked of models that think."""

import pytest
from cloister_common.errors import UnsupportedParameter
from cloister_gateway.model_settings import ModelSettings
from cloister_gateway.models import Catalog
from cloister_gateway.models.reasoning import Effort, check_effort


def catalog(*, reasoning: bool | None) -> Catalog:
    settings = {"urls": ["http://pod"], "context_tokens": 2048, "reasoning": reasoning}
    return Catalog.of({"m": ModelSettings.model_validate(settings)})


@pytest.mark.parametrize("effort", ["minimal", "low", "medium", "high", "xhigh", "max"])
def test_an_effort_of_a_model_that_does_not_think_is_refused_by_the_name_it_was_sent_under(effort: Effort) -> None:
    with pytest.raises(UnsupportedParameter) as refused:
        check_effort(catalog(reasoning=False).get("m"), effort, param="reasoning.effort")
    assert refused.value.param == "reasoning.effort"


@pytest.mark.parametrize("reasoning", [True, None])
def test_an_effort_is_taken_for_a_model_that_may_think(reasoning: bool | None) -> None:
    check_effort(catalog(reasoning=reasoning).get("m"), "high", param="reasoning.effort")


@pytest.mark.parametrize("effort", [None, "none"])
def test_any_model_can_do_without_thinking(effort: Effort | None) -> None:
    check_effort(catalog(reasoning=False).get("m"), effort, param="reasoning_effort")
