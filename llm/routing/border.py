"""What becomes of what an adapter raises, and of a stream that was cut. Pure."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.errors import AdapterFault, RequestCancelled, RouterError
from core.types import ProviderReply
from llm.providers.redact import redact
from llm.routing.calls import checked_reply

if TYPE_CHECKING:
    from pydantic import SecretStr

    from keys.spec import KeySpec


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
        return checked_reply(key.provider, reply())
    except Exception:  # noqa: BLE001 - the stream is given up for a reason that counts more
        return ProviderReply("", key.model_name, "other", None)
