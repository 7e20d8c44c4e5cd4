"""A vector store that has expired: refused at once, emptied by the sweep, its files kept."""

import pytest
import yaml
from cloister_common.errors import Conflict
from cloister_common.testing.embedder import FakeEmbedder
from cloister_common.vault import FileRootKey, Keyring
from cloister_retriever.context import open_context
from cloister_retriever.settings import RetrieverSettings
from cloister_retriever.storage.backend import open_objects
from cloister_retriever.storage.keys import ObjectKeyStore
from cloister_retriever.storage.layout import tenant_paths
from cloister_retriever.storage.records import SealedRecords
from cloister_retriever.vector_stores.expiry import Expiries
from cloister_retriever.vector_stores.records import Moment

from tests.support.documents import ingested, upload
from tests.support.milvus import MilvusLite
from tests.support.retriever import RetrieverMaker

_TWO_DAYS = 2 * 86_400


async def test_an_expired_store_is_refused_then_emptied(
    milvus_lite: MilvusLite, make_retriever: RetrieverMaker, fake_embedder: FakeEmbedder, tenant: str
) -> None:
    retriever = make_retriever(milvus_lite.uri).start()
    sdk = retriever.openai(tenant)
    file_id = upload(sdk, "a.txt", b"the zebra eats grass")
    kept = sdk.vector_stores.create(name="kept", file_ids=[file_id]).id
    doomed = sdk.vector_stores.create(
        name="doomed", file_ids=[file_id], expires_after={"anchor": "last_active_at", "days": 1}
    ).id
    for store in (kept, doomed):
        ingested(sdk, store)
    retriever.stop()

    settings = RetrieverSettings.model_validate(yaml.safe_load((retriever.folder / "retriever.yaml").read_text()))
    settings = settings.model_copy(update={"role": "api"})
    objects = open_objects(settings.blobs)
    keyring = Keyring("retriever", FileRootKey(settings.vault.root_key_file), ObjectKeyStore(objects))
    records = SealedRecords(objects)
    key = await keyring.get(tenant, "vector_store", doomed)
    assert key is not None
    path = (await tenant_paths(keyring, tenant)).activity(doomed)
    used = await records.get(path, Moment, key)
    assert used is not None
    await records.put(path, Moment(at=used.at - _TWO_DAYS), key)

    async with open_context(settings) as context:
        with pytest.raises(Conflict, match="expired"):
            await context.vector_stores.open(tenant, doomed)
        expiries = Expiries(objects, keyring, records)
        await expiries.sweep(context.vector_stores.settle_expiry)
        expired = (await context.vector_stores.describe(tenant, await context.vector_stores.get(tenant, doomed))).wire()
        assert (expired["status"], expired["file_counts"]["total"], expired["usage_bytes"]) == ("expired", 0, 0)
        assert (await context.files.get(tenant, file_id)).id == file_id
        alive = (await context.vector_stores.describe(tenant, await context.vector_stores.get(tenant, kept))).wire()
        assert (alive["status"], alive["file_counts"]["completed"]) == ("completed", 1)
    assert not list((retriever.blobs / "expiring").iterdir())
