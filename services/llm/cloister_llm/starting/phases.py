"""How far a model is that starts, as vLLM's processes and the one that answers meanwhile tell each other: by a file.

vLLM says it nowhere but in sentences of its log, which change from version to version and are not kept here. What
stays is that its engine first loads the model and then prepares the cache, which runs the model once to see what
memory that takes, and so compiles it, and warms it up. Where that step goes by another name, a model is told as one
that loads until it is ready: the least that can be true.
"""

from pathlib import Path
from typing import Any, Literal, get_args

from cloister_common.logs import get_logger

from cloister_llm.settings import started_phase_file

__all__ = ["Phase", "follow", "note", "phase_in"]

log = get_logger(__name__)

Phase = Literal["loading", "compiling"]
"""The two that a pod can tell of itself; the names are the gateway's."""

_PREPARES = "_initialize_kv_caches"
"""Of `vllm.v1.engine.core.EngineCore`, in 0.32: all between the loaded model and the engine's first request."""


def note(file: Path, phase: Phase) -> None:
    """Says in ``file`` that the model is in ``phase`` now. That nobody can be told so is no reason not to start."""
    log.info("model_phase", phase=phase)
    try:
        file.write_text(phase)
    except OSError as error:
        log.warning("model_phase_unsaid", phase=phase, reason=error.strerror)


def phase_in(file: Path) -> Phase:
    """What was said last in ``file``; what cannot be read, as in the middle of being written, is ``loading``."""
    try:
        said = file.read_text()
    except (OSError, UnicodeDecodeError):
        return "loading"
    return next((phase for phase in get_args(Phase) if phase == said), "loading")


def follow() -> None:
    """Has vLLM's engine note when the model is loaded. May be called more than once."""
    from vllm.v1.engine.core import EngineCore

    prepare = getattr(EngineCore, _PREPARES, None)
    if prepare is None:
        log.warning("model_phases_unknown")
        return
    if prepare.__module__ == __name__:
        return

    def prepare_and_tell(engine: Any, *arguments: Any, **options: Any) -> Any:
        if (file := started_phase_file()) is not None:
            note(file, "compiling")
        return prepare(engine, *arguments, **options)

    setattr(EngineCore, _PREPARES, prepare_and_tell)
