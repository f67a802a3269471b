"""Embeddings as OpenAI and the servers that speak its protocol take and give them. Pure."""

from __future__ import annotations

import binascii
import sys
from array import array
from typing import Any

from core.types import EmbeddingReply, Usage
from llm.providers.base import EmbeddingCall
from llm.providers.headers import openai_quotas
from llm.providers.merging import with_provider_options
from llm.providers.openai_requests import OPENAI_HOSTS, host_of
from llm.providers.translate import Answer, clean, count, nonsense, objects


def embedding_body_of(call: EmbeddingCall) -> dict[str, Any]:
    """What is posted to `/embeddings`.

    OpenAI and Azure are asked for base64, a third of the size and far quicker to read; others may
    not know it.
    """
    body: dict[str, Any] = {"model": call.model, "input": [clean(text) for text in call.texts]}
    if call.dimensions is not None:
        body["dimensions"] = call.dimensions
    if host_of(call).endswith(OPENAI_HOSTS):
        body["encoding_format"] = "base64"
    return with_provider_options(body, call)


def read_embeddings(call: EmbeddingCall, answer: Answer) -> EmbeddingReply:
    """The vectors in a success, in the order of the texts.

    Raises:
        ProviderUnavailable: it holds none, or not one for each text.
    """
    body = answer.json()
    if not isinstance(body, dict):
        raise nonsense(call, answer, "no JSON object")
    found = {each.get("index", at): each for at, each in enumerate(objects(body.get("data")))}
    try:
        vectors = tuple(_vector(found[at].get("embedding")) for at in range(len(call.texts)))
    except (KeyError, ValueError, TypeError, binascii.Error):
        raise nonsense(call, answer, "not one vector for each text") from None
    model = body.get("model")
    usage = body.get("usage")
    read = count(usage.get("prompt_tokens")) if isinstance(usage, dict) else None
    return EmbeddingReply(
        vectors,
        model if isinstance(model, str) and model else call.model,
        None if read is None else Usage(read, 0),
        openai_quotas(answer.headers),
    )


def _vector(value: object) -> list[float]:
    if isinstance(value, str):
        numbers = array("f", binascii.a2b_base64(value))
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()
    if not isinstance(value, list) or not value:
        raise ValueError("no vector")
    return [float(number) for number in value]
