"""What may be said of models that rest, and what those who wait for one are told."""

import asyncio
from functools import partial
from typing import Any

import pytest
from cloister_gateway.model_settings import ModelSettings
from cloister_gateway.models.catalog import model_of
from cloister_gateway.models.schemas import ModelEntry, entry_body
from cloister_gateway.models.waking.line import Line
from cloister_gateway.models.waking.records import Phase, Standing
from pydantic import ValidationError

from tests.support.waiting import until

URLS: dict[str, Any] = {"urls": ["http://10.0.0.1"], "context_tokens": 2048}
WORKLOAD = {"namespace": "chat", "kind": "deployment", "name": "llm"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"waking": {"idle_seconds": 5}}, "waking is for mode serverless and mode sleep"),
        ({"mode": "serverless"}, "needs waking.workload"),
        ({"mode": "serverless", "waking": {"queue": 5}}, "needs waking.workload"),
        ({"mode": "sleep", "waking": {"workload": WORKLOAD}}, "is for mode serverless"),
        ({"mode": "sleep", "urls": [], "pool": {"url": "http://10.0.0.1"}}, "which pool does not tell"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_mend(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ModelSettings.model_validate(URLS | fields)


@pytest.mark.parametrize(
    "rests",
    [
        {"mode": "serverless", "waking": {"workload": WORKLOAD, "idle_seconds": 60.0, "replicas": 2}},
        {"mode": "sleep", "waking": {"sleep_level": 2, "queue": 5}},
        {"mode": "sleep"},
    ],
)
def test_an_entry_is_shown_as_it_may_be_entered_again(rests: dict[str, Any]) -> None:
    model = model_of("m", ModelSettings.model_validate(URLS | rests))
    shown = entry_body(model, in_force=True, ready=False)
    again = ModelEntry.model_validate({"name": "m", **URLS, "mode": shown["mode"], "waking": shown["waking"]})
    assert model_of("m", ModelSettings.model_validate(again.fields() | URLS)) == model


async def test_whoever_waits_is_told_each_change_once_and_the_end() -> None:
    line = Line()
    told: list[Standing] = []
    line.join("a", 1)
    line.join("b", 2)
    waiting = asyncio.ensure_future(line.until_over("b", told.append))
    changes: list[tuple[Phase, dict[str, int]]] = [
        ("scheduling", {"a": 1, "b": 2}),
        ("scheduling", {"a": 1, "b": 2}),
        ("scheduling", {"b": 1}),
        ("loading", {"b": 1}),
    ]
    for phase, positions in changes:
        line.note(phase, positions)
        newest = Standing(positions["b"], phase)
        await until(partial(lambda newest: told[-1:] == [newest], newest))
    line.note("ready", {"b": 1})
    line.end(awake=True)
    await waiting
    assert told == [
        Standing(2, "scheduling"),
        Standing(1, "scheduling"),
        Standing(1, "loading"),
        Standing(1, "ready"),
    ]
