"""Text in pictures, read by PP-OCR where the optional packages of ``requirements/ocr.txt`` are installed.

The models are files of the package. They are loaded in the warm process, where nothing of any upload is, and read in
the confined one of each file, on one thread: behind the filter nothing is opened, and a picture that makes the library
go wrong ends with its process. Where the packages are not installed nothing here does anything.
"""

import functools
import importlib
import importlib.util
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import structlog
from PIL import Image, ImageDraw

__all__ = ["MOST_EDGE", "Eyes", "memory_of_eyes", "warm_up_eyes"]

MOST_EDGE = 2_000
"""Pixels of a picture's longer side: a page of A4 at 170 dots an inch, which small print needs."""

_LEAST_EDGE = 24
_DETECTED_EDGE = 1_280
"""The same for finding where lines are. It bounds what a picture costs: some 5 processor seconds, and 570 MiB."""

_WORKING_BYTES = 640 * 1024 * 1024
_MOST_LINES = 2_000

log = structlog.get_logger(__name__)

_Engine = Callable[[Any], Any]
_grown = 0
"""Bytes of address space that the models and their libraries have taken of the warm process."""


def warm_up_eyes() -> None:
    """Loads what is installed, all of it: behind the filter nothing can be opened."""
    global _grown
    before = _address_space()
    if Eyes(60.0).can_read:
        sample = Image.new("RGB", (320, 64), "white")
        ImageDraw.Draw(sample).text((20, 10), "words", fill="black", font_size=32)
        Eyes(60.0).read(sample)
        _grown = max(_address_space() - before, 0)


def memory_of_eyes(*, reading: bool) -> int:
    """Bytes of address space beyond what a file may have anyway: of the models, and for ``reading`` with them."""
    return _grown + (_WORKING_BYTES if _grown and reading else 0)


class Eyes:
    """Reads the pictures of one upload.

    Args:
        seconds: Of the processor, for all of them; with none nothing is read.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._engine = _engine() if seconds > 0 else None
        self.skipped = 0

    @property
    def can_read(self) -> bool:
        """Whether there is anything to read with."""
        return self._engine is not None

    def read(self, image: Image.Image) -> str:
        """The lines of text in a picture, from the top to the bottom; nothing if there are none, or no time is left,
        which is counted in ``skipped``."""
        if self._engine is None or min(image.size) < _LEAST_EDGE:
            return ""
        if self._left <= 0:
            self.skipped += 1
            return ""
        began = time.process_time()
        try:
            shown = image.convert("RGB")
            shown.thumbnail((MOST_EDGE, MOST_EDGE))
            lines = _lines(self._engine(_pixels(shown)))
        except Exception:  # noqa: BLE001 - of what is wrong in a picture, or of too little memory, it raises anything
            return ""
        finally:
            self._left -= time.process_time() - began
        return "\n".join(lines[:_MOST_LINES])


def _lines(found: Any) -> list[str]:
    return [line for line in (str(text).strip() for text in found.txts or ()) if line]


def _pixels(image: Image.Image) -> Any:
    """As the library wants them: rows, columns, and blue before green before red."""
    numpy: Any = importlib.import_module("numpy")
    return numpy.ascontiguousarray(numpy.asarray(image)[:, :, ::-1])


@functools.cache
def _engine() -> _Engine | None:
    """PP-OCR with the models of its package; nothing is ever fetched. None where it is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("rapidocr", "onnxruntime")):
        return None
    library: Any = importlib.import_module("rapidocr")
    models = Path(str(library.__file__)).parent / "models"
    paths = {kind: next(iter(sorted(models.glob(f"*_{part}_*.onnx"))), None) for kind, part in _PARTS.items()}
    if None in paths.values():
        log.warning("ocr_without_models", folder=str(models))
        return None
    importlib.import_module("cv2").setNumThreads(1)
    threads = "EngineConfig.onnxruntime"
    engine: _Engine = library.RapidOCR(
        params={
            f"{threads}.intra_op_num_threads": 1,
            f"{threads}.inter_op_num_threads": 1,
            f"{threads}.enable_cpu_mem_arena": False,
            "Global.log_level": "critical",
            "Global.use_cls": False,
            "Det.limit_type": "max",
            "Det.limit_side_len": _DETECTED_EDGE,
            "Rec.rec_batch_num": 1,
            **{f"{kind}.model_path": str(path) for kind, path in paths.items()},
        }
    )
    return engine


_PARTS = {"Det": "det", "Rec": "rec"}


def _address_space() -> int:
    """Bytes that this process has mapped (proc(5), ``statm``)."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
