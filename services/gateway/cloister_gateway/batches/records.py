"""What is kept of a batch, sealed in its record: what was asked, how far it is, and what became of each line.

    field    holds        written
    record   BatchRecord  when it is created
    state    BatchState   then, and by whoever works on it with each step

A line's result is sealed by its number, in a hash of its own (`cloister_gateway.batches.store`). Beside these stand, in
the clear, whose batch it is, its stage, when it was asked to be cancelled, and how many of its lines have ended how.
"""

from typing import Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict

from cloister_gateway.identity.principal import Credential, CredentialKind, Principal
from cloister_gateway.storage import Record, SealedField

__all__ = [
    "RECORD",
    "STATE",
    "BatchCaller",
    "BatchRecord",
    "BatchState",
    "Ending",
    "LineFault",
    "LineResult",
    "Stage",
    "StoredBatch",
    "Tokens",
]

Ending = Literal["completed", "failed", "expired", "cancelled"]
Working = Literal["validating", "in_progress", "finalizing"]
Stage = Literal["open", "closing", "ended"]
"""Whether a batch may still be cancelled, is having its files written, or is over."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class BatchCaller(_Part):
    """Who created a batch, and what they may do: each line is asked for as them, as long as their credential lives.

    Attributes:
        subject, scopes, groups, user: As in `Principal`.
        kind, key_id, expires_at: Of the credential.
    """

    subject: str
    kind: CredentialKind
    key_id: str
    expires_at: int | None
    scopes: tuple[str, ...]
    groups: tuple[str, ...]
    user: str | None

    @classmethod
    def of(cls, principal: Principal) -> Self:
        """What is kept of ``principal``."""
        credential = principal.credential
        return cls(
            subject=principal.subject,
            kind=credential.kind,
            key_id=credential.id,
            expires_at=credential.expires_at,
            scopes=tuple(sorted(principal.scopes)),
            groups=tuple(sorted(principal.groups)),
            user=principal.user,
        )

    def principal(self, tenant: str) -> Principal:
        """The same caller, of a project. Whether the credential has ended since, nobody has looked yet."""
        credential = Credential(self.kind, self.key_id, self.expires_at)
        scopes, groups = frozenset(self.scopes), frozenset(self.groups)
        return Principal(tenant, self.subject, credential, scopes, groups, self.user)


class BatchRecord(Record):
    """What was asked for. Times are Unix seconds.

    Attributes:
        file_seconds: So long after it was made a file of the batch expires; never if None.
    """

    endpoint: str
    input_file_id: str
    input_bytes: int
    completion_window: str
    created_at: int
    expires_at: int
    metadata: dict[str, str] | None
    file_seconds: int | None
    caller: BatchCaller


class LineFault(_Part):
    """What is wrong with the input, or with a line of it.

    Attributes:
        line: Its number, from 1; None where it is the input as a whole.
    """

    code: str
    message: str
    line: int | None = None
    param: str | None = None


class Tokens(_Part):
    """What lines used together, in tokens."""

    read: int = 0
    cached: int = 0
    written: int = 0
    reasoning: int = 0

    def plus(self, other: "Tokens") -> "Tokens":
        """Both together."""
        return Tokens(
            read=self.read + other.read,
            cached=self.cached + other.cached,
            written=self.written + other.written,
            reasoning=self.reasoning + other.reasoning,
        )


class BatchState(Record):
    """How far a batch is.

    Attributes:
        status: OpenAI's, but that a batch which is being cancelled shows that, whatever this says.
        ending: What it ends as, once that is known.
        total: Lines of the input, once they were read.
        model: The one model of all lines; None where there are several.
        output_file_id, error_file_id: Their ids are chosen before the files are written, so that they are written once.
    """

    status: Working | Ending = "validating"
    ending: Ending | None = None
    total: int = 0
    model: str | None = None
    errors: tuple[LineFault, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    usage: Tokens | None = None
    in_progress_at: int | None = None
    finalizing_at: int | None = None
    ended_at: int | None = None

    @property
    def ended(self) -> bool:
        """Whether it is over."""
        return self.ended_at is not None

    @property
    def stage(self) -> Stage:
        """What Redis is told of it."""
        return "ended" if self.ended else "closing" if self.status == "finalizing" else "open"


RECORD = SealedField("record", BatchRecord)
STATE = SealedField("state", BatchState)


class LineResult(NamedTuple):
    """What became of a line.

    Attributes:
        answered: Whether it was answered; its line goes into the output file then, else into that of errors.
        line: The line for the file, without its end.
        used: What it used, in tokens: read, cached, written, reasoning.
    """

    answered: bool
    line: bytes
    used: tuple[int, int, int, int] = (0, 0, 0, 0)


class StoredBatch(NamedTuple):
    """A batch as it stands.

    Attributes:
        cancelling_at: When somebody asked to cancel it (Unix seconds).
        completed, failed: How many lines were answered, and how many were not.
    """

    id: str
    record: BatchRecord
    state: BatchState
    cancelling_at: int | None
    completed: int
    failed: int

    @property
    def status(
        self,
    ) -> Literal[
        "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
    ]:
        """As OpenAI has it."""
        return "cancelling" if self.cancelling_at is not None and not self.state.ended else self.state.status
