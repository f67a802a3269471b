"""The application: which path speaks which dialect, and how it is served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tools.simulation.anthropic import Anthropic
from tools.simulation.calls import Dialect, Operation
from tools.simulation.control import add_control_routes
from tools.simulation.engine import Engine
from tools.simulation.gemini import Gemini
from tools.simulation.openai import OpenAI
from tools.simulation.settings import SimulationSettings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LARGEST_BODY = 64 * 1024 * 1024
_CREATED = 1_700_000_000
_GEMINI: dict[str, Operation] = {
    "generateContent": "chat",
    "streamGenerateContent": "chat",
    "embedContent": "embed",
    "batchEmbedContents": "embed",
    "countTokens": "count",
}


def make_app(engine: Engine) -> web.Application:
    """All routes of the three dialects and of the control endpoints, on one application."""
    openai, anthropic, gemini = OpenAI(), Anthropic(), Gemini()

    def speaks(dialect: Dialect, operation: Operation) -> Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            return await engine.handle(dialect, operation, request)

        return handler

    async def gemini_call(request: web.Request) -> web.StreamResponse:
        operation = _GEMINI.get(request.match_info["target"].rpartition(":")[2])
        if operation is None:
            raise web.HTTPNotFound
        return await engine.handle(gemini, operation, request)

    async def models(request: web.Request) -> web.Response:
        return web.json_response(_models(request, engine.settings.models))

    app = web.Application(client_max_size=_LARGEST_BODY)
    for prefix in ("/v1", ""):
        app.router.add_post(f"{prefix}/chat/completions", speaks(openai, "chat"))
        app.router.add_post(f"{prefix}/embeddings", speaks(openai, "embed"))
        app.router.add_get(f"{prefix}/models", models)
    app.router.add_post("/v1/messages", speaks(anthropic, "chat"))
    app.router.add_post("/v1/messages/count_tokens", speaks(anthropic, "count"))
    app.router.add_get("/v1beta/models", models)
    app.router.add_post("/{version:v1(?:beta|alpha)?}/models/{target}", gemini_call)
    add_control_routes(app, engine)
    return app


def _models(request: web.Request, names: tuple[str, ...]) -> dict[str, object]:
    if request.path.startswith("/v1beta"):
        return {"models": [{"name": f"models/{name}", "displayName": name} for name in names]}
    if "anthropic-version" in request.headers:
        made = "2023-11-14T22:13:20Z"
        data = [
            {"type": "model", "id": name, "display_name": name, "created_at": made}
            for name in names
        ]
        edges = {"first_id": names[0] if names else None, "last_id": names[-1] if names else None}
        return {"data": data, "has_more": False, **edges}
    owner = {"object": "model", "created": _CREATED, "owned_by": "simulated"}
    return {"object": "list", "data": [{"id": name, **owner} for name in names]}


@asynccontextmanager
async def serving(
    settings: SimulationSettings, clock: Callable[[], float] = time.time
) -> AsyncIterator[str]:
    """Serves for as long as the block lasts, and yields the base URL.

    Raises:
        OSError: if the address cannot be listened on.
    """
    # A handler must end when its client goes: a request that hangs would stay under way for ever.
    runner = web.AppRunner(
        make_app(Engine(settings, clock)),
        access_log=None,
        handler_cancellation=True,
        shutdown_timeout=0.1,
        keepalive_timeout=600.0,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port, backlog=4096).start()
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()


async def serve_until(
    stop: asyncio.Event,
    settings: SimulationSettings,
    started: Callable[[str], None],
    clock: Callable[[], float] = time.time,
) -> None:
    """Serves until `stop` is set; `started` hears the base URL once requests are taken."""
    async with serving(settings, clock) as url:
        started(url)
        await stop.wait()
