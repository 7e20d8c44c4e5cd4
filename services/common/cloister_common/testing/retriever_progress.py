"""How far files are, as the fake retriever tells it: each is one passage, read in no time."""

from collections.abc import Mapping
from typing import Any

__all__ = ["progress_of", "progress_of_all"]


def progress_of(status: str) -> dict[str, Any]:
    """What a file in a vector store says beside OpenAI's fields."""
    if status not in {"in_progress", "completed"}:
        return {}
    done = status == "completed"
    return {
        "progress": {
            "stage": "completed" if done else "waiting",
            "files_ahead": None if done else 0,
            "pages_done": None,
            "pages_total": None,
            "passages_done": 1 if done else None,
            "passages_total": 1 if done else None,
        }
    }


def progress_of_all(counts: Mapping[str, int]) -> dict[str, Any]:
    """What a vector store or a batch with so many files of each status says beside OpenAI's fields."""
    return {
        "progress": {
            "files_waiting": counts["in_progress"],
            "files_reading": 0,
            "files_ahead": 0 if counts["in_progress"] else None,
            "pages_done": 0,
            "pages_total": 0,
            "passages_done": counts["completed"],
            "passages_total": counts["completed"],
        }
    }
