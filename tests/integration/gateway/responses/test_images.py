"""Images in messages: read before anything is stored, given to models that take them, refused by name to others."""

import base64
import io
from typing import Any

import httpx
import openai
import pytest
from cloister_common.testing.llm import FakeLlm
from PIL import Image

from tests.support.gateway import GatewayFixture
from tests.support.sockets import opened, send, turn


def png(colour: str = "red", side: int = 4) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(out, "PNG")
    return out.getvalue()


def url_of(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode()}"


RED, BLUE, GREEN = (url_of(png(colour)) for colour in ("red", "blue", "green"))


def image(of: str = RED, **more: Any) -> dict[str, Any]:
    return {"type": "input_image", "image_url": of, **more}


def question(*parts: dict[str, Any], text: str = "What is it?") -> Any:
    return [{"role": "user", "content": [*parts, {"type": "input_text", "text": text}]}]


def seen(body: dict[str, Any]) -> list[Any]:
    """The images and texts of the user in a prompt, in order."""
    found: list[Any] = []
    for message in body["messages"]:
        if message["role"] == "user" and isinstance(message["content"], list):
            found += [part["image_url"]["url"] if "image_url" in part else part["text"] for part in message["content"]]
        elif message["role"] == "user":
            found.append(message["content"])
    return found


@pytest.mark.parametrize("how", ["http", "stream", "socket"])
@pytest.mark.parametrize("what", ["data", "file"])
def test_an_image_is_in_the_prompt_where_it_was_sent(
    gateway: GatewayFixture, gateway_url: str, client: Any, llm: FakeLlm, how: str, what: str
) -> None:
    part = image(detail="low")
    if what == "file":
        file = client.files.create(file=("a.png", png()), purpose="vision")
        part = {"type": "input_image", "file_id": file.id}
    before = {"type": "input_text", "text": "Look: "}
    asked = question(before, part)
    if how == "socket":
        with opened(gateway_url, gateway) as socket:
            send(socket, "response.create", model="seeing", input=asked)
            assert turn(socket)[-1]["type"] == "response.completed"
    elif how == "stream":
        with client.responses.create(model="seeing", input=asked, stream=True) as events:
            assert [event.type for event in events][-1] == "response.completed"
    else:
        assert client.responses.create(model="seeing", input=asked).status == "completed"
    assert seen(llm.chats()[-1]) == ["Look: ", RED, "What is it?"]


def test_later_turns_see_it_too_and_items_show_it_to_those_who_ask(client: Any, llm: FakeLlm) -> None:
    file = client.files.create(file=("a.png", png()), purpose="vision")
    conversation = client.conversations.create().id
    part = {"type": "input_image", "file_id": file.id, "detail": "high"}
    first = client.responses.create(model="seeing", input=question(part), conversation=conversation)
    client.files.delete(file.id)
    client.responses.create(model="seeing", input="And then?", conversation=conversation)
    client.responses.create(model="seeing", input="And then?", previous_response_id=first.id)
    assert seen(llm.chats()[-1]) == seen(llm.chats()[-2]) == [RED, "What is it?", "And then?"]

    include = "message.input_image.image_url"
    inputs, items = client.responses.input_items, client.conversations.items
    plain = [inputs.list(first.id).to_dict(), items.list(conversation, order="asc").to_dict()]
    whole = [
        inputs.list(first.id, include=[include]).to_dict(),
        items.list(conversation, order="asc", include=[include]).to_dict(),
    ]
    assert [listed["data"][0]["content"][0] for listed in plain] == [part, part]
    assert [listed["data"][0]["content"][0] for listed in whole] == [{**part, "image_url": RED}] * 2
    item = plain[1]["data"][0]
    one = client.conversations.items.retrieve(item["id"], conversation_id=conversation, include=[include]).to_dict()
    assert one["content"][0]["image_url"] == RED


