"""What the documents point at is there."""

import re
from pathlib import Path

import pytest

from deploy.docs.parameters import BODIES, parameters_of
from deploy.docs.settings import settings_of
from deploy.docs.tables import CLASSES
from deploy.helm.values import documented
from deploy.local.settings import LocalSettings

ROOT = Path(__file__).parents[3]
PATTERNS = ("*.md", "docs/**/*.md", "services/*/README.md", "deploy/helm/cloister/*.md")
DOCUMENTS = sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})
LINK = re.compile(r"\]\(([^)\s]+)\)")
DOTTED = re.compile(r"(?:`|--set )([a-z][a-zA-Z0-9_]*(?:\.(?:[a-zA-Z0-9_]+|<name>))+)")
FILES = {"tls.crt", "tls.key", "ca.crt"}
"""Keys of Secrets, which look like settings."""
PARAMETERS = {one.path for body in BODIES.values() for one in parameters_of(body)}
"""Parameters of requests, which look like settings too."""


def named_settings() -> set[str]:
    """Every setting of a service or of `make run`, and every value of the chart, as documents write them."""
    settings = {name: {item.path for item in settings_of(cls)} for name, cls in CLASSES.items()}
    values = {".".join(value.path) for value in documented((ROOT / "deploy/helm/cloister/values.yaml").read_text())}
    values |= {name.replace("llm.modelDefaults", "llm.models.KEY") for name in values}
    configs = {
        f"{name}.{path}"
        for name in values
        if name.endswith(".config")
        for path in settings["common"] | settings[name.partition(".")[0]]
    }
    every = set().union(*settings.values(), values, configs, {item.path for item in settings_of(LocalSettings)})
    return every | {f"{name.rpartition('.')[0]}.NAME" for name in every}


def anchors(document: Path) -> set[str]:
    """The anchors of its headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    broken = []
    for link in LINK.findall(document.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    makefiles = [ROOT / "Makefile", *ROOT.glob("deploy/make/*.mk")]
    targets = {name for path in makefiles for name in re.findall(r"^([a-z0-9-]+):", path.read_text(), re.MULTILINE)}
    code = "\n".join(re.findall(r"`[^`\n]+`|^```.*?^```", document.read_text(), re.MULTILINE | re.DOTALL))
    named = {word for words in re.findall(r"(?:^|`)make ([a-z0-9 -]+)", code, re.MULTILINE) for word in words.split()}
    assert named - targets == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_setting_that_is_named_exists(document: Path) -> None:
    known = named_settings()
    sections = {name.partition(".")[0] for name in known}
    named = {name for name in DOTTED.findall(document.read_text()) if name.partition(".")[0] in sections}
    assert named - known - FILES - PARAMETERS == set()


def test_documents_name_settings() -> None:
    named = {name for document in DOCUMENTS for name in DOTTED.findall(document.read_text())}
    assert {"engine.kv_cache_gib", "gateway.ingress.host", "disk.min_free_mib"} <= named & named_settings()
