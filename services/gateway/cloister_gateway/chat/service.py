"""What becomes of a chat completion before its pod is asked, whoever asks: a route, or a batch."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from cloister_common.bodies import aside

from cloister_gateway.chat.messages import ImageUrl
from cloister_gateway.chat.parts import split_of
from cloister_gateway.chat.prompts import prompt_size
from cloister_gateway.chat.schemas import ChatRequest
from cloister_gateway.chat.shapes import completion
from cloister_gateway.chat.tally import read_answer
from cloister_gateway.identity.principal import Principal
from cloister_gateway.models import Catalog, ChatModel, ModelUpstream
from cloister_gateway.models.abilities import check_functions
from cloister_gateway.models.counting import count_prompt
from cloister_gateway.models.images import check_images
from cloister_gateway.models.pods import Attempts
from cloister_gateway.models.reasoning import check_effort
from cloister_gateway.models.work import WorkClass, class_of
from cloister_gateway.runs.attached import AttachedFiles, Room
from cloister_gateway.usage import Metered, Metering
from cloister_gateway.wire.parameters import tier_served

__all__ = ["ChatCall", "ChatService"]


@dataclass(frozen=True, slots=True)
class ChatCall:
    """A chat completion that may be asked for now.

    Attributes:
        asked: The request.
        tenant: Whose it is.
        model: Who answers.
        body: What its pod is sent.
        metered: What goes around it.
        attempts: To have it answered.
        work: How soon it is wanted.
        tier: The service tier that its answer names.
    """

    asked: ChatRequest
    tenant: str
    model: ChatModel
    body: dict[str, Any]
    metered: Metered
    attempts: Attempts
    work: WorkClass
    tier: str


class ChatService:
    """Checks and prepares chat completions, and makes whole ones.

    Args:
        catalog: The chat models.
        upstream: Their pods.
        metering: Puts each behind the limits.
        attached: Reads their images.
    """

    def __init__(self, catalog: Catalog, upstream: ModelUpstream, metering: Metering, attached: AttachedFiles) -> None:
        self._catalog = catalog
        self._upstream = upstream
        self._metering = metering
        self._attached = attached

    def check(self, caller: Principal, body: ChatRequest) -> ChatModel:
        """The model that is asked. Raises for all that can be told without asking anybody.

        Raises:
            Forbidden: The caller may not write a history.
            NotFound, InvalidRequest: The body contradicts itself, there is no such model for the caller, or it cannot
                do what is asked.
        """
        caller.keep_fence("send a history of its own, as chat completions do; use /v1/responses")
        body.check()
        model = self._catalog.served(body.model, caller.tenant)
        check_effort(model, body.reasoning_effort, param="reasoning_effort")
        check_functions(model, given=bool(body.tools))
        check_images(model, [place for place, _ in body.images()])
        return model

    async def prepare(
        self, caller: Principal, body: ChatRequest, size: int, *, work: WorkClass | None = None
    ) -> ChatCall:
        """What is to be asked of a pod.

        Args:
            caller: Who asks.
            body: What for.
            size: How many bytes it had as it came.
            work: How soon it is wanted; None is what the body says.

        Raises:
            CloisterError: As `check`; or an image cannot be read.
        """
        model = await aside(size, self.check, caller, body)
        await self._read_images(caller, body)
        # Asked for here, where an error of Redis is still answered as one; the call finds it in the cache.
        await self._upstream.cache_salt(caller.tenant)
        upstream_body = {"temperature": model.temperature, "top_p": model.top_p}
        upstream_body |= await aside(size, body.upstream_body)
        # Without a limit of its caller's, vLLM lets an answer go on to the end of the context.
        answers = body.n or 1
        most = min(body.max_completion_tokens or body.max_tokens or model.context_tokens, model.context_tokens)
        prompt = prompt_size(model, upstream_body, size, answers=answers, count=partial(count_prompt, self._upstream))
        metered = self._metering.around(caller, body.model, "chat", most_output_tokens=most * answers, prompt=prompt)
        wanted = work or class_of(service_tier=body.service_tier)
        metered.parts = partial(split_of, upstream_body)
        attempts, tier = Attempts(served=metered.used.served), tier_served(body.service_tier)
        return ChatCall(body, caller.tenant, model, upstream_body, metered, attempts, wanted, tier)

    async def ask(self, call: ChatCall) -> bytes:
        """The whole completion, as its pod answers.

        Raises:
            CloisterError: As `ModelUpstream.complete_chat`.
        """
        affinity = call.asked.prompt_cache_key
        return await self._upstream.complete_chat(
            call.asked.model,
            call.body,
            tenant=call.tenant,
            affinity=affinity,
            attempts=call.attempts,
            work=call.work,
            accepted=call.work is WorkClass.BATCH,
        )

    async def complete(self, call: ChatCall) -> bytes:
        """The whole completion in OpenAI's shape, reserved before and settled after.

        Raises:
            TooManyRequests: The caller may have no more now.
            CloisterError: As `ask`.
        """
        async with call.metered as metered:
            metered.used.silent = True
            answer = await self.ask(call)
            read_answer(metered.used, answer)
        return await aside(len(answer), self.shaped, call, answer)

    def shaped(self, call: ChatCall, answer: bytes) -> bytes:
        """What a pod answered, in OpenAI's shape."""
        return completion(answer, call.model, call.tier)

    async def _read_images(self, caller: Principal, body: ChatRequest) -> None:
        """Puts into the messages what pods take of their images."""
        room = Room()
        for place, part in body.images():
            asked: ImageUrl = part["image_url"]
            param = f"{place}.image_url.{'url' if asked.file_id is None else 'file_id'}"
            seen = await self._attached.see(
                caller, param, url=asked.url, file_id=asked.file_id, detail=asked.detail or "auto"
            )
            room.take_image(seen, param)
            part["image_url"] = {"url": seen.url}
