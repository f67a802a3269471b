"""Where a flow meets an adapter: what it is given, and what is made of what it gives. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from pydantic import SecretStr

from core.errors import AdapterFault, RequestCancelled, RouterError
from core.types import ProviderReply, Usage
from keys.spec import KeySpec
from llm.providers.base import ProviderCall
from llm.providers.redact import redact
from llm.routing.effects import Send


def call_of(effect: Send, secret: SecretStr, timeout: float) -> ProviderCall:
    """The call that an effect asks for; `timeout` is what is left of its seconds."""
    key = effect.key
    return ProviderCall(
        provider=key.provider,
        key_id=key.key_id,
        secret=secret,
        model=key.model_name,
        messages=effect.messages,
        system_prompt=effect.system_prompt,
        max_output_tokens=effect.max_output_tokens,
        temperature=effect.temperature,
        timeout=timeout,
        base_url=key.base_url,
        idle_timeout=effect.idle_timeout,
    )


def checked(provider: str, reply: Any) -> ProviderReply:
    """The reply of an adapter that keeps its contract.

    Raises:
        AdapterFault: it does not.
    """
    right = isinstance(reply, ProviderReply) and isinstance(reply.content, str)
    if right and reply.usage is not None:
        usage = reply.usage
        right = isinstance(usage, Usage) and all(
            type(count) is int and count >= 0 for count in (usage.input, usage.output, usage.cached)
        )
    if not right:
        raise AdapterFault(f"the adapter of {provider} gave no right ProviderReply")
    found: ProviderReply = reply
    return found


def cause_of(error: BaseException, key: KeySpec, secret: SecretStr | None) -> RouterError:
    """Our error for what was raised while a provider was asked; no secret is in it."""
    if isinstance(error, RouterError):
        if secret is not None:
            error.args = (redact(str(error), secret),)
        return error
    if isinstance(error, Exception):
        # Its text and its frames may hold the secret: only its kind and place are passed on.
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} at {frame.filename}:{frame.lineno}"
        return AdapterFault(f"the adapter of {key.provider} raised {where}")
    return RequestCancelled("the caller stopped reading before the answer was whole")


def so_far(reply: Callable[[], Any], key: KeySpec) -> ProviderReply:
    """What had arrived of a stream that was cut."""
    try:
        return checked(key.provider, reply())
    except Exception:  # noqa: BLE001 - the stream is given up for a reason that counts more
        return ProviderReply("", key.model_name, "other", None)
