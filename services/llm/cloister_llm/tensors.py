"""The header of a safetensors file: which tensors it has, without reading them.

The format (huggingface/safetensors, README "Format"): 8 bytes, little endian, the length of a JSON header; the header,
with type, shape and byte range of each tensor; the tensors. So a file that was cut short is noticed.
"""

import json
from pathlib import Path
from typing import Any

__all__ = ["DamagedTensorsError", "tensors_of"]

_LONGEST_HEADER = 100_000_000  # bytes; the safetensors library has the same limit


class DamagedTensorsError(Exception):
    """It is no safetensors file, or not all of one."""


def tensors_of(file: Path) -> dict[str, Any]:
    """What the header says of each tensor, by its name: ``dtype``, ``shape`` and ``data_offsets``.

    Raises:
        DamagedTensorsError: The file is not whole.
        OSError: It cannot be read.
    """
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if not 0 < length <= _LONGEST_HEADER:
                raise DamagedTensorsError
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        end = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        if 8 + length + end != file.stat().st_size:
            raise DamagedTensorsError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedTensorsError from error
    return header
