"""The embedded server: a real Valkey that starts when the first process of a user needs it."""

from core.embedded.server import EmbeddedServer, NoServerError, find_server

__all__ = ["EmbeddedServer", "NoServerError", "find_server"]
