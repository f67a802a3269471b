"""How an answer leaves: whole or as a stream, intact or broken on purpose."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping

from aiohttp import web

JSON_TYPE = "application/json"
STREAM_TYPE = "text/event-stream; charset=utf-8"

_GARBAGE = b"<<< this is not JSON >>>"
_PAGE = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n"
    b"<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>"
)

Frames = Iterable[tuple[bytes, int]]


def whole(body: bytes, headers: Mapping[str, str], status: int = 200) -> web.Response:
    """A JSON body in one piece."""
    return web.Response(body=body, status=status, headers={"content-type": JSON_TYPE, **headers})


async def replaced(request: web.Request, fault: str, kind: str) -> web.StreamResponse | None:
    """What comes instead of any answer, if `fault` is of that sort; `kind` is a content type."""
    if fault == "hang":
        await asyncio.Event().wait()  # ends when the client gives up: the handler is cancelled
    if fault == "drop":
        _hang_up(request)
        return web.Response()
    if fault == "garbage":
        body = b"data: " + _GARBAGE + b"\n\n" if kind == STREAM_TYPE else _GARBAGE
        return web.Response(body=body, headers={"content-type": kind})
    if fault == "empty":
        return web.Response(body=b"", headers={"content-type": kind})
    if fault == "html":
        return web.Response(body=_PAGE, status=502, headers={"content-type": "text/html"})
    return None


async def interrupted(
    request: web.Request,
    body: bytes,
    headers: Mapping[str, str],
    fault: str,
    seconds: float | None,
) -> web.StreamResponse:
    """Half of a body, then nothing (`drop_midway`), or the rest much later (`stall`)."""
    response = web.StreamResponse(headers={"content-type": JSON_TYPE, **headers})
    response.content_length = len(body)
    await response.prepare(request)
    half = len(body) // 2
    await response.write(body[:half])
    if fault == "drop_midway":
        _hang_up(request)
        return response
    await _stall(seconds)
    await response.write(body[half:])
    await response.write_eof()
    return response


async def streamed(
    request: web.Request,
    frames: Frames,
    headers: Mapping[str, str],
    produced: Callable[[int], None],
    pause: float = 0.0,
    content_type: str = STREAM_TYPE,
) -> web.StreamResponse:
    """All frames, `pause` seconds apart; `produced` hears of the tokens in each."""
    response = web.StreamResponse(headers={"content-type": content_type, **headers})
    await response.prepare(request)
    if pause:
        for frame, tokens in frames:
            await response.write(frame)
            produced(tokens)
            if tokens:
                await asyncio.sleep(pause)
    else:
        everything = list(frames)
        produced(sum(tokens for _, tokens in everything))
        await response.write(b"".join(frame for frame, _ in everything))
    await response.write_eof()
    return response


async def interrupted_stream(
    request: web.Request,
    frames: Frames,
    headers: Mapping[str, str],
    produced: Callable[[int], None],
    fault: str | bytes,
    seconds: float | None,
) -> web.StreamResponse:
    """Half of a stream, then what `fault` says: nothing, a long pause, or these bytes."""
    response = web.StreamResponse(headers={"content-type": STREAM_TYPE, **headers})
    await response.prepare(request)
    everything = list(frames)
    half = len(everything) // 2
    for frame, tokens in everything[:half]:
        await response.write(frame)
        produced(tokens)
    if isinstance(fault, bytes):
        await response.write(fault)
    elif fault == "drop_midway":
        _hang_up(request)
        return response
    else:
        await _stall(seconds)
        for frame, tokens in everything[half:]:
            await response.write(frame)
            produced(tokens)
    await response.write_eof()
    return response


async def _stall(seconds: float | None) -> None:
    if seconds is None:
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(seconds)


def _hang_up(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.close()
