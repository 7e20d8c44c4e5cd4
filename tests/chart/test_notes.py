"""What Helm says at the end of an install: true, complete, and without a secret on the screen."""

import re

import pytest

from tests.support.helm import PROFILES, ROOT, notes

PLAIN = {"tls": {"enabled": False}}


def commands(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if re.match(r" +[(a-z]", line)]


@pytest.mark.parametrize("profile", PROFILES)
def test_no_secret_is_printed(profile: str) -> None:
    giving = [line for line in commands(notes(profile)) if "get secret" in line or "bootstrap" in line]
    assert giving
    for line in giving:
        assert re.search(r" > [\w.-]+\)?$", line), line
        assert "umask 077" in line or "ca\\.crt" in line, line


def test_the_root_key_is_saved_as_the_manual_says() -> None:
    manual = (ROOT / "docs/operations/install.md").read_text()
    (command,) = [line for line in commands(notes("quickstart")) if "root-key" in line]
    assert command in manual


def test_a_root_key_of_yours_is_yours_to_back_up() -> None:
    assert "root-key" not in notes("production")


@pytest.mark.parametrize("values", [{}, PLAIN, {"gateway": {"tls": {"secretName": "mine"}}}], ids=str)
def test_every_variable_that_a_client_needs_is_set_before_it_is_used(values: dict[str, object]) -> None:
    text = notes("quickstart", values=values)
    assert 0 < text.index("> cloister.env") < text.index(". ./cloister.env") < text.index("$OPENAI_API_KEY")
    (exported,) = re.findall(r"export (OPENAI_BASE_URL=\S+)( SSL_CERT_FILE=\S+)?$", text, re.MULTILINE)
    assert bool(exported[1]) == ("https://" in exported[0]) == (values is not PLAIN)


def test_without_tls_the_notes_say_so() -> None:
    text = notes("quickstart", values=PLAIN)
    assert "in clear" in text
    assert "https://" not in text
    assert "in clear" not in notes("quickstart")
