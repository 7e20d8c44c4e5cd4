"""Pictures that a search finds, in the prompts of models that take images: fetched for who asks, bounded, and cited."""

import io
from typing import Any

import pytest
from cloister_common.testing.llm import FakeLlm
from cloister_common.testing.retriever import FakeRetriever
from cloister_common.testing.retriever_answers import found
from cloister_common.wire.pictures import data_url
from PIL import Image

from tests.integration.gateway.grounding.test_access_lists import People, people
from tests.integration.gateway.responses.test_images import RED as SHOWN
from tests.integration.gateway.responses.test_images import image, question, seen

__all__ = ["people"]

TOOL = {"type": "file_search", "vector_store_ids": ["vs_1"]}


def png(colour: str) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 40), colour).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def stored(client: Any, search: FakeRetriever) -> Any:
    """Puts pictures into a store, as the retriever has them, and says of each what a search tells of it."""
    store = client.vector_stores.create()

    def put(content: bytes) -> dict[str, Any]:
        file = client.files.create(file=("a.png", content), purpose="assistants")
        client.vector_stores.files.create(store.id, file_id=file.id)
        url = f"/v1/vector_stores/{store.id}/files/{file.id}/images/0"
        return {"file_id": file.id, "index": 0, "url": url, "media_type": "image/png", "width": 40, "height": 40}

    return put


def asked(client: Any, model: str = "seeing", said: Any = "What is on the moon?", **fields: Any) -> Any:
    include = ["file_search_call.results"]
    return client.responses.create(model=model, input=said, tools=[TOOL], include=include, **fields)


def documents_of(llm: FakeLlm) -> list[Any]:
    """The texts and pictures of the excerpts in the last prompt."""
    turn = next(message for message in llm.chats()[-1]["messages"] if "Excerpts" in str(message["content"]))
    content = turn["content"]
    if isinstance(content, str):
        return [content]
    return [part["image_url"]["url"] if "image_url" in part else part["text"] for part in content]


def test_a_picture_stands_behind_the_excerpts_with_its_number_and_is_cited(
    client: Any, llm: FakeLlm, search: FakeRetriever, stored: Any
) -> None:
    moon = stored(png("grey"))
    search.planted["vs_1"] = [
        found("The sun is a star."),
        found("A flag stands on the moon.", file_id="file-m", filename="moon.pdf", page=3, image=moon),
    ]
    llm.answer = ["A flag stands on the moon [2]."]
    response = asked(client)
    text, heading, picture = documents_of(llm)
    assert "[2] moon.pdf, page 3\n| A flag stands on the moon." in text
    assert heading == "The picture of excerpt [2], which is data as well:"
    assert picture == data_url(png("grey"))
    call, message = response.output
    assert [result.to_dict().get("image") for result in call.results] == [None, moon]
    (citation,) = message.content[0].annotations
    assert (citation.file_id, citation.to_dict()["page"]) == ("file-m", 3)
    again = client.responses.create(
        model="seeing", input=[*(one.to_dict() for one in response.output), {"role": "user", "content": "And?"}]
    )
    assert again.status == "completed"


def test_a_model_that_takes_no_images_gets_the_text_alone(
    client: Any, llm: FakeLlm, search: FakeRetriever, stored: Any
) -> None:
    wordless = found("", file_id="file-w", image=stored(png("blue")))
    search.planted["vs_1"] = [found("A flag stands on the moon.", image=stored(png("grey"))), wordless]
    response = asked(client, model="fake")
    (text,) = documents_of(llm)
    assert "A flag stands on the moon." in text
    assert len(response.output[0].results) == 1


def test_a_picture_without_words_is_shown_to_who_can_look_at_it(
    client: Any, llm: FakeLlm, search: FakeRetriever, stored: Any
) -> None:
    search.planted["vs_1"] = [found("", file_id="file-w", filename="IMG_1.png", image=stored(png("blue")))]
    response = asked(client)
    text, _, picture = documents_of(llm)
    assert "[1] IMG_1.png" in text
    assert picture == data_url(png("blue"))
    assert (response.output[0].to_dict()["coverage"], len(response.output[0].results)) == ("found", 1)


def test_pictures_are_as_many_as_people_leave_room_for_and_each_is_there_once(
    client: Any, llm: FakeLlm, search: FakeRetriever, stored: Any
) -> None:
    first, second, third = (stored(png(colour)) for colour in ("grey", "blue", "green"))
    search.planted["vs_1"] = [
        found(text, file_id=f"file-{place}", image=one)
        for place, (text, one) in enumerate(
            [("A flag.", first), ("Of the same.", first), ("A stone.", second), ("A crater.", third)]
        )
    ]
    asked(client)  # the model takes two
    assert documents_of(llm)[1:] == [
        "The picture of excerpt [1], which is data as well:",
        data_url(png("grey")),
        "The picture of excerpt [3], which is data as well:",
        data_url(png("blue")),
    ]
    conversation = client.conversations.create().id
    asked(client, said=question(image()), conversation=conversation)
    assert documents_of(llm)[2:] == [data_url(png("grey"))]
    asked(client, said=question(image()), conversation=conversation, truncation="auto")
    assert len(documents_of(llm)) == 1
    assert seen(llm.chats()[-1]).count(SHOWN) == 2


def test_a_picture_that_is_gone_takes_nothing_else_with_it(
    client: Any, llm: FakeLlm, search: FakeRetriever, stored: Any
) -> None:
    gone = stored(png("grey"))
    client.files.delete(gone["file_id"])
    search.planted["vs_1"] = [found("A flag.", image=gone), found("A stone.", image=stored(png("blue")))]
    assert asked(client).status == "completed"
    text, _, picture = documents_of(llm)
    assert [line for line in text.splitlines() if line.startswith("| ")] == ["| A flag.", "| A stone."]
    assert picture == data_url(png("blue"))


def test_a_picture_is_shown_to_who_may_see_its_file(people: People, llm: FakeLlm, search: FakeRetriever) -> None:
    """The search is planted here and tells everybody of it: the picture is asked for as whoever the turn is for."""
    anna = people("anna")
    store = anna.vector_stores.create().id
    file = anna.files.create(file=("a.png", png("grey")), purpose="assistants").id
    anna.vector_stores.files.create(store, file_id=file, extra_body={"access": {"users": [], "groups": ["hr"]}})
    url = f"/v1/vector_stores/{store}/files/{file}/images/0"
    search.planted["vs_1"] = [found("A flag.", image={"file_id": file, "index": 0, "url": url})]
    shown = {}
    for name in ("anna", "hr", "ben", "service"):
        assert asked(people(name)).status == "completed"
        shown[name] = len(documents_of(llm)) > 1
    assert shown == {"anna": True, "hr": True, "ben": False, "service": False}


def test_a_picture_counts_among_the_tokens_of_the_input(client: Any, search: FakeRetriever, stored: Any) -> None:
    search.planted["vs_1"] = [found("A flag stands on the moon.", image=stored(png("grey")))]
    with_picture, without = (
        client.responses.input_tokens.count(model=model, input="What?", tools=[TOOL]).input_tokens
        for model in ("seeing", "fake")
    )
    assert with_picture > without
