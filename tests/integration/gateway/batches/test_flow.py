"""The whole flow of a batch with the official SDK: files in, files out, every line once."""

import time
from collections.abc import Callable
from typing import Any

import openai
import pytest
from cloister_gateway.identity.seals import Seals
from cloister_gateway.identity.store import IdentityStore
from cloister_gateway.storage.opening import open_storage
from cloister_gateway.usage.store import UsageStore

from tests.integration.gateway.batches.conftest import (
    CHAT,
    EMBEDDINGS,
    RESPONSES,
    Batches,
    MakeBatches,
    asked,
    begin,
    counts,
    ended,
    ids,
    lines_of,
    upload,
)
from tests.integration.gateway.conftest import sdk
from tests.support.sdk import closing
from tests.support.waiting import until, wait_until

SHAPES = {CHAT: "chat.completion", RESPONSES: "response", EMBEDDINGS: "list"}


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES, EMBEDDINGS])
def test_every_line_is_answered_once_in_the_order_of_the_input(client: Any, endpoint: str) -> None:
    lines = [asked(endpoint, number) for number in range(20)]
    made = begin(client, endpoint, lines, metadata={"night": "1"})
    assert (made.object, made.endpoint, made.metadata, made.completion_window) == (
        "batch",
        endpoint,
        {"night": "1"},
        "24h",
    )
    assert made.expires_at == made.created_at + 86_400
    batch = ended(client, made.id)
    assert (batch.status, counts(batch), batch.error_file_id, batch.errors) == ("completed", (20, 20, 0), None, None)
    assert batch.created_at <= batch.in_progress_at <= batch.finalizing_at <= batch.completed_at
    file = client.files.retrieve(batch.output_file_id)
    assert (file.purpose, file.expires_at) == ("batch_output", None)
    answers = lines_of(client, batch.output_file_id)
    assert ids(answers) == ids(lines)
    assert {answer["response"]["status_code"] for answer in answers} == {200}
    assert {answer["response"]["body"]["object"] for answer in answers} == {SHAPES[endpoint]}
    assert len({answer["id"] for answer in answers}) == 20
    assert {answer["error"] for answer in answers} == {None}
    used = [answer["response"]["body"]["usage"] for answer in answers]
    assert batch.usage.input_tokens == sum(one.get("prompt_tokens", one.get("input_tokens")) for one in used) > 0
    assert batch.model == lines[0]["body"]["model"]


@pytest.mark.parametrize("endpoint", [CHAT, RESPONSES])
async def test_lines_go_to_pods_last_and_are_of_a_batch_in_the_ledger(
    batches: Batches, client: Any, endpoint: str
) -> None:
    client.chat.completions.create(model="fake", messages=[{"role": "user", "content": "now"}])
    batch = ended(client, begin(client, endpoint, [asked(endpoint, number) for number in range(3)]).id)
    assert counts(batch) == (3, 3, 0)
    # (Lower is sooner.)
    first, *others = [body.get("priority", 0) for body in batches.llm.chats()]
    assert len(others) == 3
    assert min(others) > first
    settings = batches.gateway.settings
    async with open_storage(settings.redis, settings.vault) as (redis, keyring):
        store = UsageStore(redis, keyring, settings.usage)
        [project] = await IdentityStore(redis, Seals(keyring)).project_ids()

        async def rows() -> list[bool] | None:
            days = {time.strftime("%Y%m%d", time.gmtime(at)) for at in (batch.created_at, time.time())}
            found = [row.batch for day in days for row in await store.rows(project, day)]
            return sorted(found) if len(found) == 4 else None

        assert await until(rows, what="the rows of all four are written") == [False, True, True, True]


def test_responses_are_stored_as_lines_ask(client: Any) -> None:
    made = begin(client, RESPONSES, [asked(RESPONSES, 0), asked(RESPONSES, 1, store=False)])
    kept, forgotten = lines_of(client, ended(client, made.id).output_file_id)
    assert client.responses.retrieve(kept["response"]["body"]["id"]).status == "completed"
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(forgotten["response"]["body"]["id"])


