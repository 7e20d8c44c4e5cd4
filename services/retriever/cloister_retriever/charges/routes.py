"""What gateways ask about ingestions, of all tenants together."""

from typing import Annotated

from cloister_common.access import provided
from cloister_common.bodies import JsonRoute
from cloister_common.internal import InternalTokens
from cloister_common.wire.ingestions import IngestionNotes, Word
from fastapi import APIRouter, Depends, Request

from cloister_retriever.charges.service import Charges

__all__ = ["router"]


async def _gateway(request: Request, tokens: Annotated[InternalTokens, Depends(provided(InternalTokens))]) -> None:
    """The internal token alone: what is asked is of no tenant."""
    tokens.require(request)


router = APIRouter(prefix="/internal/ingestions", route_class=JsonRoute, dependencies=[Depends(_gateway)])

Notes = Annotated[Charges, Depends(provided(Charges))]


@router.get("")
async def list_notes(charges: Notes) -> IngestionNotes:
    return IngestionNotes(data=await charges.all())


@router.post("/{attachment_id}", status_code=204)
async def tell(attachment_id: str, word: Word, charges: Notes) -> None:
    await charges.tell(attachment_id, word)


@router.delete("/{attachment_id}", status_code=204)
async def drop(attachment_id: str, charges: Notes) -> None:
    await charges.drop(attachment_id)
