"""The endpoints under `/_sim`, by which a running simulation is changed and asked.

GET    /_sim/health   {"status": "ok", "faults": [...]}
GET    /_sim/report   what each key did; ?timestamps=1 adds when
POST   /_sim/keys     {"secret": ..., "name": ..., "rpm": ...}: configure a key
POST   /_sim/faults   {"kind": ..., ...}: put a fault in force
DELETE /_sim/faults   take all faults out of force
POST   /_sim/revoke   {"key": secret or name}: invalid from now on
POST   /_sim/reset    forget all counts and empty all windows
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tools.simulation.engine import Engine
from tools.simulation.faults import Fault
from tools.simulation.settings import key_from_mapping

Reply = dict[str, Any]
_DONE: Reply = {"status": "ok"}


def add_control_routes(app: web.Application, engine: Engine) -> None:
    """Adds the endpoints to `app`. A wrong body is answered with 400 and `{"error": why}`."""

    async def health(_request: web.Request) -> Reply:
        return {"status": "ok", "faults": engine.faults.names()}

    async def report(request: web.Request) -> Reply:
        timestamps = request.query.get("timestamps", "0") not in ("0", "false", "")
        return {**engine.accounts.report(timestamps)}

    async def configure(request: web.Request) -> Reply:
        account = engine.accounts.configure(*key_from_mapping(await _body(request)))
        return {"status": "ok", "name": account.name}

    async def add_fault(request: web.Request) -> Reply:
        engine.faults.add(Fault.from_mapping(await _body(request)))
        return _DONE

    async def clear_faults(_request: web.Request) -> Reply:
        engine.faults.clear()
        return _DONE

    async def revoke(request: web.Request) -> Reply:
        engine.accounts.revoke(str((await _body(request)).get("key")))
        return _DONE

    async def reset(_request: web.Request) -> Reply:
        engine.accounts.reset()
        return _DONE

    app.add_routes(
        [
            web.get("/_sim/health", _answered(health)),
            web.get("/_sim/report", _answered(report)),
            web.post("/_sim/keys", _answered(configure)),
            web.post("/_sim/faults", _answered(add_fault)),
            web.delete("/_sim/faults", _answered(clear_faults)),
            web.post("/_sim/revoke", _answered(revoke)),
            web.post("/_sim/reset", _answered(reset)),
        ]
    )


def _answered(
    action: Callable[[web.Request], Awaitable[Reply]],
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        try:
            return web.json_response(await action(request))
        except (ValueError, TypeError) as error:
            return web.json_response({"error": str(error)}, status=400)
        except KeyError as error:
            return web.json_response({"error": str(error.args[0])}, status=404)

    return handler


async def _body(request: web.Request) -> Reply:
    body = json.loads(await request.read())
    if not isinstance(body, dict):
        raise ValueError("the body must be a JSON object")
    return body
