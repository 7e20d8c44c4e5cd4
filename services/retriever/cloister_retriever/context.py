"""What lives as long as the process, built in one place and closed in reverse."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial

from cloister_common.clients.embedder import EmbedderClient
from cloister_common.internal import InternalTokens
from cloister_common.settings import SettingsError, read_secret_lines
from cloister_common.supervisor import Supervisor
from cloister_common.vault import FileRootKey, Keyring, VaultError

from cloister_retriever.audience.service import Audiences
from cloister_retriever.audience.store import AccessStore
from cloister_retriever.charges.service import Charges
from cloister_retriever.files.service import FileService
from cloister_retriever.files.store import FileStore, ResultPartStore
from cloister_retriever.identifiers import UPLOAD_PREFIX
from cloister_retriever.index.collection import PassageCollection
from cloister_retriever.index.connection import MilvusConnection
from cloister_retriever.index.rotation import Rotations
from cloister_retriever.ingestion.paying import Paying
from cloister_retriever.ingestion.pipeline import Pipeline
from cloister_retriever.ingestion.worker import IngestWorkers
from cloister_retriever.jobs.due import Due, End
from cloister_retriever.jobs.purges import Purges
from cloister_retriever.jobs.queue import JobQueue
from cloister_retriever.keys import PassageKeyring
from cloister_retriever.parsing.chunking import Chunker, ModelLimits, load_tokenizer
from cloister_retriever.parsing.parser import Parser
from cloister_retriever.parsing.warm import ParserHost
from cloister_retriever.pictures.ingestion import PictureKeeper
from cloister_retriever.pictures.service import PictureService
from cloister_retriever.pictures.space import PictureSpace
from cloister_retriever.pictures.store import PictureStore
from cloister_retriever.reading.service import ReadingService, limits_of, looking_of
from cloister_retriever.reembedding.filling import Reembedder
from cloister_retriever.reembedding.service import ReembeddingService
from cloister_retriever.sealed.indexes import Indexes
from cloister_retriever.sealed.memory import OpenStores
from cloister_retriever.sealed.packs import Packs
from cloister_retriever.search.reranking import Reranker
from cloister_retriever.search.service import SearchService
from cloister_retriever.search.sights import Sights
from cloister_retriever.settings import RetrieverSettings
from cloister_retriever.storage.backend import open_objects
from cloister_retriever.storage.editions import EditionLog
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.objects import Objects
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

__all__ = ["Context", "ending_of", "open_context"]

_KEY_SECONDS = 60.0
"""How long a key that another replica destroyed may still be used here: replicas have no way to tell each other. Each
time over, a key costs one small object to read, so a search in a store of hundreds of files feels it once a minute."""


@dataclass(frozen=True)
class Context:
    """What the readiness checks ask, and what routes may ask for, each by its class."""

    tokens: InternalTokens
    audiences: Audiences
    files: FileService
    result_parts: ResultPartStore
    uploads: UploadService
    vector_stores: VectorStoreService
    attachments: AttachmentService
    batches: BatchService
    search: SearchService
    reembedding: ReembeddingService
    pictures: PictureService
    reading: ReadingService
    charges: Charges
    objects: Objects
    milvus: MilvusConnection
    embedder: EmbedderClient


@asynccontextmanager
async def open_context(settings: RetrieverSettings) -> AsyncIterator[Context]:
    """Builds everything. Milvus and the embedder may be down: they are found when they are needed.

    Raises:
        SettingsError: A secret, the tokenizer or the object store cannot be used, or the root key is not the one the
            store was sealed with.
    """
    async with AsyncExitStack() as stack:
        objects = open_objects(settings.blobs)
        keyring = Keyring(
            "retriever", FileRootKey(settings.vault.root_key_file), ObjectKeyStore(objects), cache_seconds=_KEY_SECONDS
        )
        await _check_root_key(keyring)
        records = SealedRecords(objects)
        uses = FileUses(objects, keyring)
        audiences = Audiences(AccessStore(keyring, records))
        keys = PassageKeyring(keyring)
        editions = EditionLog(objects, keyring, records, settings.embedder.model)
        store = VectorStoreStore(objects, keyring, records, editions)

        embedder = EmbedderClient(
            settings.embedder.url,
            InternalTokens(read_secret_lines(settings.embedder.token_file, what="the embedder's token")),
            settings.embedder.tls,
            settings.embedder.model,
        )
        stack.push_async_callback(embedder.close)
        milvus = MilvusConnection(settings.milvus)
        stack.push_async_callback(milvus.close)
        rotations = Rotations()
        models = EmbeddingModels(embedder, settings.embedder.model)
        packs = Packs(objects, keyring)
        open_stores = OpenStores(packs, keyring, most_bytes=settings.protection.sealed_memory_bytes)
        collections = cache(partial(PassageCollection, milvus))
        space = None
        if (image_model := settings.embedder.image_model) is not None:
            of_pictures = Indexes(collections, packs, open_stores, keys, rotations, editions)
            space = PictureSpace(image_model, embedder, of_pictures, keys, rotations, settings.search.pictures)
        besides = None if space is None else space.delete
        indexes = Indexes(collections, packs, open_stores, keys, rotations, editions, besides)
        pictures = PictureStore(objects, keyring)
        words = Words(objects, keyring, most_bytes=settings.search.words_memory_bytes)

        ingestion = settings.ingestion
        host = ParserHost()
        stack.callback(host.close)
        limits = ModelLimits.of(ingestion.tokenizer_path, prompt_tokens=ingestion.prompt_tokens)
        queue = JobQueue(objects, keyring, records, lease_seconds=ingestion.lease_seconds)
        purges = Purges(queue, indexes)
        charges = Charges(objects, keyring, records)
        due = Due(objects, keyring, records)
        most = ingestion.max_file_bytes
        files = FileService(FileStore(objects, keyring, records), uses, audiences, due, max_file_bytes=most)
        uploads = UploadService(UploadStore(objects, keyring, records), files, due, max_file_bytes=most)
        chunking = ChunkingPolicy(
            model_tokens=limits.tokens,
            auto=Chunking(max_tokens=ingestion.chunk_tokens, overlap_tokens=ingestion.overlap_tokens),
        )
        attachments = AttachmentService(store, files, uses, keys, queue, purges, chunking)
        expiries = Expiries(objects, keyring, records)
        stores = VectorStoreService(
            store,
            attachments,
            uses,
            purges,
            expiries,
            models,
            protection=settings.protection.default,
        )
        quick = Parser(limits_of(ingestion), host)
        fetching = PictureService(
            pictures, keys, attachments, files, Parser(looking_of(ingestion), host, by_sight=True)
        )
        search = SearchService(
            stores=stores,
            attachments=attachments,
            keys=keys,
            embedder=embedder,
            indexes=indexes,
            rotations=rotations,
            words=words,
            pieces=Chunker(load_tokenizer(ingestion.tokenizer_path), max_tokens=limits.tokens, overlap_tokens=0),
            reranker=Reranker(embedder, settings.search),
            sights=Sights(space, fetching, stores, attachments),
        )
        reembedding = ReembeddingService(stores, attachments, words, queue, models)
        supervisor = Supervisor()
        stack.push_async_callback(supervisor.close)
        supervisor.loop("sealed", open_stores.run)
        supervisor.loop("words", words.run)
        if settings.role in {"all", "ingest"}:
            pipeline = Pipeline(
                files=files,
                ingestions=IngestionService(store, uses, settings.protection),
                keys=keys,
                parser=Parser(ingestion, host, by_sight=space is not None),
                embedder=embedder,
                indexes=indexes,
                rotations=rotations,
                words=words,
                pictures=PictureKeeper(pictures, keys, space),
                queue=queue,
                paying=Paying(charges, model_tokens=limits.tokens, besides=limits.besides),
                reembedder=Reembedder(
                    service=reembedding,
                    stores=stores,
                    attachments=attachments,
                    search=search,
                    keys=keys,
                    embedder=embedder,
                    models=models,
                    indexes=indexes,
                    rotations=rotations,
                    words=words,
                    editions=editions,
                ),
            )
            workers = IngestWorkers(
                queue,
                pipeline,
                workers=ingestion.workers,
                lease_seconds=ingestion.lease_seconds,
                turn_seconds=ingestion.turn_seconds,
            )
            workers.start(supervisor)
            supervisor.loop("expiry", lambda: expiries.run(stores.settle_expiry))
            supervisor.loop("due", lambda: due.run(ending_of(files, uploads, stores)))
        yield Context(
            tokens=InternalTokens(read_secret_lines(settings.token_file, what="the retriever's internal token")),
            audiences=audiences,
            files=files,
            result_parts=ResultPartStore(objects, keyring),
            uploads=uploads,
            vector_stores=stores,
            attachments=attachments,
            batches=BatchService(store, attachments),
            search=search,
            reembedding=reembedding,
            pictures=fetching,
            reading=ReadingService(files, quick, passage_tokens=limits.tokens),
            charges=charges,
            objects=objects,
            milvus=milvus,
            embedder=embedder,
        )


def ending_of(files: FileService, uploads: UploadService, stores: VectorStoreService) -> End:
    """Ends a file or an upload that is due."""

    async def end(tenant: str, object_id: str) -> None:
        if object_id.startswith(UPLOAD_PREFIX):
            await uploads.expire(tenant, object_id)
        else:
            await files.delete(tenant, object_id, stores.detach_file)

    return end


async def _check_root_key(keyring: Keyring) -> None:
    try:
        await keyring.check()
    except VaultError as error:
        raise SettingsError(
            "vault.root_key_file is not the key this object store was sealed with. Put the right key there, or point "
            "blobs.url at an empty store."
        ) from error