def test_a_conversation_takes_images_and_a_reference_brings_one_along(client: Any, llm: FakeLlm) -> None:
    made = client.conversations.create(items=question(image(), text="First"))
    (added,) = client.conversations.items.create(made.id, items=question(image(BLUE), text="Second")).to_dict()["data"]
    client.responses.create(model="seeing", input="And then?", conversation=made.id)
    assert seen(llm.chats()[-1]) == [RED, "First", BLUE, "Second", "And then?"]
    client.responses.create(
        model="seeing", input=[{"type": "item_reference", "id": added["id"]}], conversation=made.id, truncation="auto"
    )
    assert seen(llm.chats()[-1])[-2:] == [BLUE, "Second"]


CALL = {"type": "function_call", "call_id": "call_1", "name": "photo", "arguments": "{}"}


def returned(*parts: dict[str, Any]) -> list[Any]:
    return [CALL, {"type": "function_call_output", "call_id": "call_1", "output": list(parts)}]


def of_tools(body: dict[str, Any]) -> list[Any]:
    """What functions returned in a prompt: texts, or the images and texts of one."""
    said = [message["content"] for message in body["messages"] if message["role"] == "tool"]
    return [
        one
        if isinstance(one, str)
        else [part["image_url"]["url"] if "image_url" in part else part["text"] for part in one]
        for one in said
    ]


@pytest.mark.parametrize("how", ["http", "stream", "socket"])
def test_a_function_returns_images_and_later_turns_see_them(
    gateway: GatewayFixture, gateway_url: str, client: Any, llm: FakeLlm, how: str
) -> None:
    file = client.files.create(file=("a.png", png("blue")), purpose="vision")
    parts = [{"type": "input_text", "text": "Two: "}, image(), {"type": "input_image", "file_id": file.id}]
    asked = [*question(text="Take one."), *returned(*parts)]
    conversation = client.conversations.create().id
    if how == "socket":
        with opened(gateway_url, gateway) as socket:
            send(socket, "response.create", model="seeing", input=asked, conversation=conversation)
            assert turn(socket)[-1]["type"] == "response.completed"
    elif how == "stream":
        with client.responses.create(model="seeing", input=asked, stream=True, conversation=conversation) as events:
            assert [event.type for event in events][-1] == "response.completed"
    else:
        client.responses.create(model="seeing", input=asked, conversation=conversation)
    client.files.delete(file.id)
    client.responses.create(model="seeing", input="And then?", conversation=conversation)
    assert [of_tools(body) for body in llm.chats()[-2:]] == [[["Two: ", RED, BLUE]]] * 2

    include = "message.input_image.image_url"
    (plain, whole) = (
        next(item for item in items if item.type == "function_call_output").to_dict()["output"]
        for items in (
            client.conversations.items.list(conversation),
            client.conversations.items.list(conversation, include=[include]),
        )
    )
    assert plain == [
        parts[0],
        {"type": "input_image", "detail": "auto"},
        {"type": "input_image", "detail": "auto", "file_id": file.id},
    ]
    assert [part.get("image_url") for part in whole] == [None, RED, BLUE]


def test_what_a_function_returned_counts_and_is_refused_as_images_of_the_user_are(client: Any, llm: FakeLlm) -> None:
    asked = [*question(text="Take one."), *returned(image())]
    text = [*question(text="Take one."), *returned({"type": "input_text", "text": "none"})]
    counted = [client.responses.input_tokens.count(model="seeing", input=one).input_tokens for one in (text, asked)]
    assert counted[1] - counted[0] >= 15  # (In a prompt of the double's an image is sixteen words, and "none" is one.)
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="fake", input=asked)
    assert (refused.value.param, refused.value.code) == ("input[2].output[0].type", "unsupported_parameter")
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="seeing", input=[*asked[:2], *returned(image(), image(), image())[1:]])
    assert (refused.value.param, refused.value.code) == ("input[2].output[2]", "too_many_images")
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="seeing", input=[*asked[:2], *returned(image("data:image/png;base64,aGk="))[1:]])
    assert refused.value.param == "input[2].output[0].image_url"
    conversation = client.conversations.create(items=asked).id
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="fake", input="And?", conversation=conversation)
    assert refused.value.param == "model"
    assert llm.chats() == []


