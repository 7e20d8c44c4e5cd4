"""The keys and secrets of a local installation, made once under ``var/secrets`` and kept.

Losing ``root-key`` loses everything that is stored, which is the point of it: back it up apart from the data.
"""

import os
import secrets
from pathlib import Path

from deploy.local.faults import NotReadyToStart

__all__ = ["SECRETS", "ensure_secrets", "write_private"]

SECRETS = ("root-key", "pepper", "embedder-token", "retriever-token", "llm-token", "redis-password", "scale-token")
"""File names under ``var/secrets``. Each holds 256 random bits as 64 hexadecimal digits."""


def ensure_secrets(folder: Path) -> None:
    """Makes the folder (mode 700) and every secret (mode 600) that is not there yet.

    Raises:
        NotReadyToStart: A secret is there but empty, or others may read it.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in SECRETS:
        path = folder / name
        if not path.exists():
            write_private(path, secrets.token_hex(32) + "\n")
            continue
        status = path.stat()
        if status.st_size == 0:
            raise NotReadyToStart(
                f"The secret {path} is empty. Restore it from your backup; without the root key no stored data "
                "can be read."
            )
        if status.st_mode & 0o077:
            raise NotReadyToStart(f"Others may read the secret {path}. Run: chmod 600 {path}")


def write_private(path: Path, text: str) -> None:
    """Writes ``text`` so that the file appears whole, synced and with mode 600, or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
