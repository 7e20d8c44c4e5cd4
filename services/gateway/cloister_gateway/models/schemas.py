"""Wire models of the catalog's administration. All of it is ours."""

from dataclasses import asdict
from typing import Annotated, Any

from cloister_common.wire.requests import Extension, RequestModel
from pydantic import StringConstraints

from cloister_gateway.model_settings import ModelFields
from cloister_gateway.models.catalog import ChatModel

__all__ = ["ModelEntry", "entry_body"]

_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")]


class ModelEntry(ModelFields, RequestModel):
    """``POST /cloister/v1/models``: what the settings file says under ``models.<name>``, and the name."""

    name: Annotated[_Name, Extension()]

    def fields(self) -> dict[str, Any]:
        """What was said of it, but for the name."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"name"})


def entry_body(model: ChatModel, *, in_force: bool, ready: bool) -> dict[str, Any]:
    """``cloister.model``

    Args:
        model: The entry.
        in_force: Whether callers get this one: not where the settings file has a model of the same name.
        ready: Whether one of its pods answers.
    """
    slices, pool = model.kubernetes, model.pool
    where: dict[str, Any] = {"urls": list(model.urls)} if model.urls else {"service": model.service}
    if slices is not None:
        labels = dict(label.split("=", 1) for label in slices.selector.split(","))
        where = {
            "kubernetes": {
                "namespace": slices.namespace,
                "labels": labels,
                "port": slices.port,
                "scheme": slices.scheme,
                "server_name": slices.server_name,
            }
        }
    if pool is not None:
        where = {"pool": asdict(pool)}
    if model.waking is not None:
        where["waking"] = model.waking.body()
    return {
        "object": "cloister.model",
        "name": model.name,
        "origin": model.origin,
        "in_force": in_force,
        "ready": ready,
        "created_at": model.created,
        "mode": model.mode,
        "capabilities": sorted(model.capabilities),
        "context_tokens": model.context_tokens,
        "default_output_tokens": model.default_output_tokens,
        "tokens_in_flight": model.tokens_in_flight,
        "instructions": model.instructions,
        "temperature": model.temperature,
        "top_p": model.top_p,
        "reasoning": model.reasoning,
        "tools": model.tools,
        "images": model.images,
        "projects": sorted(model.projects),
        **where,
    }
