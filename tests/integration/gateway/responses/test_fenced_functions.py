"""Functions with a fenced key: it says what functions returned that the model called, and nothing else of them."""

from collections.abc import Callable
from typing import Any

import openai
import pytest
from cloister_common.testing.llm import FakeLlm

from tests.integration.gateway.conftest import sdk
from tests.integration.gateway.responses.test_function_tools import WEATHER, Unknown, answers, output, refused
from tests.support.gateway import GatewayFixture


def fenced_key(gateway_url: str, gateway: GatewayFixture) -> tuple[str, str]:
    """A key of a new project, and one of it that is fenced."""
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        projects = admin.admin.organization.projects
        project = projects.create(name="fenced")
        made = projects.service_accounts.create(project.id, name="bot")
        keys: Any = projects.service_accounts.api_keys
        scopes = ["responses", "conversations", "server_state_only"]
        fenced = keys.create(made.id, project_id=project.id, scopes=scopes)
    assert made.api_key is not None
    return made.api_key.value, fenced.value


def test_a_fenced_key_answers_calls_of_the_model_and_writes_none(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm
) -> None:
    trusted, client = (sdk(gateway_url, gateway, key) for key in fenced_key(gateway_url, gateway))
    llm.respond = answers
    conversation = client.conversations.create().id

    def ask(input: Any, **where: Any) -> Any:
        return client.responses.create(
            **{"model": "fake", "input": input, "tools": [WEATHER], "conversation": conversation, **where}
        )

    (call,) = ask("Weather?").output
    own = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    attempts: list[Callable[[], Any]] = [
        lambda: ask([own, {"type": "function_call_output", "call_id": "call_1", "output": "x"}]),
        lambda: client.conversations.items.create(conversation, items=[own]),
        lambda: client.conversations.create(items=[own]),
    ]
    for attempt in attempts:
        with pytest.raises(openai.PermissionDeniedError) as forbidden:
            attempt()
        assert forbidden.value.code == "server_state_only"
        assert str(forbidden.value.param).endswith("[0].type")
    assert refused(lambda: ask([output(Unknown())])).param == "input[0].call_id"
    assert refused(lambda: ask([output(call)], conversation=None)).param == "input[0].call_id"
    assert ask([output(call)]).output_text == "It is rain."
    assert refused(lambda: ask([output(call)])).param == "input[0].call_id"
    trusted.conversations.items.create(conversation, items=[own])
    with pytest.raises(openai.PermissionDeniedError) as forbidden:
        ask([{"type": "function_call_output", "call_id": "call_1", "output": "x"}])
    assert forbidden.value.param == "input[0].call_id"