def test_a_line_that_is_refused_stands_in_the_error_file(batches: Batches, client: Any) -> None:
    lines = [asked(CHAT, number) for number in range(4)]
    lines[2]["body"]["messages"][0]["content"] = "word " * 3000
    batch = ended(client, begin(client, CHAT, lines).id)
    assert (batch.status, counts(batch)) == ("completed", (4, 3, 1))
    assert ids(lines_of(client, batch.output_file_id)) == ["request-0", "request-1", "request-3"]
    [refused] = lines_of(client, batch.error_file_id)
    assert (refused["custom_id"], refused["response"]["status_code"], refused["error"]) == ("request-2", 400, None)
    assert refused["response"]["body"]["error"]["message"]


def test_counts_grow_while_it_runs_and_cancelling_keeps_what_is_done(batches: Batches, client: Any) -> None:
    earlier = begin(client, CHAT, [asked(CHAT, 0)])
    assert counts(ended(client, earlier.id)) == (1, 1, 0)
    batches.llm.hold_after = 0
    made = begin(client, CHAT, [asked(CHAT, number) for number in range(6)])
    wait_until(lambda: batches.llm.running == 6, what="the lines are under way")
    now = client.batches.retrieve(made.id)
    assert (now.status, counts(now)) == ("in_progress", (6, 0, 0))
    cancelling = client.batches.cancel(made.id)
    assert cancelling.status in {"cancelling", "cancelled"}
    batch = ended(client, made.id)
    assert (batch.status, counts(batch), batch.output_file_id) == ("cancelled", (6, 0, 0), None)
    assert batch.cancelling_at <= batch.cancelled_at
    errors = lines_of(client, batch.error_file_id)
    assert ids(errors) == [f"request-{number}" for number in range(6)]
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    wait_until(lambda: batches.llm.running == 0, what="the pod is left alone")
    with pytest.raises(openai.ConflictError):
        client.batches.cancel(earlier.id)


def test_a_cancelled_batch_keeps_its_answers(make_batches: MakeBatches) -> None:
    batches = make_batches(lines_at_once=1)
    with batches.gateway.serve() as url:
        client = sdk(url, batches.gateway)

        def answer(body: dict[str, Any]) -> list[str]:
            if body["messages"][-1]["content"].endswith(" 2"):
                batches.llm.hold_after = 0
            return ["done"]

        batches.llm.respond = answer
        made = begin(client, CHAT, [asked(CHAT, number) for number in range(5)])
        wait_until(lambda: counts(client.batches.retrieve(made.id))[1] == 2, what="two lines are done")
        wait_until(lambda: batches.llm.running == 1, what="the third is under way")
        client.batches.cancel(made.id)
        batch = ended(client, made.id)
        assert (batch.status, counts(batch)) == ("cancelled", (5, 2, 0))
        assert ids(lines_of(client, batch.output_file_id)) == ["request-0", "request-1"]
        assert ids(lines_of(client, batch.error_file_id)) == ["request-2", "request-3", "request-4"]


def test_when_its_time_is_over_what_is_done_is_written(batches: Batches, client: Any) -> None:
    batches.llm.hold_after = 0
    batch = ended(client, begin(client, RESPONSES, [asked(RESPONSES, 0)], completion_window="1s").id)
    assert (batch.status, batch.expired_at is not None, counts(batch)) == ("expired", True, (1, 0, 0))
    [line] = lines_of(client, batch.error_file_id)
    assert (line["custom_id"], line["response"], line["error"]["code"]) == ("request-0", None, "batch_expired")
    wait_until(lambda: batches.llm.running == 0, what="its run is stopped")


