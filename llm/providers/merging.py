"""A provider's own fields, put into a request's body as they are. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm.providers.base import ProviderCall


def with_provider_options(body: dict[str, Any], call: ProviderCall) -> dict[str, Any]:
    """The body with what `provider_options` holds for the call's provider.

    Objects are merged, lists are joined, anything else takes the place of what was there.
    """
    own = call.options.provider_options.get(call.provider)
    return _merged(body, own) if own else body


def _merged(body: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(body)
    for name, value in more.items():
        there = merged.get(name)
        if isinstance(there, Mapping) and isinstance(value, Mapping):
            merged[name] = _merged(there, value)
        elif isinstance(there, list) and isinstance(value, (list, tuple)):
            merged[name] = [*there, *value]
        else:
            merged[name] = value
    return merged
