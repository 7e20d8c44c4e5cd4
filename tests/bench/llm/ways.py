"""The ways to start vLLM that are compared: as the launcher does, with some of it changed."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.support.llm import LlmServer

__all__ = ["WAYS", "Way", "server"]

_ROOT = Path(__file__).parents[3]


@dataclass(frozen=True)
class Way:
    """What is different from what the launcher does.

    Attributes:
        environment: Variables of vLLM; None removes one.
        options: Options of vLLM, by name without dashes; None removes one.
    """

    environment: Mapping[str, str | None] = field(default_factory=dict)
    options: Mapping[str, str | None] = field(default_factory=dict)


_UNBOUND = {"VLLM_CPU_OMP_THREADS_BIND": "nobind"}
_BARE = {"LD_PRELOAD": None}
_APART = {"VLLM_ENABLE_V1_MULTIPROCESSING": None}
_PROCESSES = {"distributed-executor-backend": None}
_BF16 = {"dtype": "bfloat16"}

WAYS: Mapping[str, Way] = {
    "before": Way({**_UNBOUND, **_BARE, **_APART}, {**_BF16, **_PROCESSES, "max-num-seqs": "20", "watermark": None}),
    "bound": Way({**_BARE, **_APART}, {**_BF16, **_PROCESSES}),
    "apart": Way(_APART, {**_BF16, **_PROCESSES}),
    "bfloat16": Way(options=_BF16),
    "float32": Way(options={"dtype": "float32"}),
    "all": Way(options={"watermark": None}),
    "few": Way(options={"max-num-seqs": "5", "watermark": None}),
    "now": Way(),
}
"""By name. ``before`` is as it was until threads were bound, ``apart`` is bound and preloaded but in vLLM's own three
processes, ``all`` lets in whatever has room for its prompt, ``few`` five at most: as many as fit at full length in the
cache of a burst.
"""


class _Server(LlmServer):
    """One pod, started in a way of its own."""

    def __init__(self, folder: Path, way: Way, kv_cache_gib: float) -> None:
        super().__init__(folder, kv_cache_gib=kv_cache_gib, dtype="auto")
        (folder / "way.json").write_text(json.dumps(asdict(way)))

    def command(self) -> Sequence[str]:
        files = [str(self.folder / "llm.yaml"), str(self.folder / "way.json")]
        return [self._python, "-m", "tests.bench.llm.start", *files]

    def folder_of_work(self) -> Path:
        return _ROOT


def server(folder: Path, way: Way, *, kv_cache_gib: float) -> LlmServer:
    """A pod that starts vLLM in ``way``, with files in ``folder``."""
    folder.mkdir()
    return _Server(folder, way, kv_cache_gib)
