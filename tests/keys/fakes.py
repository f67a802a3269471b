"""What several tests of this room need: entries, texts of a keys.json, made-up secrets."""

from __future__ import annotations

import json
import secrets
import string
from typing import Any

from keys.spec import KeySpec

_LETTERS = string.ascii_letters + string.digits


def entry(key_id: str = "openai-01", **fields: Any) -> dict[str, Any]:
    return {"key_id": key_id, "model_name": "gpt-4o-mini", "provider": "openai", **fields}


def spec(key_id: str = "openai-01", **fields: Any) -> KeySpec:
    return KeySpec(**entry(key_id, **fields))


def text_of(*entries: Any, **top: Any) -> str:
    return json.dumps({**top, "keys": list(entries)}, indent=2)


def fake_secret(prefix: str = "s" + "k-", length: int = 40) -> str:
    """A new one each time, so that no file ever holds one and no test passes by habit."""
    body = "".join(secrets.choice(_LETTERS) for _ in range(length - 3))
    return prefix + body + "a1B"


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
