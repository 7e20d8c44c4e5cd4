"""How much of batches is taken on: the settings of `cloister_gateway.batches`."""

from cloister_common.settings import Settings
from pydantic import Field

__all__ = ["BatchSettings"]

_MEBIBYTE = 1024 * 1024


class BatchSettings(Settings):
    """How much of batches is taken on, and how they are done."""

    lines: int = Field(50_000, ge=1, description="Requests of one batch, as OpenAI limits them.")
    input_bytes: int = Field(200 * _MEBIBYTE, ge=1024, description="The input file of one batch, as OpenAI limits it.")
    at_once: int = Field(8, ge=1, description="Batches that one gateway works on at once; others wait their turn.")
    lines_at_once: int = Field(
        64,
        ge=1,
        description="Lines of all batches that one gateway has under way at once: as many as keep the pods busy when "
        "nobody else asks them.",
    )
    attempts: int = Field(
        5, ge=1, description="How often a line is tried while pods or services are away. Then it is told as an error."
    )
    retry_seconds: float = Field(
        2.0,
        ge=0,
        description="Until it is tried again; doubled each time, up to a minute. What a limit holds back "
        "waits for as long as the limit says, and does not count.",
    )
    part_lines: int = Field(
        1000,
        ge=1,
        description="Results of one batch that lie in Redis before they go to the retriever's object store, as one "
        "part. While that is away a batch goes on until there are twice as many.",
    )
    part_bytes: int = Field(
        4 * _MEBIBYTE, ge=1, description="The same by their bytes, compressed: whichever comes first."
    )
    keep_days: int = Field(30, ge=1, description="Days that a batch is kept after its end. Its files stay.")
