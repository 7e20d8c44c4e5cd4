"""The ASGI middleware that vLLM's server loads (``--middleware``): our token, our routes, our fields, our metrics port.

It is the outermost of vLLM's own middleware. It decides on ``scope["path"]``, the path the server parsed, never on a
URL rebuilt from headers. A request body is read once, checked, and handed on; responses pass through untouched, so
that a streamed token costs next to nothing here. Only a stream that is silent for long gets signs of life, where the
caller asks for them.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from cloister_common.certificates import watch_certificate
from cloister_common.doors import bound_connections
from cloister_common.encodings import check_encoding
from cloister_common.errors import (
    CloisterError,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedParameter,
)
from cloister_common.flight import Board
from cloister_common.internal import InternalTokens
from cloister_common.log_level import watch_log_level
from cloister_common.logs import get_logger
from cloister_common.metrics import serve_metrics
from cloister_common.pulse import asked_pulse, pulsing
from cloister_common.settings import SettingsError, read_secret_lines
from cloister_common.supervisor import Supervisor
from cloister_common.values import check_values
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloister_llm.adapters import Adapters, VllmLoras
from cloister_llm.adapters.engine import Loras
from cloister_llm.adapters.service import LOAD_ADAPTER, UNLOAD_ADAPTER
from cloister_llm.families import pod_images, pod_parsers
from cloister_llm.guard.compiler import Compiler
from cloister_llm.guard.compiler_watch import CompilerWatch, asks_of
from cloister_llm.guard.drain import Drain
from cloister_llm.guard.load import LOAD_PATH, capacity_of_engine, load_of_engine
from cloister_llm.guard.rules import ALIVE, BODIES, HEALTH, PATHS, check_body, check_images, check_told_prompt
from cloister_llm.guard.schemas import asks_for_structure, compiled_schemas, may_call
from cloister_llm.guard.sleep import SLEEP_PATHS, Sleep
from cloister_llm.settings import LlmSettings, pod_settings, pod_settings_file
from cloister_llm.starting.herald import end_herald

__all__ = ["Guard"]

log = get_logger(__name__)

_POLICY_VIOLATION = 1008
_CHAT = "/v1/chat/completions"
_NO_CALLS = (
    "Calls that the model may make are not set up for it, since its form of calls is not known here. Ask for a call "
    "with 'tool_choice', or leave out 'tools'."
)


def prepare_process(app: Any, settings: LlmSettings) -> None:
    """Makes vLLM's API server process ours, once its engine is there: our metrics port, our renderer, our limits on
    connections (vLLM's own options for them are for another of uvicorn's protocols, and unused).

    Raises:
        SettingsError: The metrics port is taken; or vLLM would render prompts by itself (it only logs it when a plugin
            cannot be loaded).
    """
    from cloister_llm.rendering.vllm_adapter import GuardedRenderer

    if not isinstance(app.state.engine_client.renderer, GuardedRenderer):
        raise SettingsError(
            "vLLM did not load Cloister's chat renderer, so prompts would not be guarded. "
            "Install cloister_llm in vLLM's environment."
        )
    serve_metrics(settings.server)
    bound_connections(app.state.server.config, settings.server.limits)


class Guard:
    """Refuses what `cloister_llm.guard.rules` does not allow."""

    def __init__(
        self,
        app: ASGIApp,
        settings: LlmSettings | None = None,
        prepare: Callable[[Any, LlmSettings], None] = prepare_process,
        compiler: Compiler | None = None,
        loras: Callable[[Any], Loras] = VllmLoras,
    ) -> None:
        """vLLM passes the application only; everything else is then what this pod needs.

        Raises:
            SettingsError: No settings, or no token.
        """
        self.app = app
        self.settings = settings or pod_settings()
        self._settings_file = pod_settings_file() if settings is None else None
        self.tokens = InternalTokens(read_secret_lines(self.settings.token_file, what="The llm pod's internal token"))
        self._supervisor = Supervisor()
        self.drain = Drain(self.settings.server.shutdown_seconds, self._supervisor)
        self.sleep = Sleep(self.settings, self.drain)
        self.adapters = Adapters(self.settings, self._supervisor)
        self._board = Board()
        self._loras = loras
        self._prepare = prepare
        self._prepared = False
        self._reads_calls = pod_parsers(self.settings).calls is not None
        self._images = pod_images(self.settings)
        self._compiler = compiler or Compiler(self.settings.engine.schema_seconds)
        self._compiler_watch = CompilerWatch(self.settings.engine.compiler_seconds)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        else:
            # vLLM's WebSockets (realtime audio) are not served. Closing before accepting answers 403.
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        application = scope["app"]

        def stop() -> None:
            application.state.server.should_exit = True  # uvicorn's own way to be asked

        try:
            self._prepare(application, self.settings)
        except Exception as error:  # noqa: BLE001 - whatever it is, this process must not serve
            # An exception here would only tell uvicorn that the application has no lifespan; it would serve on.
            log.error("start_refused", reason=str(error) if isinstance(error, SettingsError) else type(error).__name__)
            await receive()
            await send({"type": "lifespan.startup.failed", "message": "The guard refused the start."})
            return
        self.drain.on_signals(stop)
        if (tls := self.settings.server.tls) is not None:
            context = application.state.server.config.ssl
            self._supervisor.loop("certificate", lambda: watch_certificate(context, tls))
        self._supervisor.spawn("compiler-watch", self._end_when_the_compiler_hangs(application, stop))
        if self._settings_file is not None:
            level = self.settings.log.level
            watch = partial(watch_log_level, self._settings_file, service="llm", level=level)
            self._supervisor.loop("log-level", watch)
        # From here on this process accepts: what has connected since waits for it.
        await end_herald()
        self._prepared = True
        log.info("serving", model=self.settings.model.name)
        await self.app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        method, path = scope["method"], scope["path"]
        structured = False
        model: object = None
        try:
            if self._may_not_serve(path):
                raise Unavailable("This pod is starting or stopping. Ask another one.", retry_after=1)
            if method == "GET" and path in HEALTH:
                scope = {**scope, "path": HEALTH[path], "raw_path": HEALTH[path].encode()}
            elif (method, path) not in PATHS:
                raise NotFound(f"Invalid URL ({method} {path})", code="unknown_url")
            elif not self.tokens.accepts(Headers(scope=scope).get("authorization")):
                raise Unauthenticated("This is an internal service: it answers only Cloister's own parts.")
            elif (told := await self._told(scope, receive)) is not None:
                await JSONResponse(told)(scope, receive, send)
                return
            elif path in BODIES:
                check_encoding(scope["headers"])
                raw, body = await self._checked_body(path, receive)
                receive = _replay(raw, receive)
                structured = path == _CHAT and asks_for_structure(body)
                if path == _CHAT and not self._reads_calls and may_call(body):
                    raise UnsupportedParameter("tools", _NO_CALLS)
                if structured:
                    await self._compiler.check(compiled_schemas(body), tenant=str(body.get("cache_salt")))
                model = body.get("model")
                self.adapters.check(model)
                self.sleep.check(path)
        except CloisterError as error:
            response = JSONResponse(error.body(), status_code=type(error).status, headers=error.headers())
            await response(scope, receive, send)
            return
        with self.drain.request(), self.adapters.serving(model):
            seconds = asked_pulse(scope["headers"]) if path in BODIES else None
            if seconds is None:
                await self._answer(scope, receive, send, structured=structured)
                return
            with pulsing(send, seconds) as pulsed:
                await self._answer(scope, receive, pulsed, structured=structured)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, *, structured: bool) -> None:
        if not structured:
            await self.app(scope, receive, send)
            return
        with self._compiler_watch.waiting(send) as seen:
            await self.app(scope, receive, seen)

    def _question(self, structured: bool) -> bytes:
        """The shortest request there is, for the watch on the compiler."""
        question = {"model": self.settings.model.name, "messages": [{"role": "user", "content": "?"}], "max_tokens": 1}
        return json.dumps(question | ({"response_format": {"type": "json_object"}} if structured else {})).encode()

    async def _end_when_the_compiler_hangs(self, application: object, stop: Callable[[], None]) -> None:
        """Plain answers may finish; whoever runs the pod starts it anew, with a new compiler."""
        await self._compiler_watch.until_it_hangs(asks_of(self.app, application, self._question, _CHAT))
        self.drain.begin(stop)

    def _may_not_serve(self, path: str) -> bool:
        return not self._prepared or (self.drain.begun and path not in ALIVE)

    async def _told(self, scope: Scope, receive: Receive) -> dict[str, Any] | None:
        """What the guard itself answers, where it is not vLLM that does."""
        method, path = scope["method"], scope["path"]
        if path == LOAD_PATH:
            load = {**load_of_engine(), **capacity_of_engine(scope.get("app"))}
            others = self._board.note(Headers(scope=scope)).body()
            return {**load, "others": others, "ending": self.drain.begun, "adapters": self.adapters.names()}
        if path in {LOAD_ADAPTER, UNLOAD_ADAPTER}:
            await self._change_adapters(scope, receive)
            return {"adapters": self.adapters.names()}
        if (method, path) in SLEEP_PATHS:
            return await self.sleep.ask(method, path, scope["query_string"], scope["app"].state.engine_client)
        return None

    async def _change_adapters(self, scope: Scope, receive: Receive) -> None:
        _, body = await self._body(receive)
        if scope["path"] == LOAD_ADAPTER:
            await self.adapters.load(body, self._loras(scope["app"]))
        else:
            self.adapters.unload(body, self._loras(scope["app"]))

    async def _checked_body(self, path: str, receive: Receive) -> tuple[bytes, dict[str, Any]]:
        raw, body = await self._body(receive)
        check_body(path, body)
        check_images(body, self._images)
        if self.settings.lora is not None:
            check_told_prompt(body)
        return raw, body

    async def _body(self, receive: Receive) -> tuple[bytes, Any]:
        """The bytes of a body, and its JSON."""
        chunks: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise InvalidRequest("The request ended before its body did.")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > self.settings.max_body_bytes:
                raise PayloadTooLarge(f"The request body is over the limit of {self.settings.max_body_bytes} bytes.")
            chunks.append(chunk)
            if not message.get("more_body"):
                break
        body = b"".join(chunks)
        await check_values(body, self.settings.max_json_values)
        try:
            return body, json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest("The body is not valid JSON.", code="invalid_json") from error


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body once and then waits for the disconnect, as the server's own does."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
