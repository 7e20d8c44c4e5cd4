"""What candidates become: results in OpenAI's shape, none that does not open and none twice."""

from cloister_retriever.search.results import Candidate, results_of
from cloister_retriever.vector_stores.records import Attached, AttachmentRecord, Chunking

from tests.unit.retriever.test_index import OWNER, keys_of, row_of

ATTACHED = Attached(
    record=AttachmentRecord(
        id=OWNER.attachment_id,
        store_id=OWNER.store_id,
        file_id=OWNER.file_id,
        file_name="zoo.md",
        created_at=1,
        attributes={"n": 1},
        chunking=Chunking(max_tokens=200, overlap_tokens=40),
    ),
    outcome=None,
)


def candidate(score: float, position: int, *, text: str = "the zebra eats grass") -> Candidate:
    return Candidate(score, row_of(position, text=text), ATTACHED, keys_of(), OWNER)


def test_a_result_says_where_it_is_from_and_how_good_it_is() -> None:
    [found] = results_of([candidate(0.5, 3)], 10).passages
    assert (found.score, found.filename, found.passage.index) == (0.5, "zoo.md", 3)


def test_a_passage_that_does_not_open_makes_room_for_the_next() -> None:
    moved = candidate(0.9, 0)._replace(sealed=row_of(0)._replace(position=1))
    best = [moved, *(candidate(0.8 - number / 10, number, text=f"text {number}") for number in (1, 2, 3))]
    assert [one.passage.index for one in results_of(best, 2).passages] == [1, 2]


def test_of_passages_with_the_same_text_the_best_is_served() -> None:
    best = [candidate(0.9, 0), candidate(0.8, 1), candidate(0.7, 2, text="another"), candidate(0.6, 3)]
    found = results_of(best, 10)
    assert [one.passage.index for one in found.passages] == [0, 2]
    assert found.repeated == 2
