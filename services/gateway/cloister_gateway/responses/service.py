"""What routes and sockets may do with responses: all that reading is, and making, stopping and deleting them."""

from collections.abc import Sequence

from cloister_gateway.identity.principal import Principal
from cloister_gateway.limits.service import Limits
from cloister_gateway.models.work import WorkClass
from cloister_gateway.responses.intake import Created, Intake
from cloister_gateway.responses.reading import RUNNING, ResponseReader, no_response
from cloister_gateway.responses.schemas import ResponseParameters
from cloister_gateway.responses.shapes import compacted_body
from cloister_gateway.runs.engine import Engine
from cloister_gateway.runs.store import ResponseStore
from cloister_gateway.streams.feeds import Hub
from cloister_gateway.wire.items import ResponseBody

__all__ = ["ResponseService"]


class ResponseService(ResponseReader):
    """Makes, reads, stops and deletes responses.

    Args:
        store: Their records.
        hub: Their events.
        intake: Takes turns on.
        engine: Stops runs.
        limits: Say what a turn would reserve.
    """

    def __init__(self, store: ResponseStore, hub: Hub, *, intake: Intake, engine: Engine, limits: Limits) -> None:
        super().__init__(store, hub)
        self._intake = intake
        self._engine = engine
        self._limits = limits

    async def create(
        self,
        principal: Principal,
        parameters: ResponseParameters,
        *,
        background: bool = False,
        work: WorkClass | None = None,
        idempotency_key: str | None = None,
        own_unstored: Sequence[str] = (),
    ) -> Created:
        """Accepts a turn: checks it, stores it, starts its run. As `Intake.create`."""
        return await self._intake.create(
            principal,
            parameters,
            background=background,
            work=work,
            idempotency_key=idempotency_key,
            own_unstored=own_unstored,
        )

    def check(self, principal: Principal, parameters: ResponseParameters) -> None:
        """Raises for what can be told of a turn without asking anybody. As `Intake.check`."""
        self._intake.check(principal, parameters)

    async def count_input(self, principal: Principal, parameters: ResponseParameters) -> ResponseBody:
        """What a turn would send, by part, and take of the limits that hold for it. Raises as `Intake.count`."""
        counted = await self._intake.count(principal, parameters)
        outlook = await self._limits.outlook(
            counted.generation, most_output_tokens=counted.most_output, prompt_tokens=counted.size
        )
        return counted.body(outlook)

    async def compact(self, principal: Principal, parameters: ResponseParameters) -> ResponseBody:
        """What stands for all that was said, in OpenAI's shape. Raises as `Intake.compact`."""
        output, used = await self._intake.compact(principal, parameters)
        return compacted_body(output, used)

    async def cancel(self, principal: Principal, response_id: str) -> ResponseBody:
        """Stops the run and returns the response as it ended. A response that has ended already is returned as is."""
        keyed = await self.find(principal, response_id)
        body = await self.body(keyed)
        if body["status"] not in RUNNING:
            return body
        await self._engine.cancel(response_id)
        return await self.finish(keyed)

    async def request_cancel(self, principal: Principal, response_id: str, *, unstored: Sequence[str] = ()) -> None:
        """Stops the run without waiting: whoever follows it sees its end."""
        await self.find(principal, response_id, unstored=unstored)
        await self._engine.cancel(response_id)

    async def delete(self, principal: Principal, response_id: str) -> None:
        """Destroys the response. A run that is under way is stopped first, unreadable from now on.

        A gateway that dies meanwhile leaves a response that can be deleted again, or one that goes with its stream.
        """
        principal.keep_fence("delete single responses")
        keyed = await self.find(principal, response_id)
        header = await self._store.header(response_id)
        if header is None:
            raise no_response(response_id)
        if not header.done:
            await self._store.hide(response_id)
            await self._engine.cancel(response_id)
            await self.finish(keyed)
        await self._store.destroy(header)
