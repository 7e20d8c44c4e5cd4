"""Wire models of ``/cloister/v1/adapters``."""

from typing import Annotated, Any

from cloister_common.wire.requests import RequestModel
from pydantic import Field, StringConstraints

from cloister_gateway.models.adapters.records import AdapterRecord, Version

__all__ = ["AdapterCreate", "adapter_body"]

_Project = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class AdapterCreate(RequestModel):
    """``POST /cloister/v1/adapters``"""

    name: str = Field(
        min_length=1,
        max_length=128,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
        description="What callers ask for, like a model's.",
    )
    base_model: str = Field(min_length=1, description="The model that it was trained for.")
    folder: str = Field(
        min_length=1, max_length=512, description="Its folder, below the one where the model's pods look for adapters."
    )
    digest: str = Field(
        pattern=r"^sha256:[0-9a-f]{64}$",
        description="`sha256:` and what `sha256sum adapter_config.json adapter_model.safetensors | sha256sum` prints.",
    )
    projects: list[_Project] = Field(
        min_length=1, max_length=1000, fail_fast=True, description="Ids of the projects that may use it."
    )
    canary_percent: int | None = Field(
        None,
        ge=1,
        le=99,
        description="Percent of the conversations that get this version; the others stay with the one before. Left "
        "out, all get it.",
    )


def adapter_body(record: AdapterRecord, pods: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """One adapter; ``pods`` says of each version's digest on how many pods it is loaded, and how many there are."""
    return {
        "id": record.name,
        "object": "adapter",
        "created_at": record.created_at,
        "base_model": record.base_model,
        "projects": list(record.projects),
        "versions": [_version_body(version, *pods[version.digest]) for version in record.versions],
    }


def _version_body(version: Version, loaded: int, pods: int) -> dict[str, Any]:
    return {
        "digest": version.digest,
        "folder": version.folder,
        "created_at": version.created_at,
        "status": "serving" if version.share else "loading",
        "percent": version.share,
        "pods": {"loaded": loaded, "total": pods},
    }
