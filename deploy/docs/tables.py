"""The tables of settings in the READMEs of the services, between two marks."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from cloister_common.settings import ServiceSettings
from cloister_embedder.settings import EmbedderSettings
from cloister_gateway.settings import GatewaySettings
from cloister_llm.settings import LlmSettings
from cloister_retriever.settings import RetrieverSettings

from deploy.docs.settings import Setting, described

__all__ = ["BEGIN", "CLASSES", "END", "SERVICES", "Unmarked", "readme"]

SERVICES = Path(__file__).parents[2] / "services"
BEGIN, END = "<!-- settings: made by make docs -->", "<!-- end of settings -->"

_SHARED = "../common/README.md#settings-of-every-service"


class Unmarked(Exception):
    """A README without the marks that its table stands between."""


CLASSES: Mapping[str, type[ServiceSettings]] = {
    "common": ServiceSettings,
    "gateway": GatewaySettings,
    "embedder": EmbedderSettings,
    "retriever": RetrieverSettings,
    "llm": LlmSettings,
}
"""The settings that each README has, by the folder of the service."""


def table(settings: Iterable[Setting], *, shared: bool) -> str:
    """The settings as a Markdown table, sections as rows of their own; ``shared`` adds where the others stand."""
    rows = ["| Key | Takes | Default | What it is |", "| --- | --- | --- | --- |"]
    if shared:
        rows.append(
            f"| **`server`**, **`log`** | | | [As in every service]({_SHARED}), with the limits on connections. |"
        )
    for setting in settings:
        key = f"**`{setting.path}`**" if setting.section else f"`{setting.path}`"
        rows.append("|".join(["", *(f" {cell} " if cell else " " for cell in _cells(key, setting)), ""]))
    return "\n".join(rows)


def _cells(key: str, setting: Setting) -> list[str]:
    return [key, *(text.replace("|", "\\|") for text in (setting.takes, setting.default, setting.sentence))]


def readme(service: str) -> str:
    """The README of a service as it should be: what stands between the marks is replaced by the table.

    Raises:
        Undescribed: A setting has no sentence.
        Unmarked: The README has no place for the table.
    """
    path = SERVICES / service / "README.md"
    before, begin, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise Unmarked(f"{path} must have the marks {BEGIN} and {END}, where its table of settings belongs")
    made = table(described(CLASSES[service]), shared=service != "common")
    return f"{before}{BEGIN}\n\n{made}\n\n{END}{after}"
