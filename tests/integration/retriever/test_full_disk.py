"""A disk that is short of room: nothing new is taken, what is there can be read and deleted, until there is room."""

from pathlib import Path

import openai
import pytest
from cloister_common.testing.embedder import FakeEmbedder

from tests.support.disks import fill, small_disk
from tests.support.documents import ingested, upload
from tests.support.milvus import MilvusLite
from tests.support.retriever import RetrieverMaker

DISK_MIB = 64


def test_below_the_floor_reading_goes_on_and_taking_waits_for_room(
    make_retriever: RetrieverMaker, milvus_lite: MilvusLite, fake_embedder: FakeEmbedder, tmp_path: Path, tenant: str
) -> None:
    with small_disk(tmp_path / "retriever", DISK_MIB) as disk:
        retriever = make_retriever(milvus_lite.uri).start()
        sdk = retriever.openai(tenant)
        store = sdk.vector_stores.create(name="s").id
        kept, doomed = (upload(sdk, f"{name}.txt", b"The lighthouse stands in Ostend.") for name in ("a", "b"))
        sdk.vector_stores.files.create(file_id=kept, vector_store_id=store)
        ingested(sdk, store)
        fill(disk / "filler")
        # Not to the last byte: a deletion is noted before it is done.
        with (disk / "filler").open("rb+") as filler:
            filler.truncate((disk / "filler").stat().st_size - (1 << 20))
        takes = (
            lambda: upload(sdk, "c.txt", b"new"),
            lambda: sdk.vector_stores.create(name="t"),
            lambda: sdk.vector_stores.files.create(file_id=doomed, vector_store_id=store),
            lambda: sdk.vector_stores.file_batches.create(store, file_ids=[doomed]),
        )
        for take in takes:
            with pytest.raises(openai.InternalServerError, match="The object store is full") as refused:
                take()
            assert refused.value.status_code == 503
        assert sdk.files.content(kept).read() == b"The lighthouse stands in Ostend."
        assert sdk.vector_stores.search(store, query="lighthouse").data[0].file_id == kept
        assert sdk.files.delete(doomed).deleted
        (disk / "filler").unlink()
        later = upload(sdk, "c.txt", b"The harbour lies in Bruges.")
        sdk.vector_stores.files.create(file_id=later, vector_store_id=store)
        assert ingested(sdk, store).file_counts.completed == 2
        retriever.kill()
