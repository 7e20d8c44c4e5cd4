"""The default settings of the local stack, and a folder for its data."""

from pathlib import Path

import pytest

from deploy.local.config import Layout
from deploy.local.settings import LocalSettings, load_local_settings


@pytest.fixture
def settings() -> LocalSettings:
    return load_local_settings(None)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)
