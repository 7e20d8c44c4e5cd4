"""A retriever's services in memory that can be killed between any two writes, and started again on what is stored."""

from collections.abc import AsyncIterator
from typing import Literal

from cloister_common.caller import NOBODY, Caller
from cloister_common.vault import Keyring
from cloister_retriever.audience.service import Audiences, Sight
from cloister_retriever.audience.store import AccessStore
from cloister_retriever.charges.service import Charges
from cloister_retriever.context import ending_of
from cloister_retriever.files.schemas import FileRecord
from cloister_retriever.files.service import FileService
from cloister_retriever.files.store import FileStore
from cloister_retriever.files.upload import MultipartUpload
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.ingestion.paying import Paying
from cloister_retriever.ingestion.pipeline import Pipeline
from cloister_retriever.ingestion.worker import IngestWorkers
from cloister_retriever.jobs.due import Due
from cloister_retriever.jobs.purges import Purges
from cloister_retriever.jobs.queue import JobQueue
from cloister_retriever.keys import PassageKeyring
from cloister_retriever.pictures.ingestion import PictureKeeper
from cloister_retriever.pictures.service import PictureService
from cloister_retriever.pictures.space import PictureSpace
from cloister_retriever.pictures.store import PictureStore
from cloister_retriever.reembedding.filling import Reembedder
from cloister_retriever.reembedding.service import ReembeddingService
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.sealed.memory import OpenStores
from cloister_retriever.sealed.packs import Packs
from cloister_retriever.search.reranking import Reranker
from cloister_retriever.search.service import SearchService
from cloister_retriever.search.sights import Sights
from cloister_retriever.settings import PictureSearchSettings, Protection, ProtectionSettings, SearchSettings
from cloister_retriever.storage.editions import EditionLog
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.records import SealedRecords
from cloister_retriever.storage.uses import FileUses
from cloister_retriever.uploads.service import UploadService
from cloister_retriever.uploads.store import UploadStore
from cloister_retriever.vector_stores.attaching import ChunkingPolicy
from cloister_retriever.vector_stores.attachments import AttachmentService
from cloister_retriever.vector_stores.batches import BatchService
from cloister_retriever.vector_stores.expiry import Expiries
from cloister_retriever.vector_stores.ingestions import IngestionService
from cloister_retriever.vector_stores.models import EmbeddingModels
from cloister_retriever.vector_stores.records import Chunking
from cloister_retriever.vector_stores.service import VectorStoreService
from cloister_retriever.vector_stores.store import VectorStoreStore
from cloister_retriever.vector_stores.terms import Words

from tests.support.retriever_parts import (
    MODEL,
    OTHER_MODEL,
    Fuse,
    Killed,
    MemoryEmbedder,
    MemoryIndex,
    MemoryObjects,
    MemoryParser,
    MemoryPieces,
    MemoryRoot,
    MortalSupervisor,
    ReadsHere,
    SeeingEmbedder,
    Stored,
    read_here,
)

__all__ = [
    "LEASE_SECONDS",
    "MODEL",
    "OTHER_MODEL",
    "SEALED_PASSAGES",
    "TENANT",
    "Killed",
    "MemoryProcess",
    "MemoryRoot",
    "ReadsHere",
    "Stored",
    "form_of",
    "read_here",
]

TENANT = "proj_a"
LEASE_SECONDS = 0.05
SEALED_PASSAGES = 20


