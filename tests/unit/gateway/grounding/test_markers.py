"""Markers in a stream: however it is cut into chunks, readers see the same text and the same citations."""

import pytest
from cloister_gateway.grounding import MarkerFilter
from hypothesis import given
from hypothesis import strategies as st

TEXTS = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "[1]",
                " [2]",
                "[3, 1]",
                "[9]",
                "[0]",
                "a[0]",
                "[x]",
                "[1",
                "[",
                "]",
                " ",
                "  ",
                "\n",
                "[1,",
                "[ 1]",
                "[1]]",
                "`",
                "```",
                "\n```\n",
                "~~~",
                "(",
                ":",
                "!",
                "\n\n",
                "http://a.b/",
            ]
        ),
        st.sampled_from(
            [" [1 , 2 , 3 , 1 , 2 , 3 , 1 , 2]", "[100 , 100 , 100 , 100 , 100 , 100 , 100 , 100]", "[1,\n2]"]
        ),
        st.text(alphabet="ab[] 123,.\n", max_size=12),
    ),
    max_size=10,
).map("".join)


def shown(chunks: list[str], passages: int = 3) -> tuple[str, list[tuple[int, int]]]:
    """The visible text, and each citation as (passage, position)."""
    markers = MarkerFilter(passages)
    text, cited = "", []
    for pieces in [*(markers.feed(chunk) for chunk in chunks), markers.finish()]:
        for piece in pieces:
            text += piece.text
            cited += [(passage, len(text)) for passage in piece.cited]
    return text, cited


