"""Search by what pictures show: the questions by CLIP's text tower, and pictures that are asked with.

As everywhere, what the index returns is a proposal. A picture must belong to a file that is attached and completed now
and that the caller sees, must open under the keys and context of its place, and is scored on its own exact vector.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence, Set
from typing import NamedTuple

import numpy as np
from cloister_common.errors import Unavailable, UnsupportedParameter
from cloister_common.logs import get_logger
from cloister_common.vault import VaultError
from cloister_common.wire.pictures import image_bytes
from cloister_common.wire.search import SearchRequest

from cloister_retriever.index.passages import PassageOwner, open_vector, passage_id
from cloister_retriever.index.protocol import DROPPED, Hit, Question
from cloister_retriever.index.rotation import Vector
from cloister_retriever.keys import PassageKeys, picture_place
from cloister_retriever.pictures.service import PictureService
from cloister_retriever.pictures.space import PictureSpace
from cloister_retriever.search.results import Candidate
from cloister_retriever.search.scope import Scope
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.records import Attached
from cloister_retriever.vector_stores.service import OpenStore, VectorStoreService

__all__ = ["Sight", "Sights", "merged"]

log = get_logger(__name__)

_MOST_WORDED = 4
"""Questions that pictures are searched for by: the model sees each again, and reads but the beginning."""

_FILES_A_FILTER = 1000


class Sight(NamedTuple):
    """One question as a vector of the pictures' space."""

    vector: Vector
    of_picture: bool


class Sights:
    """Searches pictures by what they show.

    Args:
        space: The model's space; None if there is no model for that.
        pictures: Reads pictures that are asked with.
        stores: Of which the pictures are.
        attachments: Knows which files a store has.
    """

    def __init__(
        self,
        space: PictureSpace | None,
        pictures: PictureService,
        stores: VectorStoreService,
        attachments: AttachmentService,
    ) -> None:
        self._space = space
        self._pictures = pictures
        self._stores = stores
        self._attachments = attachments

    async def asked(self, tenant: str, request: SearchRequest) -> list[Sight]:
        """What a request asks of pictures: nothing where there is no model for that.

        Raises:
            UnsupportedParameter: It asks with a picture, and there is no model for that.
            InvalidRequest: A picture cannot be read.
            NotFound: A picture's file is unknown.
            Unavailable: The model does not answer, and a picture was asked with. Else words alone are searched for.
        """
        if self._space is None:
            if request.pictures:
                param, _ = request.pictures[0]
                raise UnsupportedParameter(
                    param,
                    f"'{param}' is a picture, and no model for pictures is set up here. Ask in words, or have the "
                    "operator set 'embedder.image_model' of the retriever.",
                )
            return []
        small = [await self._small(tenant, param, query.image_url, query.file_id) for param, query in request.pictures]
        shown = [] if not small else list(await self._space.of_pictures(small, bulk=False))
        sights = [Sight(vector, of_picture=True) for vector in shown]
        try:
            worded = await asyncio.gather(*(self._space.of_text(text) for text in request.queries[:_MOST_WORDED]))
        except Unavailable:
            if request.pictures:
                raise
            log.warning("pictures_not_searched", reason="the image model does not answer")
            return []
        return sights + [Sight(vector, of_picture=False) for vector in worded if vector is not None]

    async def _small(self, tenant: str, param: str, url: str | None, file_id: str | None) -> bytes:
        if file_id is not None:
            return await self._pictures.asked_file(tenant, file_id, param)
        content = image_bytes(url or "", param)

        return await self._pictures.asked(_once(content), param)

    async def search(
        self,
        tenant: str,
        store: OpenStore,
        sights: Sequence[Sight],
        scope: Scope,
        hidden: Set[str],
        *,
        limit: int,
        fresh: bool,
    ) -> list[Candidate]:
        """The pictures of a store that are nearest to any of the questions, with their scores."""
        if self._space is None or not sights:
            return []
        rotated = self._space.rotated(store.key, tenant, np.stack([sight.vector for sight in sights]))
        firsts = range(0, 1 if scope.only is None else len(scope.only), _FILES_A_FILTER)
        protections = await self._stores.protections(tenant, store)
        found = await asyncio.gather(
            *(
                self._space.index(tenant, store.record.id, store.key, protection).search(
                    picture_place(store.record.id),
                    Question(vector, None),
                    limit=limit,
                    attachment_ids=None if scope.only is None else scope.only[first : first + _FILES_A_FILTER],
                    fresh=fresh,
                    without=scope.without,
                )
                for protection in protections
                for first in firsts
                for vector in rotated
            )
        )
        hits = {hit.passage.id: hit for one in found for hit in one.hits if hit.passage.file_id not in hidden}
        file_ids = sorted({hit.passage.file_id for hit in hits.values()})
        attached = await self._attachments.get_many(tenant, store.record.id, store.key, file_ids)
        keys = {file_id: await self._space.keys_of(tenant, store.key, file_id) for file_id in attached}
        opened = (self._candidate(tenant, store, sights, hit, attached, keys) for hit in hits.values())
        return [candidate for candidate in opened if candidate is not None]

    def _candidate(
        self,
        tenant: str,
        store: OpenStore,
        sights: Sequence[Sight],
        hit: Hit,
        attached: dict[str, Attached],
        keys: dict[str, PassageKeys | None],
    ) -> Candidate | None:
        """A hit that may be served, with the best score that it has for any question."""
        assert self._space is not None
        sealed = hit.passage
        file, own = attached.get(sealed.file_id), keys.get(sealed.file_id)
        if file is None or own is None or file.status != "completed" or file.record.id != sealed.attachment_id:
            DROPPED.labels("not_current").inc()
            return None
        owner = PassageOwner(tenant, picture_place(store.record.id), sealed.file_id, sealed.attachment_id)
        try:
            exact = open_vector(own, owner, sealed) if hit.exact is None else hit.exact
        except VaultError:
            DROPPED.labels("did_not_open").inc()
            log.error("picture_did_not_open", store=store.record.id, picture=sealed.id)
            return None
        if sealed.id != passage_id(own, owner, sealed.position):
            DROPPED.labels("copied").inc()
            log.error("picture_was_copied", store=store.record.id, picture=sealed.id)
            return None
        if len(exact) != len(sights[0].vector):
            DROPPED.labels("other_model").inc()
            log.error("picture_of_another_model", store=store.record.id, picture=sealed.id)
            return None
        score = max(self._space.score(float(sight.vector @ exact), of_picture=sight.of_picture) for sight in sights)
        # Of pictures, unlike of passages, the nearest may have nothing at all to do with a question.
        return Candidate(score, sealed, file, own, owner, by_sight=True) if score > 0 else None


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content


def merged(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Each passage and picture once, by the way that gave it the best score.

    A picture that is described has one place in the file, whatever it was found by.
    """
    best: dict[tuple[str, int], Candidate] = {}
    for candidate in candidates:
        name = (candidate.owner.attachment_id, candidate.sealed.position)
        if name not in best or candidate.score > best[name].score:
            best[name] = candidate
    return list(best.values())
