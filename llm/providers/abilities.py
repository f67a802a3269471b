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
    GIF = "gif images"
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

_JSON = _set(Ability.JSON_OBJECT, Ability.JSON_SCHEMA, Ability.JSON_BESIDE_TOOLS)
_SCHEMAS = _set(Ability.JSON_SCHEMA, Ability.JSON_BESIDE_TOOLS)

LACKS = (
    Lack(protocol="openai", hosts=_OPENAI, lacks=_MANY_STOPS,
         source="openai.types.chat.completion_create_params: up to 4 sequences"),
    Lack(protocol="openai", models=r"(?:ft:)?(?:o\d|gpt-(?:[5-9]|\d\d)|codex)(?!.*-chat)",
         lacks=_MANY_STOPS | {Ability.STOP, Ability.TOP_P},
         source="stop: the same docstring of o3 and o4-mini, EleutherAI/lm-evaluation-harness#3247 "
         "of gpt-5; top_p: truefoundry/models#2122 quotes OpenAI's guide: only without reasoning, "
         "and not by gpt-5 itself. That 5.1 and later would take both while they do not reason is "
         "left out: an effort can be set in provider_options"),
    Lack(protocol="openai", models="gpt-5-chat", lacks=_SCHEMAS | {Ability.TOOLS},
         source="a list of what gpt-5-chat-latest takes, quoted in CopilotKit/CopilotKit#7191"),
    Lack(protocol="openai",
         models=r"(?:ft:)?(?:gpt-3\.5|gpt-35|gpt-4(?:-32k|-0[36]|$)|o1-mini|o3-mini)",
         lacks=_IMAGES, source="o1-mini and o3-mini: the vision tables of several clients; "
         "the others are not confirmed"),
    Lack(protocol="openai",
         models=r"(?:ft:)?(?:gpt-3\.5|gpt-35|gpt-4(?:-|$)|gpt-4o-2024-05-13|chatgpt-4o)",
         lacks=_set(Ability.JSON_SCHEMA),
         source="reference.langchain.com, withStructuredOutput: only gpt-4o-mini, "
         "gpt-4o-2024-08-06 and later; of chatgpt-4o not confirmed"),
    Lack(protocol="openai", models=r"gpt-4(?:-32k|-0[36]|$)", hosts=_OPENAI,
         lacks=_set(Ability.JSON_OBJECT),
         source="openai-go, response_format: GPT-4 Turbo and gpt-3.5-turbo-1106 or later"),
    Lack(protocol="anthropic",
         lacks=_set(Ability.SEED, Ability.JSON_OBJECT, Ability.EMBEDDINGS),
         source="anthropic 2.14: MessageCreateParams has no seed, OutputConfigParam only a schema, "
         "and the client no embeddings"),
    Lack(protocol="anthropic",
         models=r"claude-(?:[23]|instant|(?:opus|sonnet)-4(?:-[01](?!\d)|-20\d|$))",
         lacks=_SCHEMAS,
         source="platform.claude.com/docs, structured outputs: generally available for Opus 4.5, "
         "Sonnet 4.5, Haiku 4.5 and later"),
    Lack(protocol="anthropic", models=r"claude-(?!.*-4(?:-[0-6](?!\d)|-\d{8}|@|$))(?![23]|instant)",
         lacks=_set(Ability.TOP_P),
         source="anthropic 2.14: MessageCreateParams has no top_p; anomalyco/models.dev#1468 tells "
         "what is new in 4.7: a 400 for temperature, top_p and top_k"),
    Lack(protocol="anthropic", models=r"claude-(?:2|instant)", lacks=_IMAGES | {Ability.TOOLS},
         source="docs.anthropic.com/en/docs/vision: Claude 3 and 4; tools before 3 are not "
         "confirmed"),
    Lack(protocol="gemini", lacks=_set(Ability.SIX_STOPS),
         source="google.generativeai, GenerationConfig: 'up to 5 character sequences'"),
    Lack(protocol="gemini", lacks=_set(Ability.GIF),
         source="ai.google.dev/gemini-api/docs/image-understanding: png, jpeg, webp, heic, heif"),
    Lack(protocol="gemini", models=r"gemini-(?:1|2)", lacks=_set(Ability.JSON_BESIDE_TOOLS),
         source="the API's words: 'Function calling with a response mime type: 'application/json' "
         "is unsupported' (gemini-2.5-flash)"),
    Lack(protocol="gemini", models=r"gemini-(?:1|2\.0)", lacks=_set(Ability.IMAGE_URL),
         source="not confirmed: ai.google.dev/gemini-api/docs/file-input-methods names no models "
         "any more; other clients refuse the 2.0 family themselves"),
    Lack(protocol="gemini", models=r"gemma-[123]|gemini-.*-image", lacks=_JSON | {Ability.TOOLS},
         source="the API's words: 'Function calling is not enabled for models/gemma-3-27b-it', "
         "'JSON mode is not enabled for models/gemma-3-27b-it', the same of "
         "gemini-2.5-flash-image"),
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
            if image.media_type == "image/gif":
                needs.add(Ability.GIF)
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
