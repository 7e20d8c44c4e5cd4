"""OpenAI's lists cut out of memory."""

from typing import Any

import pytest
from cloister_common.errors import InvalidRequest
from cloister_gateway.wire.lists import page
from hypothesis import given
from hypothesis import strategies as st


def items(count: int) -> list[dict[str, Any]]:
    return [{"id": f"msg_{number}"} for number in range(count)]


@given(count=st.integers(0, 30), limit=st.integers(1, 12), order=st.sampled_from(["asc", "desc"]))
def test_walking_the_pages_gives_every_item_once_in_order(count: int, limit: int, order: str) -> None:
    found: list[dict[str, Any]] = []
    after = None
    while True:
        one = page(items(count), limit=limit, order=order, after=after)
        found += one["data"]
        if not one["has_more"]:
            break
        assert len(one["data"]) == limit
        after = one["last_id"]
        assert (one["first_id"], after) == (one["data"][0]["id"], one["data"][-1]["id"])
    assert found == (items(count) if order == "asc" else items(count)[::-1])


@given(count=st.integers(0, 30), limit=st.integers(1, 12), order=st.sampled_from(["asc", "desc"]))
def test_deleting_while_listing_meets_every_item_once(count: int, limit: int, order: str) -> None:
    left = items(count)
    gone: dict[str, int] = {}
    met: list[dict[str, Any]] = []
    after = None
    while True:
        one = page(left, limit=limit, order=order, after=after, gone=gone)
        for item in one["data"]:
            gone = {item_id: older - (left.index(item) < older) for item_id, older in gone.items()}
            gone[item["id"]] = left.index(item)
            left.remove(item)
        met += one["data"]
        after = one["last_id"]
        if not one["has_more"]:
            break
    assert met == (items(count) if order == "asc" else items(count)[::-1])
    assert left == []


def test_before_ends_the_page_and_unknown_cursors_are_named() -> None:
    assert page(items(6), limit=10, order="asc", after="msg_1", before="msg_4")["data"] == items(6)[2:4]
    for name in ("after", "before"):
        cursors: dict[str, Any] = {"after": None, name: "msg_9"}
        with pytest.raises(InvalidRequest) as refused:
            page(items(3), limit=2, order="asc", **cursors)
        assert refused.value.param == name
    assert page([], limit=2, order="asc", after=None) == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False
    }  # fmt: skip
