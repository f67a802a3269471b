"""Does a value look like a secret, and how may a message show it? Guards `keys.json`.

The full scanner, for files and logs, is `tools/secret_scanner.py`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_SHORTEST = 16
_SHOWN_CHARACTERS = 40
_KNOWN = re.compile(
    r"""(?x)
    \b(?:sk|rk|pk)[-_](?=[\w-]*[0-9A-Z])[\w-]{16,}   # OpenAI, Anthropic, Stripe, their copies
    |\bAIza[\w-]{30,}|\bAQ\.[\w-]{20,}|\bGOCSPX-[\w-]{20,}                        # Google
    |\b(?:gsk_|hf_|r8_|fw_|npm_|csk-|pplx-|xai-)[A-Za-z0-9]{20,}
    |\b(?:nvapi-|tgp_v1_|pcsk_|lsv2_pt_|lsv2_sk_|glpat-|github_pat_|pypi-)[\w-]{20,}
    |\b(?:AKIA|ASIA)[A-Z2-7]{16}\b|\bABSK[\w+/=-]{40,}|\bbedrock-api-key-[\w+/=-]{16,}
    |\bgh[pousr]_\w{20,}|\bhvs\.[\w-]{20,}|\bxox[abpr]-[\w-]{16,}|\bSG\.[\w-]{16,}
    |\beyJ[\w-]{10,}\.[\w-]{10,}                                                  # JWT
    |-----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY
    |\b(?i:bearer|basic)\s+[\w.~+/=-]{16,}
    |://[^/\s:@]*:[^/\s@]+@                                                       # a DSN
    |[?&](?i:key|api[-_]?key|token|access_token|sig|code)=[^&\s]{8,}
    |(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{32,}         # hex, base62
    """
)
_LONG_RUN = re.compile(r"[A-Za-z0-9+/=_-]{40,}")
_SWITCH = re.compile(r"[a-z](?=[A-Z0-9])|[A-Z](?=[a-z0-9])|[0-9](?=[A-Za-z])")


def looks_like_a_secret(text: str) -> bool:
    """True for the known shapes of API keys, for passwords in URLs and for long random runs.

    Random is what keeps changing between small letters, capitals and digits, or 32 letters and
    digits without a break; names of models and people do neither.

    Example:
        >>> looks_like_a_secret("gemini-flash-01")
        False
    """
    if len(text) < _SHORTEST and "://" not in text:
        return False
    if _KNOWN.search(text):
        return True
    return any(len(_SWITCH.findall(run)) >= 0.4 * len(run) for run in _LONG_RUN.findall(text))


def holds_a_secret(value: Any) -> bool:
    """True if a text looks like a secret anywhere in `value`, in names and nested values too."""
    if isinstance(value, str):
        return looks_like_a_secret(value)
    if isinstance(value, Mapping):
        return any(holds_a_secret(name) or holds_a_secret(item) for name, item in value.items())
    return isinstance(value, (list, tuple)) and any(map(holds_a_secret, value))


def show(value: Any) -> str:
    """A refused value as a message may show it: short, in ASCII, and never a secret.

    Example:
        >>> show(-5), show("x" * 50)
        ('-5', 'a text of 50 characters')
    """
    if isinstance(value, Mapping):
        inside = ", ".join(f"{show(name)}: {show(item)}" for name, item in value.items())
        return f"{{{inside}}}" if len(inside) <= _SHOWN_CHARACTERS else "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if isinstance(value, str) and (len(value) > _SHOWN_CHARACTERS or looks_like_a_secret(value)):
        return f"a text of {len(value)} characters"
    if value is None or isinstance(value, (str, int, float)):
        return json.dumps(value)
    return f"of type {type(value).__name__}"
