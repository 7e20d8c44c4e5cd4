"""The catalogue of accelerators (``accelerators.yaml``), typed."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict, Field

from cloister_llm.plan.configuration import PlanError

__all__ = ["Accelerator", "catalogue", "find"]

_NEXT_LARGER = {"fp4": ("fp8", "fp16"), "fp8": ("fp16",), "int8": ("fp16",), "fp16": ()}
_NOTES = {
    "nvidia": None,
    "amd": "our image is for NVIDIA: needs one with vLLM for ROCm",
    "intel": "our image is for NVIDIA: needs one with vLLM for Gaudi",
}


class Accelerator(BaseModel):
    """One device; the file says what each figure means."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    name: str
    maker: str
    memory_gb: float = Field(gt=0)
    usable_gib: float = Field(gt=0)
    bandwidth_gbs: float = Field(gt=0)
    tflops: Mapping[str, float]
    link: str
    link_gbs: float = Field(gt=0)
    source: str

    @property
    def note(self) -> str | None:
        """What there is to know before it is ordered."""
        return _NOTES.get(self.maker)

    def matrix_tflops(self, computes: str) -> float:
        """Dense throughput of what a model computes in, or of the next larger type where it has none."""
        return next(self.tflops[kind] for kind in (computes, *_NEXT_LARGER[computes]) if kind in self.tflops)


@cache
def catalogue() -> Mapping[str, Accelerator]:
    """All of them by key, in the file's order: by generation within a maker."""
    read = yaml.safe_load((files(__package__) / "accelerators.yaml").read_text(encoding="utf-8"))
    return {
        key: Accelerator(key=key, **{**entry, "source": read["sources"][entry["source"]]})
        for key, entry in read["accelerators"].items()
    }


def find(names: str) -> list[Accelerator]:
    """Those that a list with commas names; all of them for ``all``.

    Raises:
        PlanError: A name that is not in the catalogue.
    """
    known = catalogue()
    if names == "all":
        return list(known.values())
    wanted = [name.strip().lower() for name in names.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise PlanError(f"There is no accelerator '{', '.join(unknown)}'. Known are: {', '.join(known)}.")
    return [known[name] for name in wanted]