class MemoryProcess:
    """The services of one process over what is stored."""

    def __init__(
        self,
        stored: Stored,
        root: MemoryRoot,
        *,
        sealed_passages: int = SEALED_PASSAGES,
        outgrown: Literal["standard", "refuse"] = "standard",
        model: str = MODEL,
        search: SearchSettings | None = None,
        protection: Protection = "standard",
        reads_pictures: bool = False,
        sees: bool = False,
    ) -> None:
        self.stored, self.root = stored, root
        self.fuse = Fuse()
        self.objects = MemoryObjects(stored.objects, self.fuse)
        keyring = Keyring("retriever", root, ObjectKeyStore(self.objects))
        self.records = records = SealedRecords(self.objects)
        self.index = index = MemoryIndex(stored, self.fuse)
        self.file_store = FileStore(self.objects, keyring, records)
        self.uses = uses = FileUses(self.objects, keyring)
        self.keys = keys = PassageKeyring(keyring)
        self.editions = EditionLog(self.objects, keyring, records, model)
        self.store = VectorStoreStore(self.objects, keyring, records, self.editions)
        self.queue = JobQueue(self.objects, keyring, records, lease_seconds=LEASE_SECONDS)
        self.charges = Charges(self.objects, keyring, records)
        packs = Packs(self.objects, keyring)
        self.open_stores = OpenStores(packs, keyring, most_bytes=2**20)
        eyes = SeeingEmbedder()
        self.space: PictureSpace | None = None
        if sees:
            of_pictures = MemoryIndex(stored, self.fuse)
            seen = Indexes(lambda _: of_pictures, packs, self.open_stores, keys, Rotations(), self.editions)
            settings = PictureSearchSettings(text_cosines=(0.3, 1.0), picture_cosines=(0.3, 1.0))
            self.space = PictureSpace("clip", eyes, seen, keys, Rotations(), settings)
        besides = None if self.space is None else self.space.delete
        self.indexes = indexes = Indexes(
            lambda _: index, packs, self.open_stores, keys, Rotations(), self.editions, besides
        )
        purges = Purges(self.queue, indexes)
        self.words = words = Words(self.objects, keyring, most_bytes=10**9)
        self.due = Due(self.objects, keyring, records)
        self.audiences = Audiences(AccessStore(keyring, records))
        most = 200_000 if reads_pictures else 1000
        self.files = FileService(self.file_store, uses, self.audiences, self.due, max_file_bytes=most)
        uploads = UploadStore(self.objects, keyring, records)
        self.uploads = UploadService(uploads, self.files, self.due, max_file_bytes=most)
        chunking = ChunkingPolicy(model_tokens=254, auto=Chunking(max_tokens=200, overlap_tokens=40))
        self.attachments = AttachmentService(self.store, self.files, uses, keys, self.queue, purges, chunking)
        self.batches = BatchService(self.store, self.attachments)
        self.expiries = expiries = Expiries(self.objects, keyring, records)
        self.embedder = MemoryEmbedder()
        models = EmbeddingModels(self.embedder, model)
        self.stores = VectorStoreService(
            self.store, self.attachments, uses, purges, expiries, models, protection=protection
        )
        self.end = ending_of(self.files, self.uploads, self.stores)
        picture_store = PictureStore(self.objects, keyring)
        looks = ReadsHere(by_sight=True)
        self.pictures = PictureService(picture_store, keys, self.attachments, self.files, looks)
        policy = ProtectionSettings(sealed_passages=sealed_passages, outgrown=outgrown)
        self.search = SearchService(
            stores=self.stores,
            attachments=self.attachments,
            keys=keys,
            embedder=self.embedder,
            indexes=indexes,
            rotations=Rotations(),
            words=words,
            pieces=MemoryPieces(),
            reranker=Reranker(self.embedder, search or SearchSettings()),
            sights=Sights(self.space, self.pictures, self.stores, self.attachments),
        )
        self.reembedding = ReembeddingService(self.stores, self.attachments, words, self.queue, models)
        self.reembedder = Reembedder(
            service=self.reembedding,
            stores=self.stores,
            attachments=self.attachments,
            search=self.search,
            keys=keys,
            embedder=self.embedder,
            models=models,
            indexes=indexes,
            rotations=Rotations(),
            words=words,
            editions=self.editions,
        )
        self.pipeline = Pipeline(
            files=self.files,
            ingestions=IngestionService(self.store, uses, policy),
            keys=keys,
            parser=ReadsHere(by_sight=sees) if reads_pictures else MemoryParser(),
            embedder=self.embedder,
            indexes=indexes,
            rotations=Rotations(),
            words=words,
            queue=self.queue,
            reembedder=self.reembedder,
            pictures=PictureKeeper(picture_store, keys, self.space),
            paying=Paying(self.charges, model_tokens=254, besides=2),
        )
        self.workers = IngestWorkers(self.queue, self.pipeline, workers=1, lease_seconds=LEASE_SECONDS)
        self.supervisor = MortalSupervisor()

    async def upload(
        self, content: str | bytes, caller: Caller = NOBODY, /, *, name: str = "a.txt", **fields: str
    ) -> FileRecord:
        form = form_of(content, name=name, purpose="assistants", **fields)
        return await self.files.upload(TENANT, form, Sight(self.audiences, TENANT, caller))


def form_of(content: str | bytes, *, name: str = "a.txt", file_field: str = "file", **fields: str) -> MultipartUpload:
    """A form with a file and fields."""

    async def body() -> AsyncIterator[bytes]:
        for field, value in fields.items():
            yield f'--b\r\ncontent-disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        yield f'--b\r\ncontent-disposition: form-data; name="{file_field}"; filename="{name}"\r\n\r\n'.encode()
        yield (content.encode() if isinstance(content, str) else content) + b"\r\n--b--\r\n"

    return MultipartUpload("multipart/form-data; boundary=b", body(), file_field=file_field)
