"""vLLM's adapters, by the objects that its own routes use.

Those routes (``/v1/load_lora_adapter``) stay shut: they take any path, and need a switch that opens more. A name of
ours holds the digest, and so does the path; both are part of the hash of a cached block
(``vllm.v1.core.kv_cache_utils``, `_gen_lora_extra_hash_keys`), beside the tenant's salt. The number by which vLLM keeps
an adapter counts up and is never used again.
"""

from typing import Any, Protocol

from cloister_common.errors import InvalidRequest

__all__ = ["Loras", "VllmLoras"]


class Loras(Protocol):
    """What loads and forgets adapters."""

    async def load(self, name: str, path: str) -> None:
        """Loads the adapter in ``path``. Raises `InvalidRequest` where it is refused."""

    async def unload(self, name: str) -> None:
        """Forgets it."""


class VllmLoras:
    """Those of the server whose application is ``app``."""

    def __init__(self, app: Any) -> None:
        self._models = app.state.openai_serving_models

    async def load(self, name: str, path: str) -> None:
        """As `Loras.load`."""
        from vllm.entrypoints.serve.lora.protocol import LoadLoRAAdapterRequest

        if name in self._models.lora_requests:
            return
        said = await self._models.load_lora_adapter(LoadLoRAAdapterRequest(lora_name=name, lora_path=path))
        if not isinstance(said, str):
            raise InvalidRequest(
                f"vLLM refuses the adapter: {said.error.message}", param="folder", code="adapter_unfit"
            )

    async def unload(self, name: str) -> None:
        """As `Loras.unload`; its slot is free at once."""
        from vllm.entrypoints.serve.lora.protocol import UnloadLoRAAdapterRequest

        found = self._models.lora_requests.get(name)
        if found is None:
            return
        await self._models.unload_lora_adapter(UnloadLoRAAdapterRequest(lora_name=name))
        await self._models.engine_client.remove_lora(found.lora_int_id)
