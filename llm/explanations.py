"""Why each key would serve a request now, or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from core.types import ChatRequest
from llm.parts import RouterParts
from llm.providers.abilities import needs_of
from llm.routing.needs import able
from llm.routing.prompts import build_prompt, need_of, selection_of

if TYPE_CHECKING:
    from keys.explain import KeyExplanation


class Explained(TypedDict):
    """What `RequestRouter.explain` tells."""

    estimated_tokens: int
    ratio: float
    input_tokens: int
    keys: list[KeyExplanation]


def explain(parts: RouterParts, request: ChatRequest) -> Explained:
    """See `RequestRouter.explain`."""
    around, keys = parts.around, parts.driver.keys
    needs = needs_of(request.messages, request.options)
    selection = able(selection_of(request), needs, around.abilities_of, around.models_of)
    built = build_prompt(request, None, request.model_preference, around.tokens)
    keys.refresh_ratios(selection)
    ratio = around.ratio_of(selection)
    need = need_of(request, built, ratio)
    return Explained(
        estimated_tokens=built.tokens,
        ratio=ratio,
        input_tokens=need.input,
        keys=keys.explain(need, selection),
    )
