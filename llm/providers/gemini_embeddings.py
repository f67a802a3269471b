"""Embeddings as Gemini takes and gives them. Pure."""

from __future__ import annotations

from typing import Any

from core.errors import ProviderUnavailable
from core.types import EmbeddingReply, Usage
from llm.providers.base import EmbeddingCall
from llm.providers.merging import with_provider_options
from llm.providers.translate import Answer, clean, count


def embedding_body_of(call: EmbeddingCall) -> dict[str, Any]:
    """What is posted to `models/...:batchEmbedContents`.

    Each text is a request of its own in it, and a content of its own: newer models make one vector
    of all the parts of a content. `provider_options` go into each request.
    """
    name = call.model if "/" in call.model else f"models/{call.model}"
    more: dict[str, Any] = {"model": name}
    if call.dimensions is not None:
        more["outputDimensionality"] = call.dimensions
    more = with_provider_options(more, call)
    return {
        "requests": [{**more, "content": {"parts": [{"text": clean(text)}]}} for text in call.texts]
    }


def read_embeddings(call: EmbeddingCall, answer: Answer) -> EmbeddingReply:
    """The reply of what the SDK read.

    Args:
        answer: an object of `vectors`, the numbers of each text, and `usage`, the prompt's tokens
            or None where the API tells none.

    Raises:
        ProviderUnavailable: not one vector for each text.
    """
    body = answer.json()
    vectors = body["vectors"]
    if len(vectors) != len(call.texts) or not all(isinstance(v, list) and v for v in vectors):
        raise ProviderUnavailable(
            f"{call.provider}: {len(vectors)} vectors for {len(call.texts)} texts",
            provider=call.provider,
            status=200,
        )
    read = count(body["usage"])
    return EmbeddingReply(tuple(vectors), call.model, None if read is None else Usage(read, 0))
