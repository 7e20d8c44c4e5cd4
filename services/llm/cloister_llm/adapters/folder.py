"""One adapter's folder, and the copy of it that this pod loads.

Whoever may write to where it lies could change an adapter after it was looked at, and vLLM reads it again whenever it
has gone out of its slots. So what is loaded is a copy in the pod's own folder, whose digest was taken from the bytes
that were copied. Two files make an adapter; nothing else is copied, so that nothing else is ever opened.
"""

import hashlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from cloister_common.errors import InvalidRequest

from cloister_llm.adapters.sources import Source, blocks

__all__ = ["CONFIG", "WEIGHTS", "copy_of", "digest_of"]

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_FILES = (CONFIG, WEIGHTS)
_PICKLES = ("adapter_model.bin", "adapter_model.pt")
_MIB = 1 << 20


def digest_of(folder: Path) -> str:
    """What names the adapter in ``folder``: ``sha256:`` and the SHA-256 of the list of its files' SHA-256.

    It is what ``sha256sum adapter_config.json adapter_model.safetensors | sha256sum`` prints there.

    Raises:
        OSError: A file cannot be read.
    """
    return _digest({name: _sum(blocks(folder / name)) for name in _FILES})


def copy_of(source: Source, folder: str, digest: str, copies: Path, *, max_mib: int) -> Path:
    """Copies the adapter ``folder`` of ``source`` to ``copies``, if its digest is ``digest``; the copy.

    A process that ends on the way leaves a copy under another name, which is never looked at.

    Raises:
        InvalidRequest: The folder leads elsewhere, is none, has weights in a form that can carry code, has more than
            ``max_mib``, or is another adapter than the digest says.
        Unavailable: The source does not answer.
    """
    target = copies / digest.replace(":", "-")
    if target.is_dir() and _kept(target) == digest:
        return target
    part = target.with_suffix(".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)
    try:
        _check_files(source, folder, max_mib)
        part.mkdir(mode=0o700, parents=True)
        found = _taken(source, folder, part, max_mib)
        if found != digest:
            raise InvalidRequest(
                f"The adapter in '{folder}' has the digest {found}, not {digest}. Name the digest of what is to be "
                "served, or copy the adapter again.",
                param="digest",
                code="digest_mismatch",
            )
        part.rename(target)
    except OSError as error:
        raise InvalidRequest(
            f"The adapter in '{folder}' cannot be copied: {error.strerror}.", param="folder"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def _check_files(source: Source, folder: str, max_mib: int) -> None:
    """Refuses what need not be copied to be known as none, or as too large."""
    sizes = {name: source.size(folder, name) for name in _FILES}
    missing = [name for name, size in sizes.items() if size is None]
    if missing:
        pickled = any(source.size(folder, name) is not None for name in _PICKLES)
        pickles = " Pickles are never loaded; save it as safetensors." if pickled else ""
        raise InvalidRequest(f"The adapter's folder '{folder}' lacks {' and '.join(missing)}.{pickles}", param="folder")
    if sum(size or 0 for size in sizes.values()) > max_mib * _MIB:
        raise _too_large(folder, max_mib)


def _taken(source: Source, folder: str, target: Path, max_mib: int) -> str:
    """Copies the files to ``target``; the digest of the very bytes that were written."""
    left = max_mib * _MIB
    sums = {}
    for name in _FILES:
        found = hashlib.sha256()
        with (target / name).open("wb") as writing:
            for block in source.read(folder, name):
                left -= len(block)
                if left < 0:  # It grew since it was looked at.
                    raise _too_large(folder, max_mib)
                found.update(block)
                writing.write(block)
        sums[name] = found.hexdigest()
    return _digest(sums)


def _too_large(folder: str, max_mib: int) -> InvalidRequest:
    return InvalidRequest(
        f"The adapter in '{folder}' is larger than the {max_mib} MiB that the model's pods take. Raise lora.max_mib, "
        "and see that they have room for it.",
        param="folder",
    )


def _kept(folder: Path) -> str | None:
    """The digest of a copy of an earlier start."""
    try:
        return digest_of(folder)
    except OSError:
        return None


def _sum(blocks: Iterable[bytes]) -> str:
    found = hashlib.sha256()
    for block in blocks:
        found.update(block)
    return found.hexdigest()


def _digest(sums: dict[str, str]) -> str:
    listed = "".join(f"{sums[name]}  {name}\n" for name in _FILES)
    return f"sha256:{hashlib.sha256(listed.encode()).hexdigest()}"
