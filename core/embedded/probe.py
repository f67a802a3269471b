"""Whether the embedded server answers."""

from __future__ import annotations

import enum
import socket

_SECONDS = 1.0


class State(enum.Enum):
    """What a probe of the server's socket found."""

    DOWN = "nothing listens"
    BUSY = "it listens, but loads its data or is busy"
    READY = "it answers"


def probe(path: str) -> State:
    """Ask the server behind the socket at `path` for a sign of life, for a second at most."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(_SECONDS)
        try:
            connection.connect(path)
            connection.sendall(b"PING\r\n")
            reply = connection.recv(64)
        except (TimeoutError, BlockingIOError):
            return State.BUSY
        except OSError:
            return State.DOWN
    if not reply:
        return State.DOWN
    return State.BUSY if reply.startswith(b"-LOADING") else State.READY
