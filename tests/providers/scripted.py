"""An HTTP server that says exactly what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

Raw = Callable[[socket.socket], None]


@dataclass(frozen=True)
class Asked:
    """One request that arrived; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    raw: bytes

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Reply:
    """One answer. A body that is not bytes is sent as JSON; `raw` takes over the connection."""

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    raw: Raw | None = None

    def send(self, connection: socket.socket) -> bool:
        """Write it; False ends the connection."""
        if self.raw is not None:
            self.raw(connection)
            return False
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        headers = {"content-type": "application/json", **self.headers}
        lines = [f"HTTP/1.1 {self.status} Said", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        return True


class ScriptedServer:
    """Gives the replies of `script` in their order, then `default` for ever.

    Args:
        tls: to speak TLS with.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self.script: list[Reply | Callable[[Asked], Reply]] = []
        self.default: Reply | Callable[[Asked], Reply] = Reply({})
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        for connection in list(self._open):
            connection.close()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as reader:
                while (asked := _read(reader)) is not None:
                    with self._lock:
                        self.asked.append(asked)
                        reply = self.script.pop(0) if self.script else self.default
                    if not (reply(asked) if callable(reply) else reply).send(connection):
                        return
        except OSError:
            return
        finally:
            self._open.discard(connection)


def _read(reader: Any) -> Asked | None:
    line = reader.readline().decode("latin-1")
    if not line.rstrip().endswith("HTTP/1.1"):
        return None
    method, path, _ = line.split(" ", 2)
    headers = {}
    while text := reader.readline().decode().strip():
        name, _, value = text.partition(":")
        headers[name.lower()] = value.strip()
    raw = reader.read(int(headers.get("content-length", 0)))
    return Asked(method, path, headers, raw)
