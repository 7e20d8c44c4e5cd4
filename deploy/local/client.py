"""The person's side: ``var/client.env`` with the base URL and the keys, and what to paste first."""

import asyncio
import shlex
import sys
from pathlib import Path

from deploy.local.config import Layout
from deploy.local.faults import LocalFault
from deploy.local.keys import write_private
from deploy.local.process import end_with_parent
from deploy.local.settings import REPOSITORY, LocalSettings

__all__ = ["ensure_client_file", "paste_lines", "read_client_file"]

_BOOTSTRAP_SECONDS = 60.0


def read_client_file(path: Path) -> dict[str, str]:
    """The ``NAME=value`` lines of a file, empty if it is not there."""
    try:
        return _values(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _values(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))


async def ensure_client_file(settings: LocalSettings, layout: Layout, *, fresh_store: bool) -> str | None:
    """Has the gateway make the first keys if there are none, and keeps them (mode 600).

    Args:
        settings: For the base URL.
        layout: Where the file goes.
        fresh_store: Whether the store was empty before this start: keys of an earlier one are then worth nothing.

    Returns:
        The API key if it was made now, to be shown once; None when it is an old one, or when there are keys but their
        file is lost.

    Raises:
        LocalFault: The gateway could not make the keys.
    """
    path = layout.var / "client.env"
    known = {} if fresh_store else read_client_file(path)
    made = {} if "OPENAI_API_KEY" in known else await _bootstrap(layout)
    wanted = {"OPENAI_BASE_URL": settings.base_url} | {
        name: value for name, value in (known | made).items() if name != "OPENAI_BASE_URL"
    }
    if wanted != known:
        write_private(path, "".join(f"{name}={value}\n" for name, value in wanted.items()))
    return made.get("OPENAI_API_KEY")


async def _bootstrap(layout: Layout) -> dict[str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cloister_gateway", "bootstrap"),
        *("--config", str(layout.config / "gateway.yaml")),
        *("--format", "env"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        preexec_fn=end_with_parent,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _BOOTSTRAP_SECONDS)
    except TimeoutError as error:
        raise LocalFault(f"Making the first API key took over {_BOOTSTRAP_SECONDS:g} s.") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        reason = (errors.decode(errors="replace").strip().splitlines() or ["it gave no reason"])[-1]
        raise LocalFault(f"The gateway could not make the first API key: {reason}")
    return _values(output.decode())


def paste_lines(settings: LocalSettings, layout: Layout, new_key: str | None) -> str:
    """What is printed when everything is ready."""
    file, python = _from_here(layout.var / "client.env"), _from_here(Path(sys.executable))
    model = settings.chat_model.name
    load = f"set -a; . {file}; set +a;"
    ask = f'model="{model}", input="Say hello."'
    if new_key:
        key = f"{new_key} (shown once; kept in {file})"
    elif "OPENAI_API_KEY" in read_client_file(layout.var / "client.env"):
        key = f"in {file}"
    else:
        keys = f"{python} -m cloister_gateway keys"
        config = f"--config {_from_here(layout.config / 'gateway.yaml')}"
        key = (
            f"there is one, but {file} is lost. Make another: {keys} list {config} names the projects, "
            f"{keys} create {config} --project ID --name local makes a key; put it into {file} as OPENAI_API_KEY=KEY"
        )
    lines = [
        "",
        f"Cloister is ready:  {settings.base_url}",
        f"API key:            {key}",
        "",
        "curl:        "
        f'{load} curl -s "$OPENAI_BASE_URL/responses" -H "Authorization: Bearer $OPENAI_API_KEY" '
        f'-H "Content-Type: application/json" -d \'{{"model": "{model}", "input": "Say hello."}}\'',
        "Python:      "
        f"{load} {python} -c 'from openai import OpenAI; print(OpenAI().responses.create({ask}).output_text)'",
        "JavaScript:  "
        f'{load} node -e \'import("openai").then(async ({{default: OpenAI}}) => console.log((await new OpenAI()'
        f'.responses.create({{model: "{model}", input: "Say hello."}})).output_text))\'',
        "",
        "JavaScript wants the openai package: npm install openai.",
    ]
    if settings.gateway.certificate_file:
        lines.append(
            f"Clients must trust the issuer of {settings.gateway.certificate_file}: curl --cacert FILE, "
            "SSL_CERT_FILE=FILE for Python, NODE_EXTRA_CA_CERTS=FILE for JavaScript."
        )
    return "\n".join([*lines, "Ctrl-C stops everything.", ""])


def _from_here(path: Path) -> str:
    """The path as one would type it in this folder; with ``./`` in front, so that a shell's dot finds it."""
    here = Path.cwd()
    return shlex.quote(f"./{path.relative_to(here)}" if path.is_relative_to(here) else str(path))
