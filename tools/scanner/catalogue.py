"""Every built-in rule, once."""

from __future__ import annotations

from . import addresses, private_keys
from .findings import Rule
from .names import GENERIC, PASSWORD, PROVIDER_RULES
from .tokens import BEARER, RULES


def all_rules() -> list[Rule]:
    """The built-in rules by their ids."""
    rules: list[Rule] = [
        *(token.rule for token in RULES),
        *PROVIDER_RULES,
        addresses.URL, addresses.COMMAND, addresses.SAS,
        BEARER, GENERIC, PASSWORD,
        private_keys.PEM, private_keys.JWK,
    ]  # fmt: skip
    return sorted({rule.id: rule for rule in reversed(rules)}.values(), key=lambda rule: rule.id)