def test_history_loses_its_oldest_turns_where_a_prompt_would_have_too_many_images(client: Any, llm: FakeLlm) -> None:
    conversation = client.conversations.create().id
    for place, one in enumerate((RED, BLUE, GREEN)):
        last = client.responses.create(
            model="seeing", input=question(image(one), text=str(place)), conversation=conversation, truncation="auto"
        )
    assert seen(llm.chats()[-1]) == [BLUE, "1", GREEN, "2"]
    assert last.status == "completed"
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(
            model="seeing", input=question(image()), conversation=conversation, truncation="disabled"
        )
    assert (refused.value.param, refused.value.code) == ("input", "too_many_images")


def test_a_model_that_takes_none_refuses_them_wherever_they_are(client: Any, llm: FakeLlm) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="fake", input=question(image()))
    assert (refused.value.param, refused.value.code) == ("input[0].content[0].type", "unsupported_parameter")
    assert "'fake'" in refused.value.message
    conversation = client.conversations.create(items=question(image())).id
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="fake", input="And?", conversation=conversation)
    assert refused.value.param == "model"
    chat = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": RED}}]}]
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model="fake", messages=chat)
    assert refused.value.param == "messages[0].content[0].type"
    assert llm.chats() == []
    models = {
        model.id: model.to_dict()["cloister"]["images"]
        for model in client.models.list()
        if model.id in {"fake", "seeing"}
    }
    assert (models["seeing"], models["fake"]) == (2, 0)


BAD = [
    ({"image_url": "https://example.com/a.png"}, 400, "image_url", "data URL"),
    ({"image_url": "http://169.254.169.254/"}, 400, "image_url", "file_id"),
    ({"image_url": "file:secret.png"}, 400, "image_url", "data URL"),
    ({"image_url": "data:image/png,hello"}, 400, "image_url", "base64"),
    ({"image_url": "data:image/png;base64,!!!"}, 400, "image_url", "base64"),
    ({"image_url": "data:image/png;base64,aGVsbG8="}, 400, "image_url", "PNG, JPEG, WebP or GIF"),
    ({"image_url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUg=="}, 400, "image_url", "damaged"),
    ({"file_id": "file-unknown"}, 404, "file_id", "file-unknown"),
    ({"file_id": "file-a", "image_url": RED}, 400, "", "either"),
    ({}, 400, "", "either"),
    ({"image_url": RED, "detail": "huge"}, 400, "detail", "'auto'"),
    ({"image_url": RED, "colour": "red"}, 400, "colour", ""),
]


@pytest.mark.parametrize(("part", "status", "field", "words"), BAD)
def test_an_image_that_cannot_be_taken_is_refused_by_name_and_nothing_is_stored(
    gateway: GatewayFixture, gateway_url: str, llm: FakeLlm, part: dict[str, Any], status: int, field: str, words: str
) -> None:
    chat = {("url" if name == "image_url" else name): value for name, value in part.items()}
    with httpx.Client(base_url=gateway_url, headers=gateway.headers()) as http:
        conversation = http.post("/v1/conversations", json={}).json()["id"]
        asked = [{"role": "user", "content": [{"type": "input_image", **part}]}]
        answer = http.post("/v1/responses", json={"model": "seeing", "input": asked, "conversation": conversation})
        assert (answer.status_code, answer.json()["error"]["param"]) == (
            status,
            f"input[0].content[0].{field}".rstrip("."),
        )
        assert words in answer.json()["error"]["message"]
        assert http.get(f"/v1/conversations/{conversation}/items").json()["data"] == []
        message = {"role": "user", "content": [{"type": "image_url", "image_url": chat}]}
        answer = http.post("/v1/chat/completions", json={"model": "seeing", "messages": [message]})
        name = "url" if field == "image_url" else field
        where = f"messages[0].content[0].image_url.{name}".rstrip(".")
        assert (answer.status_code, answer.json()["error"]["param"]) == (status, where)
        assert words in answer.json()["error"]["message"]
    assert llm.chats() == []


