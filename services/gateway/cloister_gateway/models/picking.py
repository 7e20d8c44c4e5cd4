"""What is told to somebody else who chooses among a model's pods: a Gateway API InferencePool, llm-d's endpoint picker.

The names are those of the Gateway API Inference Extension (``x-gateway-inference-…``) and of llm-d since 0.8
(``x-llm-d-inference-…``, which knows the others as old names): each picker reads the ones that it knows. The
conversation is told under a keyed hash, so that it says nothing outside. Nothing of a caller's own headers goes to a
pod or a picker, so nobody can say these of themselves.
Sources: llm-d, "EPP HTTP Headers Reference"; Gateway API Inference Extension, "InferenceObjective".
"""

from cloister_common.vault import Keyring
from cloister_common.vault.cache import ShortCache

from cloister_gateway.models.catalog import Pool
from cloister_gateway.models.work import WorkClass

__all__ = ["Picking"]

_SESSION = "x-session-id"
_FAIRNESS = ("x-gateway-inference-fairness-id", "x-llm-d-inference-fairness-id")
_OBJECTIVE = ("x-gateway-inference-objective", "x-llm-d-inference-objective")

_SESSION_SECONDS = 300.0
_MOST_SESSIONS = 20_000


class Picking:
    """Makes the headers."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._sessions: ShortCache[str] = ShortCache(seconds=_SESSION_SECONDS, most=_MOST_SESSIONS)

    async def headers(self, pool: Pool, tenant: str, affinity: str | None, work: WorkClass) -> str:
        """The headers of one request, each with its line's end.

        Args:
            pool: Who chooses.
            tenant: Whose request it is: what shares are reckoned by. A project's id, which is random.
            affinity: Requests with the same one are of one session; with None it is of none.
            work: How soon it is wanted. Pickers know two classes of ours: batches are background to them.
        """
        objective = pool.interactive if work is WorkClass.INTERACTIVE else pool.background
        told = {
            **dict.fromkeys(_FAIRNESS, tenant),
            **dict.fromkeys(_OBJECTIVE, objective),
        }
        if affinity is not None:
            told[_SESSION] = await self._session(tenant, affinity)
        return "".join(f"{name}: {value}\r\n" for name, value in told.items())

    async def _session(self, tenant: str, affinity: str) -> str:
        key = f"{tenant}/{affinity}"
        session = self._sessions.get(key)
        if session is None:
            session = await self._keyring.name(tenant, "pool-session", affinity)
            self._sessions.put(key, session)
        return session
