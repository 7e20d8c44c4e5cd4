"""What candidates become: the best of them, each text once, in the shape of a result."""

from collections.abc import Sequence
from typing import NamedTuple

from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from cloister_common.wire.search import FoundBy, FoundImage, FoundPassage, PassagePlace

from cloister_retriever.index.passages import Passage, PassageOwner, open_passage
from cloister_retriever.index.protocol import DROPPED, SealedPassage
from cloister_retriever.keys import PassageKeys
from cloister_retriever.vector_stores.records import Attached

__all__ = ["Candidate", "Results", "image_url", "results_of"]

log = get_logger(__name__)


class Candidate(NamedTuple):
    """A hit that opened: its score, and what is needed to open its text."""

    score: float
    sealed: SealedPassage
    attached: Attached
    keys: PassageKeys
    owner: PassageOwner
    by_sight: bool = False
    """Whether its score is that of a picture by what it shows."""


class Results(NamedTuple):
    """The passages, best first, and how many were left out because their text was there already."""

    passages: list[FoundPassage]
    repeated: int


def results_of(best: Sequence[Candidate], count: int) -> Results:
    """The first ``count`` texts of candidates, best first.

    A file that was uploaded twice would else fill the list with everything twice.
    """
    results: list[FoundPassage] = []
    texts: set[tuple[tuple[str, int] | None, str]] = set()
    repeated = 0
    for candidate in best:
        if len(results) == count:
            break
        try:
            passage = open_passage(candidate.keys, candidate.owner, candidate.sealed)
        except VaultError:
            DROPPED.labels("did_not_open").inc()
            log.error("passage_did_not_open", store=candidate.owner.store_id, passage=candidate.sealed.id)
            continue
        # A picture is not what stands around it, and one is not another.
        shown = None if passage.picture is None else (candidate.owner.attachment_id, passage.picture.number)
        text = " ".join(passage.text.split())
        if (shown, text) in texts:
            repeated += 1
            continue
        texts.add((shown, text))
        results.append(_result(candidate, passage))
    return Results(results, repeated)


def image_url(store_id: str, file_id: str, number: int) -> str:
    """Where a picture is fetched."""
    return f"/v1/vector_stores/{store_id}/files/{file_id}/images/{number}"


def _result(candidate: Candidate, passage: Passage) -> FoundPassage:
    store_id = candidate.attached.record.store_id
    found_by: FoundBy = "text"
    image = None
    if (picture := passage.picture) is not None:
        found_by = "image" if candidate.by_sight or picture.by is None else picture.by
        image = FoundImage(
            file_id=candidate.owner.file_id,
            index=picture.number,
            url=image_url(store_id, candidate.owner.file_id, picture.number),
            media_type=picture.media_type,
            width=picture.width,
            height=picture.height,
        )
    return FoundPassage(
        vector_store_id=store_id,
        file_id=candidate.owner.file_id,
        filename=candidate.attached.record.file_name,
        score=candidate.score,
        attributes=candidate.attached.record.attributes or {},
        text=passage.text,
        passage=PassagePlace(
            id=candidate.sealed.id,
            index=passage.position,
            page=passage.page,
            section=passage.section,
            start=passage.start,
            end=passage.end,
        ),
        found_by=found_by,
        image=image,
    )