def test_files_expire_as_asked(client: Any) -> None:
    made = begin(
        client, EMBEDDINGS, [asked(EMBEDDINGS, 0)], output_expires_after={"anchor": "created_at", "seconds": 3600}
    )
    file = client.files.retrieve(ended(client, made.id).output_file_id)
    assert file.expires_at == file.created_at + 3600


def test_batches_are_listed_in_pages_newest_first(client: Any) -> None:
    file = upload(client, [asked(CHAT, 0)])
    made = [client.batches.create(input_file_id=file, endpoint=CHAT, completion_window="24h").id for _ in range(5)]
    assert [batch.id for batch in client.batches.list(limit=2)] == made[::-1]
    page = client.batches.list(limit=3, after=made[3])
    assert ([batch.id for batch in page.data], page.has_more) == (made[2::-1], False)
    with pytest.raises(openai.BadRequestError) as error:
        client.batches.list(after="batch_x")
    assert error.value.param == "after"
    for batch_id in made:
        ended(client, batch_id)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"endpoint": "/v1/completions"}, "endpoint"),
        ({"completion_window": "soon"}, "completion_window"),
        ({"completion_window": "8d"}, "completion_window"),
        ({"output_expires_after": {"anchor": "created_at", "seconds": 1}}, "output_expires_after.seconds"),
        ({"extra_body": {"priority": 9}}, "priority"),
    ],
)
def test_what_is_wrong_with_a_batch_is_named(client: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        begin(client, fields.pop("endpoint", CHAT), [asked(CHAT, 0)], **fields)
    assert error.value.param == param


def test_input_must_be_a_file_of_batches_and_the_callers_own(batches: Batches, url: str, client: Any) -> None:
    document = client.files.create(file=("a.txt", b"x"), purpose="assistants").id
    with pytest.raises(openai.BadRequestError) as error:
        client.batches.create(input_file_id=document, endpoint=CHAT, completion_window="24h")
    assert (error.value.param, error.value.code) == ("input_file_id", "invalid_purpose")
    admin = closing(openai.OpenAI(base_url=f"{url}/v1", api_key="x", admin_api_key=batches.gateway.admin_key))
    projects = admin.admin.organization.projects
    key = projects.service_accounts.create(projects.create(name="other").id, name="bot").api_key
    assert key is not None
    stranger = sdk(url, batches.gateway, key.value)
    mine = begin(client, CHAT, [asked(CHAT, 0)])
    refused: list[Callable[[], Any]] = [
        lambda: stranger.batches.retrieve(mine.id),
        lambda: stranger.batches.cancel(mine.id),
        lambda: client.batches.retrieve("batch_unknown"),
        lambda: stranger.batches.create(input_file_id=mine.input_file_id, endpoint=CHAT, completion_window="24h"),
    ]
    for ask in refused:
        with pytest.raises(openai.NotFoundError) as missing:
            ask()
        assert missing.value.param in {"batch_id", "input_file_id"}
    assert stranger.batches.list().data == []
    ended(client, mine.id)


def test_a_revoked_key_ends_what_is_left_of_its_batch_line_by_line(batches: Batches, url: str, client: Any) -> None:
    admin = closing(openai.OpenAI(base_url=f"{url}/v1", api_key="x", admin_api_key=batches.gateway.admin_key))
    projects = admin.admin.organization.projects
    [project] = [found.id for found in projects.list()]
    account = projects.service_accounts.create(project, name="nightly")
    assert account.api_key is not None
    batches.llm.hold_after = 0
    made = begin(sdk(url, batches.gateway, account.api_key.value), CHAT, [asked(CHAT, number) for number in range(3)])
    wait_until(lambda: batches.llm.running == 3, what="the lines are under way")
    projects.service_accounts.delete(account.id, project_id=project)
    batch = ended(client, made.id)
    assert (batch.status, counts(batch)) == ("completed", (3, 0, 3))
    errors = lines_of(client, batch.error_file_id)
    assert {line["response"]["status_code"] for line in errors} == {401}