@given(text=TEXTS, data=st.data())
def test_chunks_never_change_what_is_shown(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert shown(chunks) == shown([text])
    assert shown(list(text)) == shown([text])


def test_a_marker_cut_in_two_after_a_paragraph_that_ends_its_code_is_one() -> None:
    assert shown(["`code\n\n[", "1]"]) == shown(["`code\n\n[1]"]) == ("`code\n\n", [(0, 7)])


@given(text=TEXTS)
def test_only_whole_markers_are_taken_out(text: str) -> None:
    visible, _ = shown(list(text))
    rest = iter(text)
    assert all(character in rest for character in visible), "the visible text is not what the model wrote"
    taken = len(text) - len(visible)
    assert taken == 0 or "]" in text
    assert visible.count("x") == text.count("x")
    assert visible.count(".") == text.count(".")


@given(text=TEXTS)
def test_without_passages_brackets_mean_nothing(text: str) -> None:
    assert shown(list(text), passages=0) == (text, [])


@pytest.mark.parametrize(
    ("text", "visible", "cited"),
    [
        ("Paris [1].", "Paris.", [(0, 5)]),
        ("Paris[1]", "Paris", [(0, 5)]),
        ("Both [1][2].", "Both.", [(0, 4), (1, 4)]),
        ("Both [2, 1].", "Both.", [(1, 4), (0, 4)]),
        ("Twice [1, 1].", "Twice.", [(0, 5)]),
        ("Some [1, 9].", "Some.", [(0, 4)]),
        ("Nothing [4].", "Nothing.", []),
        ("Much [999].", "Much.", []),
        ("a[0] is first", "a[0] is first", []),
        ("[x] and [1a]", "[x] and [1a]", []),
        ("open [1", "open [1", []),
        ("year [2024]", "year [2024]", []),
        ("[01]", "[01]", []),
        ("", "", []),
        ("As in [1]: much.", "As in: much.", [(0, 5)]),
        ("[1] says so", " says so", [(0, 0)]),
        ("see [1](https://a.b)", "see [1](https://a.b)", []),
        ("see https://a.b/c[1] and [2]", "see https://a.b/c[1] and", [(1, 24)]),
        ("[1]: https://a.b", "[1]: https://a.b", []),
        ("![1](a.png) and [[1]]", "![1](a.png) and [[1]]", []),
        ("call `a[1]`, then [2].", "call `a[1]`, then.", [(1, 17)]),
        ("``a`[1]`` is [1]", "``a`[1]`` is", [(0, 12)]),
        ("a ` and [1]\n\nb [2]", "a ` and [1]\n\nb", [(1, 14)]),
        ("Code:\n```c\nx[1] = 2;\n```\nas in [1].", "Code:\n```c\nx[1] = 2;\n```\nas in.", [(0, 30)]),
        ("- ```\n  x[1] ``` [2]\n\n  y[1]\n  ```\n[3]", "- ```\n  x[1] ``` [2]\n\n  y[1]\n  ```\n", [(2, 35)]),
        ("~~~\nx[1]\n```\n~~~\n[1]", "~~~\nx[1]\n```\n~~~\n", [(0, 17)]),
        ("a ~~~ b [1]", "a ~~~ b", [(0, 7)]),
    ],
)
def test_marker_cites_its_passage_and_goes(text: str, visible: str, cited: list[tuple[int, int]]) -> None:
    assert shown([text]) == (visible, cited)
    assert shown(list(text)) == (visible, cited)


@pytest.mark.parametrize(
    "text",
    [
        '{"rooms": [[1]], "more": [1, 2], "label": "Room [1]"}',
        '{\n  "rooms": [1],\n\n  "label": "Room [2]"\n}',
        "[1]",
        "[1, 2]\n",
        "The rooms are:\n\n[1, 2, 3]",
        "rooms: [1, 2]",
        "x = [1]",
        "The index is print(a, [1])",
        "    for x in y:\n        z[1] = [2]\n\n    print(z [1])",
        "Run this:\n\n\tx [1]\n\n\ty [2]",
        "1. Do:\n\n       print(x [1])",
        "<code>a [1]</code>",
        "<pre>\nsay [1]\n\nor [2]\n</pre>",
        "```\na [1]\n\nb [2]\n",
        "a ``x [1] ` y [2]``",
        "see [the text [1] here](https://a.b/[2])",
        "see [the manual][1]",
        "see //table[1]/row[2]",
        "call self.items[1] or my_list[2]",
        "f(x)[i][1] and a[0][1]",
        "the matrix x[1] and $a_[1]$",
        "\\[ x [1] \\]",
        "www.example.org/a[1]",
    ],
)
def test_brackets_that_are_no_markers_stay_byte_for_byte(text: str) -> None:
    assert shown([text]) == (text, [])
    assert shown(list(text)) == (text, [])


@pytest.mark.parametrize(
    ("text", "visible", "cited"),
    [
        ("- a point [1]\n- another [2]", "- a point\n- another", [(0, 9), (1, 19)]),
        ("| a | b [1] |", "| a | b |", [(0, 7)]),
        ("(see [1]) and ([2])", "(see) and ()", [(0, 4), (1, 11)]),
        ('It says "so" [1].', 'It says "so".', [(0, 12)]),
        ("It takes 32 [1], [2] and [3].", "It takes 32, and.", [(0, 11), (1, 12), (2, 16)]),
        ("- a\n\n    - b [1]", "- a\n\n    - b", [(0, 12)]),
        ("a {b} c [1]", "a {b} c", [(0, 7)]),
        ("an [open bracket\n\nand more [1]", "an [open bracket\n\nand more", [(0, 26)]),
        ("`a`[1] and **b** [2]", "`a` and **b**", [(0, 3), (1, 13)]),
    ],
)
def test_markers_are_known_among_other_signs(text: str, visible: str, cited: list[tuple[int, int]]) -> None:
    assert shown([text]) == (visible, cited)
    assert shown(list(text)) == (visible, cited)


@pytest.mark.parametrize(
    ("seen", "rest", "visible"),
    [
        ("```c\nx", "[1];\n```\nas in [1]", "[1];\n```\nas in"),
        ("call `a", "[1]` [2]", "[1]`"),
        ("https://a.b/c", "[1] [2]", "[1]"),
        ("[", "[1]] [2]", "[1]]"),
        ("days", " [1]", ""),
    ],
)
def test_continued_answer_knows_where_it_stands(seen: str, rest: str, visible: str) -> None:
    markers = MarkerFilter(3, seen=seen)
    assert "".join(piece.text for piece in markers.feed(rest) + markers.finish()) == visible


@given(text=st.text(alphabet="ab .\n[1", max_size=60))
def test_little_is_held_back(text: str) -> None:
    """What cannot become a marker any more is shown at once."""
    markers = MarkerFilter(3)
    visible = "".join(piece.text for character in text for piece in markers.feed(character))
    assert len(text) - len(visible) <= 47
