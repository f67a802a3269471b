"""What the router asks of a provider: one method. This is the place to plug in another one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pydantic import SecretStr

from core.types import Message, ProviderReply


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """One call of one key, complete.

    Args:
        provider: the provider's name in `keys.json`.
        key_id: the key's name; adapters keep one SDK client a key.
        secret: the API key, wrapped; it changes when the key is rotated.
        model: the provider's name of the model.
        messages: the conversation without system messages, oldest first.
        max_output_tokens: the most tokens that the answer may have.
        timeout: seconds that this attempt may take in all.
        base_url: another address that speaks the same protocol, or None.
    """

    provider: str
    key_id: str
    secret: SecretStr
    model: str
    messages: tuple[Message, ...]
    system_prompt: str | None
    max_output_tokens: int
    temperature: float | None
    timeout: float
    base_url: str | None = None


@runtime_checkable
class ProviderAdapter(Protocol):
    """Speaks one provider's protocol. Called from many threads at once."""

    def send(self, call: ProviderCall) -> ProviderReply:
        """Call the provider once, without any retry of its own.

        Raises:
            core.errors.ProviderError: the most specific one that fits.
        """

    def close(self) -> None:
        """Give back connections; the adapter is not used afterwards."""


class _Sending(threading.local):
    at: float | None = None


_sending = _Sending()


def note_sent() -> None:
    """Tell that the request of this thread's call has been written, now.

    The provider counts it from about then. An adapter that does not tell is taken to have sent it
    when it was called.
    """
    _sending.at = time.monotonic()


def take_sent() -> float | None:
    """When this thread's call was written (monotonic seconds), told once; None if nobody told."""
    at, _sending.at = _sending.at, None
    return at


AdapterFactory = Callable[[], ProviderAdapter]
