"""What each provider and model can do beyond plain text: one table, each fact with its source.

A request that asks for more is refused, or goes to other keys, before anything is reserved.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from urllib.parse import urlsplit

from core.content import Options, images_of
from core.types import Message


class Ability(Enum):
    """Something that not every provider does; the value is its name in errors."""

    TOOLS = "tools"
    IMAGE_URL = "images by their address"
    IMAGE_DATA = "images as data"
    JSON_OBJECT = "response_format json_object"
    JSON_SCHEMA = "response_format json_schema"
    JSON_BESIDE_TOOLS = "response_format together with tools"
    STOP = "stop"
    FIVE_STOPS = "more than 4 texts in stop"
    SIX_STOPS = "more than 5 texts in stop"
    TOP_P = "top_p"
    SEED = "seed"
    EMBEDDINGS = "embeddings"


EVERYTHING = frozenset(Ability)
NOTHING: frozenset[Ability] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lack:
    """One fact: what some models of a protocol do not do.

    Args:
        models: a pattern that the beginning of the model's name matches; what stands before a "/"
            does not count.
        hosts: ends of the hosts that it is true of; empty for all.
    """

    protocol: str
    lacks: frozenset[Ability]
    source: str
    models: str = ""
    hosts: tuple[str, ...] = ()


def _set(*abilities: Ability) -> frozenset[Ability]:
    return frozenset(abilities)


_IMAGES = _set(Ability.IMAGE_URL, Ability.IMAGE_DATA)
_MANY_STOPS = _set(Ability.FIVE_STOPS, Ability.SIX_STOPS)
_OPENAI = ("api.openai.com", ".openai.azure.com", ".services.ai.azure.com")

LACKS = (
    Lack(protocol="openai", hosts=_OPENAI, lacks=_MANY_STOPS,
         source="openai.types.chat.completion_create_params: up to 4 sequences"),
    Lack(protocol="openai", models=r"(?:ft:)?(?:o\d|gpt-(?:[5-9]|\d\d)|codex)(?!.*-chat)",
         lacks=_MANY_STOPS | {Ability.STOP, Ability.TOP_P},
         source="'Unsupported parameter: stop', huggingface/smolagents#1671 (gpt-5-mini), "
         "langgenius/dify#18971 (o4-mini); top_p: lobehub/lobehub#7747"),
    Lack(protocol="openai",
         models=r"(?:ft:)?(?:gpt-3\.5|gpt-35|gpt-4(?:-32k|-0[36]|$)|o1-mini|o3-mini)",
         lacks=_IMAGES, source="developers.openai.com/api/docs/models: text only"),
    Lack(protocol="openai", models=r"(?:ft:)?(?:gpt-3\.5|gpt-35|gpt-4(?:-|$)|chatgpt-4o)",
         lacks=_set(Ability.JSON_SCHEMA),
         source="developers.openai.com/api/docs/guides/structured-outputs: from gpt-4o on"),
    Lack(protocol="openai", models=r"gpt-4(?:-32k|-0[36]|$)", hosts=_OPENAI,
         lacks=_set(Ability.JSON_OBJECT),
         source="the same guide: JSON mode from gpt-3.5-turbo-1106 and gpt-4-turbo on"),
    Lack(protocol="anthropic",
         lacks=_set(Ability.SEED, Ability.JSON_OBJECT, Ability.EMBEDDINGS),
         source="anthropic.types.message_create_params; platform.claude.com/docs: embeddings are "
         "left to others"),
    Lack(protocol="anthropic",
         models=r"claude-(?:[23]|instant|(?:opus|sonnet)-4(?:-0(?!\d)|-20\d|$))",
         lacks=_set(Ability.JSON_SCHEMA, Ability.JSON_BESIDE_TOOLS),
         source="docs.cloud.google.com, Claude's structured outputs: 'Claude 4.5 and higher'; "
         "platform.claude.com: and Opus 4.1"),
    Lack(protocol="anthropic", models=r"claude-(?!.*-4(?:-[0-6](?!\d)|-\d{8}|@|$))(?![23]|instant)",
         lacks=_set(Ability.TOP_P),
         source="anthropic 2.14: create has no top_p; like temperature, gone after 4.6"),
    Lack(protocol="anthropic", models=r"claude-(?:2|instant)", lacks=_IMAGES | {Ability.TOOLS},
         source="platform.claude.com/docs: vision and tools from Claude 3 on"),
    Lack(protocol="gemini", lacks=_set(Ability.SIX_STOPS),
         source="google.genai.types.GenerateContentConfig; ai.google.dev/api: up to 5"),
    Lack(protocol="gemini", models=r"gemini-(?:1|2)", lacks=_set(Ability.JSON_BESIDE_TOOLS),
         source="'Function calling with a response mime type is unsupported', "
         "googleapis/python-genai#867"),
    Lack(protocol="gemini", models=r"gemini-(?:1|2\.0)", lacks=_set(Ability.IMAGE_URL),
         source="ai.google.dev/gemini-api/docs/file-input-methods: not for the 2.0 family"),
    Lack(protocol="gemini", models=r"gemma-[123]",
         lacks=_set(Ability.TOOLS, Ability.JSON_OBJECT, Ability.JSON_SCHEMA,
                    Ability.JSON_BESIDE_TOOLS),
         source="the API's words: 'Function calling is not enabled for models/gemma-3-27b-it', "
         "'JSON mode is not enabled for ...'"),
)  # fmt: skip


@cache
def abilities_of(protocol: str, model: str, base_url: str | None) -> frozenset[Ability]:
    """What a model of a built-in protocol can do; of an unknown model the best is assumed.

    Example:
        >>> Ability.SEED in abilities_of("anthropic", "claude-opus-5", None)
        False
    """
    host = (urlsplit(base_url).hostname or "") if base_url else ""
    name = model.rpartition("/")[2].lower()
    able = EVERYTHING
    for fact in LACKS:
        if fact.protocol != protocol or not re.match(fact.models, name):
            continue
        if not fact.hosts or not host or host.endswith(fact.hosts):
            able -= fact.lacks
    return able


def needs_of(messages: Iterable[Message], options: Options) -> frozenset[Ability]:
    """What a provider must be able to do for these messages and options."""
    needs = set()
    for message in messages:
        if message.tool_calls or message.tool_call_id is not None:
            needs.add(Ability.TOOLS)
        for image in images_of(message.content):
            needs.add(Ability.IMAGE_URL if image.data is None else Ability.IMAGE_DATA)
    if options.tools:
        needs.add(Ability.TOOLS)
    shape = options.response_format
    if shape is not None and shape.kind != "text":
        of_schema = shape.kind == "json_schema"
        needs.add(Ability.JSON_SCHEMA if of_schema else Ability.JSON_OBJECT)
        if options.tools:
            needs.add(Ability.JSON_BESIDE_TOOLS)
    if options.stop:
        needs.add(Ability.STOP)
    if len(options.stop) > 4:
        needs.add(Ability.FIVE_STOPS if len(options.stop) == 5 else Ability.SIX_STOPS)
    if options.top_p is not None:
        needs.add(Ability.TOP_P)
    if options.seed is not None:
        needs.add(Ability.SEED)
    return frozenset(needs)