@pytest.mark.parametrize("role", ["assistant", "system", "developer"])
def test_only_users_show_images(gateway: GatewayFixture, gateway_url: str, role: str) -> None:
    body = {"model": "seeing", "input": [{"role": role, "content": [image()]}]}
    error = httpx.post(f"{gateway_url}/v1/responses", headers=gateway.headers(), json=body).json()["error"]
    assert error["param"] == "input[0]"
    assert "'input_image'" in error["message"]


def test_more_images_than_the_model_takes_are_refused_at_the_first_too_many(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.responses.create(model="seeing", input=question(image(), image(), image()))
    assert (refused.value.param, refused.value.code) == ("input[0].content[2]", "too_many_images")


def test_chat_completions_take_images_and_their_pods_know_each_by_its_tenant(
    gateway: GatewayFixture, gateway_url: str, client: Any, llm: FakeLlm
) -> None:
    file = client.files.create(file=("a.png", png("blue")), purpose="vision").id
    parts = [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": RED, "detail": "low"}},
        {"type": "image_url", "image_url": {"file_id": file}},
    ]
    body: dict[str, Any] = {"model": "seeing", "messages": [{"role": "user", "content": parts}]}
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        projects = admin.admin.organization.projects
        other = projects.service_accounts.create(projects.create(name="other").id, name="bot").api_key
    assert other is not None
    client.chat.completions.create(**body)
    client.chat.completions.create(**body)
    body["messages"][0]["content"] = parts[:2]
    client.with_options(api_key=other.value).chat.completions.create(**body)
    first, again, foreign = llm.chats()
    assert seen(first) == ["Look", RED, BLUE]
    uuids = [[part.get("uuid") for part in chat["messages"][0]["content"]] for chat in (first, again, foreign)]
    assert uuids[0] == uuids[1]
    assert uuids[0][0] is None
    assert len({*uuids[0][1:], uuids[2][1]}) == 3


def test_a_key_without_the_scope_of_files_names_none(gateway: GatewayFixture, gateway_url: str, client: Any) -> None:
    file = client.files.create(file=("a.png", png()), purpose="vision").id
    with openai.OpenAI(base_url=f"{gateway_url}/v1", api_key="x", admin_api_key=gateway.admin_key) as admin:
        accounts = admin.admin.organization.projects.service_accounts
        project = admin.admin.organization.projects.create(name="web")
        account = accounts.create(project.id, name="bot")
        narrow = accounts.api_keys.create(account.id, project_id=project.id, scopes=["responses"])
    asking = client.with_options(api_key=narrow.value)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        asking.responses.create(model="seeing", input=question({"type": "input_image", "file_id": file}))
    assert refused.value.param == "input[0].content[0].file_id"
    assert asking.responses.create(model="seeing", input=question(image())).status == "completed"


def test_a_search_beside_an_image_asks_for_the_words(client: Any, llm: FakeLlm) -> None:
    store = client.vector_stores.create(name="s").id
    tools = [{"type": "file_search", "vector_store_ids": [store]}]
    client.responses.create(model="seeing", input=question(image()), tools=tools)
    assert RED in seen(llm.chats()[-1])


def test_what_is_stored_of_an_image_is_sealed(client: Any, installation: Any) -> None:
    conversation = client.conversations.create(items=question(image())).id
    client.responses.create(model="seeing", input="What?", conversation=conversation)
    data = RED.partition(",")[2].encode()
    with installation.redis.client() as redis:
        # (One that has expired between the two is not there any more.)
        dumped = [stored for key in redis.keys("*") if (stored := redis.dump(key)) is not None]
    assert dumped
    assert not any(data in one for one in dumped)
