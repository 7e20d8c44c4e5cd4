"""Pods come and go: two gateways serve one conversation, and no part's end loses what was acknowledged."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.e2e.test_conversations import LAST
from tests.e2e_cluster.conftest import Connect
from tests.support.cluster import Installation
from tests.support.waiting import wait_until

CHAT_MODEL = "SmolLM2-135M-Instruct"
NOTE = b"# Ferry\n\nThe ferry to Hestholm leaves at 06:45 from pier nine.\n"


def test_two_gateways_serve_one_conversation_and_one_stream(installation: Installation, connect: Connect) -> None:
    installation.run("kubectl", "scale", "deployment/cloister-gateway", "--replicas=2")
    installation.wait_until_whole()
    first, second = (connect(f"pod/{name}") for name in sorted(installation.pods("gateway")))
    conversation = first.conversations.create()
    for turn, client in enumerate((first, second, first)):
        client.responses.create(
            model=CHAT_MODEL, input=f"This is turn {turn}.", conversation=conversation.id, max_output_tokens=8
        )
    items = [list(client.conversations.items.list(conversation.id, order="asc")) for client in (first, second)]
    assert items[0] == items[1]
    assert [item.role for item in items[0]] == ["user", "assistant"] * 3

    begun = first.responses.create(
        model=CHAT_MODEL, input="Tell me a story.", stream=True, background=True, max_output_tokens=48
    )
    seen = [next(begun), next(begun)]
    elsewhere = list(second.responses.retrieve(seen[0].response.id, stream=True, starting_after=1))
    assert [event.sequence_number for event in elsewhere] == list(range(2, len(elsewhere) + 2))
    assert elsewhere[-1].type in LAST
    assert list(begun) == elsewhere


def test_a_stream_goes_on_when_its_gateway_dies(installation: Installation, connect: Connect) -> None:
    doomed, other = sorted(installation.pods("gateway"))
    begun = connect(f"pod/{doomed}").responses.create(
        model=CHAT_MODEL, input="Tell me a long story.", stream=True, background=True, max_output_tokens=160
    )
    seen = [next(begun) for _ in range(6)]
    installation.run("kubectl", "delete", "pod", doomed, "--grace-period=0", "--force", seconds=120)
    rest = list(connect(f"pod/{other}").responses.retrieve(seen[0].response.id, stream=True, starting_after=5))
    assert [event.sequence_number for event in rest] == list(range(6, len(rest) + 6))
    assert rest[-1].type in {"response.completed", "response.incomplete"}
    installation.wait_until_whole()


def test_everybody_is_served_while_the_model_computes_flat_out(installation: Installation, connect: Connect) -> None:
    """Long answers keep every processor of the node busy; what is asked meanwhile is neither refused nor taken over."""
    # From now on: the test before this one has a run taken over on purpose.
    begun = datetime.now(UTC).isoformat(timespec="seconds")
    client = connect("svc/cloister-gateway").with_options(max_retries=0)
    busy = [
        client.responses.create(
            model=CHAT_MODEL, input=f"Tell me long story {number}.", background=True, max_output_tokens=400
        ).id
        for number in range(12)
    ]
    for turn in range(10):
        conversation = client.conversations.create()
        answer = client.responses.create(
            model=CHAT_MODEL, input=f"Turn {turn}.", conversation=conversation.id, max_output_tokens=4
        )
        assert answer.status in {"completed", "incomplete"}
    states = {client.responses.retrieve(name).status for name in busy}
    assert states & {"queued", "in_progress"}, "the model was not busy to the end: ask for longer answers"
    for name in busy:
        client.responses.cancel(name)
    for pod in installation.pods("gateway"):
        assert "run_adopted" not in installation.run("kubectl", "logs", pod, f"--since-time={begun}")


def test_milvus_ends_when_it_is_told_to(installation: Installation) -> None:
    """A container that does not heed the signal is killed at the end of its grace, with what it has not written yet."""
    (pod,) = installation.pods("milvus")
    installation.run("kubectl", "exec", pod, "-c", "milvus", "--", "sh", "-c", "kill 1")

    def ended() -> dict[str, Any]:
        statuses = installation.pods("milvus")[pod]["status"]["containerStatuses"]
        (milvus,) = [status for status in statuses if status["name"] == "milvus"]
        end: dict[str, Any] = milvus["lastState"].get("terminated", {})
        return end

    end = wait_until(ended, seconds=120, what="the end of Milvus", every=1)
    assert end["exitCode"] == 0
    installation.wait_until_whole(seconds=120)


@pytest.mark.parametrize("part", ["gateway", "embedder", "retriever", "llm", "redis", "milvus"])
def test_nothing_acknowledged_is_lost_with_a_pod(installation: Installation, connect: Connect, part: str) -> None:
    client = connect("svc/cloister-gateway")
    conversation = client.conversations.create()
    client.responses.create(
        model=CHAT_MODEL, input=f"I write before {part} goes.", conversation=conversation.id, max_output_tokens=8
    )
    before = list(client.conversations.items.list(conversation.id, order="asc"))
    file = client.files.create(file=(f"{part}.md", NOTE), purpose="assistants")
    store = client.vector_stores.create(name=part)
    client.vector_stores.files.create_and_poll(file_id=file.id, vector_store_id=store.id, poll_interval_ms=200)

    doomed = installation.pods(part)
    installation.run("kubectl", "delete", "pod", *doomed, seconds=180)
    installation.wait_until_whole()
    assert {pod["metadata"]["uid"] for pod in doomed.values()}.isdisjoint(
        pod["metadata"]["uid"] for pod in installation.pods(part).values()
    )

    client = connect("svc/cloister-gateway")
    assert list(client.conversations.items.list(conversation.id, order="asc")) == before
    assert client.files.content(file.id).read() == NOTE
    (found,) = client.vector_stores.search(store.id, query="When does the ferry leave?").data
    assert "06:45" in found.content[0].text
    again = client.responses.create(
        model=CHAT_MODEL, input="I write after it.", conversation=conversation.id, max_output_tokens=8
    )
    assert again.status in {"completed", "incomplete"}
