"""What `FakeRetriever` keeps in memory, by tenant: files, vector stores, what is attached to which, and batches."""

import time

from fastapi import Request

from cloister_common.errors import NotFound
from cloister_common.internal import tenant_of
from cloister_common.testing.retriever_access import FakeLists
from cloister_common.testing.retriever_answers import Json, check_document, new_store, page_of
from cloister_common.testing.retriever_progress import progress_of, progress_of_all

__all__ = ["FakeShelves"]


class FakeShelves:
    """Finds what a request names, as far as its tenant and its caller may see it, and tells it in the wire's shape.

    Attributes:
        lists: The access lists of files.
        hold: While true, files that are attached stay ``in_progress`` and are not found.
        planted: Stores that every tenant has, with what each search of them finds, made by ``found``.
    """

    def __init__(self) -> None:
        self.lists = FakeLists()
        self.hold = False
        self.planted: dict[str, list[Json]] = {}
        self._files: dict[str, dict[str, tuple[Json, bytes]]] = {}
        self._stores: dict[str, dict[str, Json]] = {}
        self._attached: dict[str, dict[str, Json]] = {}
        self._made: dict[str, list[str]] = {}
        self._batches: dict[str, tuple[str, list[str]]] = {}

    def _file(self, request: Request, file_id: str, param: str | None = None) -> tuple[Json, bytes]:
        found = self._files.get(tenant_of(request), {}).get(file_id)
        if found is None:
            raise NotFound(f"No such file: '{file_id}'.", param=param)
        self.lists.see(request, file_id, param)
        return found

    def _store(self, request: Request, store_id: str, param: str | None = None) -> Json:
        found = self._stores.get(tenant_of(request), {}).get(store_id)
        if found is None and store_id in self.planted:
            return new_store(store_id, {})
        if found is None:
            raise NotFound(f"No such vector store: '{store_id}'.", param=param)
        return found

    def _wire(self, store: Json) -> Json:
        attached = self._attached.get(store["id"], {})
        counts = self._counts(list(attached), store["id"])
        days = (store["expires_after"] or {}).get("days")
        return {
            **{name: value for name, value in store.items() if name != "expires_after" or value},
            "file_counts": counts,
            "status": "in_progress" if counts["in_progress"] else "completed",
            "usage_bytes": sum(self._settled(file)["usage_bytes"] for file in attached.values()),
            "expires_at": None if days is None else store["last_active_at"] + days * 86_400,
            **progress_of_all(counts),
        }

    def _attachment(self, request: Request, store_id: str, file_id: str) -> Json:
        self._store(request, store_id)
        found = self._attached[store_id].get(file_id)
        if found is None:
            raise NotFound(f"No such file: '{file_id}'.")
        self.lists.see(request, file_id)
        return found

    def _admit(self, request: Request, entry: Json) -> None:
        check_document(self._file(request, entry.get("file_id", ""), "file_id")[0])
        if entry.get("access") is not None:
            self.lists.put(request, entry["file_id"], entry["access"])

    def _put(self, store_id: str, entry: Json) -> Json:
        attached: Json = {
            "id": entry["file_id"],
            "created_at": int(time.time()),
            "last_error": None,
            "object": "vector_store.file",
            "status": "in_progress",
            "usage_bytes": 0,
            "vector_store_id": store_id,
            "attributes": entry.get("attributes") or {},
            "chunking_strategy": {
                "type": "static",
                "static": {"max_chunk_size_tokens": 200, "chunk_overlap_tokens": 40},
            },
        }
        if entry["file_id"] not in self._attached[store_id]:
            self._attached[store_id][entry["file_id"]] = attached
            self._note_made(store_id, entry["file_id"])
        return self._attached[store_id][entry["file_id"]]

    def _settled(self, attached: Json) -> Json:
        if attached["status"] == "in_progress" and not self.hold:
            attached.update(status="completed", usage_bytes=1000)
        return attached | progress_of(attached["status"])

    def _batch(self, request: Request, store_id: str, batch_id: str) -> list[str]:
        self._store(request, store_id)
        owner, members = self._batches.get(batch_id, ("", []))
        if owner != store_id:
            raise NotFound(f"No such file batch: '{batch_id}'.")
        return [file_id for file_id in members if file_id in self._attached[store_id]]

    def _batch_wire(self, batch_id: str) -> Json:
        store_id, members = self._batches[batch_id]
        counts = self._counts([one for one in members if one in self._attached[store_id]], store_id)
        status = "in_progress" if counts["in_progress"] else "cancelled" if counts["cancelled"] else "completed"
        return {
            "id": batch_id,
            "created_at": int(time.time()),
            "file_counts": counts,
            "object": "vector_store.files_batch",
            "status": status,
            "vector_store_id": store_id,
            **progress_of_all(counts),
        }

    def _counts(self, file_ids: list[str], store_id: str) -> dict[str, int]:
        counts = dict.fromkeys(("cancelled", "completed", "failed", "in_progress"), 0)
        for file_id in file_ids:
            counts[self._settled(self._attached[store_id][file_id])["status"]] += 1
        return {**counts, "total": len(file_ids)}

    def _filtered(self, request: Request, files: list[Json], made: list[str]) -> Json:
        wanted = request.query_params.get("filter")
        seen = [file for file in files if not self.lists.is_hidden(request, file["id"])]
        return page_of([file for file in map(self._settled, seen) if wanted in {None, file["status"]}], request, made)

    def _note_made(self, where: str, made_id: str) -> None:
        """Notes what a list got: the newest place, also for what comes back."""
        made = self._made.setdefault(where, [])
        if made_id in made:
            made.remove(made_id)
        made.append(made_id)
