"""What a store gave, made a secret: taken out of its wrapping, and checked to be one."""

from __future__ import annotations

import json
import re

from pydantic import SecretStr

from core.errors import SecretMalformed

FIELD = "api_key"
"""The field of a JSON object, or of a secret in a Vault, that holds the API key."""

_PLACEHOLDER = re.compile(
    r"(?i)<.*>|\{.*\}|\$.*|.*\.\.\.|x+|\*+|change[-_ ]?me|placeholder"
    r"|.*your[-_ ].*|(insert|replace|put|paste|enter)[-_ ].*|.*[-_ ]here"
)
_CLEAN = re.compile(r"[!#-&(-~]+")  # printable ASCII without spaces and quotes


def checked(key_id: str, place: str, secret: SecretStr) -> SecretStr:
    """The secret without white space around it.

    Args:
        place: where it was found, for the message.

    Raises:
        SecretMalformed: it is empty, a placeholder, or has characters that no API key has.
    """
    secret = SecretStr(secret.get_secret_value().strip())
    fault = _fault_of(secret)
    if fault is not None:
        raise SecretMalformed(f"the secret of key {key_id!r} is not usable: {place} {fault}")
    return secret


def unwrapped(key_id: str, place: str, text: SecretStr) -> SecretStr:
    """The secret in a text that is either JSON, `{"api_key": "..."}`, or the API key itself.

    Raises:
        SecretMalformed: it is neither.
    """
    is_json, secret = _opened(text)
    if secret is None:
        raise SecretMalformed(
            f"the secret of key {key_id!r} is not usable: {place} has no field {FIELD} with a "
            "text; put the API key there"
        )
    return checked(key_id, f"the field {FIELD} of {place}" if is_json else place, secret)


def _opened(text: SecretStr) -> tuple[bool, SecretStr | None]:
    value = text.get_secret_value().strip()
    if not value.startswith(("{", "[", '"')):
        return False, text
    try:
        fields = json.loads(value)
    except ValueError:
        return False, text
    found = fields.get(FIELD) if isinstance(fields, dict) else None
    return True, SecretStr(found) if isinstance(found, str) else None


def _fault_of(secret: SecretStr) -> str | None:
    value = secret.get_secret_value()
    if not value:
        return "is empty; put the API key there"
    if _PLACEHOLDER.fullmatch(value):
        return "holds a placeholder; put the API key itself there"
    if not _CLEAN.fullmatch(value):
        return "holds a space, a quote or a character outside ASCII; copy the API key again"
    return None
