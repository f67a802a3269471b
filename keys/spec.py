"""One entry of `keys.json`: a key's name, its model, its limits. Never its secret."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
)

from core.errors import ConfigurationError
from keys.leaks import holds_a_secret, show

_MOST = 10**12  # above any limit of any provider, and exact in Lua's numbers
_ALSO_USUAL = {"gemini": ("GOOGLE_API_KEY",)}
_SECRET_FIELD = re.compile(r"(?i)key$|secret|token$|passw|credential")
# Most names say so (OpenAI, Google, Mistral, Cohere); the others are families of open models.
_EMBEDS = re.compile(r"embed|^(?:bge|gte|e5|multilingual-e5|all-minilm|all-mpnet|voyage)-")
_COUNT_HINT = "a whole number of 1 or more, or leave it out"
_NAME_HINT = "letters, digits and _ . : / @ + -, at most 128, such as "
WRITE = {
    "key_id": _NAME_HINT + "gemini-flash-01",
    "model_name": _NAME_HINT + "gemini-2.5-flash",
    "provider": "openai, anthropic, gemini or another registered name, in small letters",
    **dict.fromkeys(("rpm", "tpm", "itpm", "otpm", "rpd", "tpd", "max_parallel"), _COUNT_HINT),
    "burst_window_seconds": "a number above 0, at most 60, or leave it out",
    "quota_group": _NAME_HINT + "openai-team-a, or leave it out",
    "priority": "a whole number from 0 to 100, or leave it out",
    "base_url": "an address that starts with https:// or http://, such as "
    "https://gateway.example:8443/v1, or leave it out",
    "active": "true or false, without quotes",
    "serves": "chat or embeddings, or leave it out",
    "tags": 'names with texts, such as {"tier": "free"}',
}


class Tags(Mapping[str, str]):
    """Labels that nobody can change; they can be hashed and pickled."""

    __slots__ = ("_labels",)

    def __init__(self, labels: Mapping[str, str] | None = None) -> None:
        self._labels = dict(labels or {})

    def __getitem__(self, name: str) -> str:
        return self._labels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __hash__(self) -> int:
        return hash(frozenset(self._labels.items()))

    def __repr__(self) -> str:
        return repr(self._labels)


Purpose = Literal["chat", "embeddings"]
Count = Annotated[int, Field(ge=1, le=_MOST, strict=True)]
Name = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/@+-]*$")]
Label = Annotated[str, Field(pattern=r"^[^\x00-\x1f]{1,128}$")]
Seconds = Annotated[float, Field(gt=0, le=60, strict=True)]


def _reachable(address: str) -> str:
    parts = urlsplit(address)  # it and `port` raise ValueError for what is no host or port
    if not parts.hostname or parts.port == 0:
        raise ValueError("no host, or no port that can be reached")
    return address


Address = Annotated[str, Field(pattern=r"^https?://\S+$"), AfterValidator(_reachable)]


class KeySpec(BaseModel):
    """A key as `keys.json` describes it; frozen. A limit that is absent does not limit.

    What each field means stands in its description, which editors show too.

    Raises:
        ConfigurationError: fields are wrong; the message names each and what to write, and never
            shows a value that looks like a secret.

    Example:
        >>> KeySpec(key_id="gemini-flash-01", model_name="gemini-2.5-flash", provider="gemini",
        ...         rpm=10).group
        'gemini-flash-01'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    key_id: Name = Field(
        description="The key's own name. Its secret is looked up as API_KEY_<KEY_ID>."
    )
    model_name: Name = Field(description="The provider's name of the model this entry serves.")
    provider: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")] = Field(
        description="openai, anthropic, gemini, or a provider that was registered.",
        examples=["openai", "anthropic", "gemini"],
    )
    rpm: Count | None = Field(default=None, description="Requests a minute.")
    tpm: Count | None = Field(
        default=None, description="Tokens a minute, as the provider counts them."
    )
    itpm: Count | None = Field(
        default=None,
        description="Input tokens a minute, where the provider counts them apart (Anthropic).",
    )
    otpm: Count | None = Field(
        default=None, description="Output tokens a minute, where the provider counts them apart."
    )
    rpd: Count | None = Field(
        default=None, description="Requests a day; the day ends when the provider's day does."
    )
    tpd: Count | None = Field(
        default=None, description="Tokens a day; the day ends when the provider's day does."
    )
    max_parallel: Count | None = Field(
        default=None, description="Requests under way at the same time."
    )
    burst_window_seconds: Seconds | None = Field(
        default=None,
        description="Spread rpm evenly over windows of this many seconds as well, for providers "
        "that enforce their limits below a minute.",
    )
    quota_group: Name | None = Field(
        default=None,
        description="What the provider counts as one (a project, an organisation). Keys of a "
        "group share its counters. Without it each key is counted by itself.",
    )
    priority: Annotated[int, Field(ge=0, le=100, strict=True)] = Field(
        default=0, description="0 to 100; lower is tried first."
    )
    base_url: Address | None = Field(
        default=None, description="Another address that speaks the provider's protocol."
    )
    active: Annotated[bool, Field(strict=True)] = Field(
        default=True, description="false keeps the entry but never uses it."
    )
    serves: Purpose | None = Field(
        default=None,
        description="chat or embeddings: what the model does. Without it, its name decides.",
    )
    tags: Annotated[Mapping[Label, Label], AfterValidator(Tags), PlainSerializer(dict)] = Field(
        default_factory=Tags,
        description='Free labels that requests can ask for, such as {"tier": "free"}.',
    )

    if not TYPE_CHECKING:  # type checkers see the fields instead

        def __init__(self, /, **fields: Any) -> None:
            problems = _fill(self, fields)
            if problems:
                raise ConfigurationError("wrong key: " + "; ".join(problems.values()))

    @property
    def purpose(self) -> Purpose:
        """What the key serves: as it says, else as its model's name does."""
        return self.serves or purpose_of(self.model_name)

    @property
    def group(self) -> str:
        """The quota group whose counters this key uses."""
        return self.quota_group or self.key_id

    @property
    def secret_name(self) -> str:
        """The environment variable that holds the secret: `API_KEY_GEMINI_FLASH_01`."""
        return _variable_of(self.key_id)

    @property
    def secret_variables(self) -> tuple[str, ...]:
        """Every environment variable that may hold the secret; the first that is set wins.

        The provider's usual variable (`OPENAI_API_KEY`) serves `<provider>-default` alone: were it
        a fallback for every key, two keys could spend one quota under two sets of counters.
        """
        names = (self.secret_name, self.key_id)
        if self.key_id != f"{self.provider}-default":
            return names
        usual = self.provider.upper().replace("-", "_") + "_API_KEY"
        return (*names, usual, *_ALSO_USUAL.get(self.provider, ()))


@lru_cache(maxsize=4096)
def purpose_of(model_name: str) -> Purpose:
    """Whether a model makes embeddings, by its name.

    Example:
        >>> purpose_of("text-embedding-3-small")
        'embeddings'
    """
    return "embeddings" if _EMBEDS.search(model_name.rpartition("/")[2].lower()) else "chat"


def build(fields: Mapping[str, Any]) -> tuple[KeySpec | None, dict[str, str]]:
    """Make a KeySpec of an entry's fields, or say everything that is wrong with them.

    Returns:
        The key, or None and, for each wrong field, what is wrong and what to write.

    Example:
        >>> build({"key_id": "a", "model_name": "m", "provider": "openai", "rpm": -5})[1]
        {'rpm': 'rpm is -5; write a whole number of 1 or more, or leave it out'}
    """
    spec = KeySpec.__new__(KeySpec)
    problems = _fill(spec, fields)
    return (None, problems) if problems else (spec, {})


def unknown_field(name: str, known: Sequence[str]) -> str:
    """What to say of a field that nobody knows: the nearest known name, or all of them."""
    advice = did_you_mean(name.lower(), known, f"known are {', '.join(known)}")
    return f"unknown field {show(name)}; {advice}"


def did_you_mean(name: str, known: Sequence[str], otherwise: str) -> str:
    """The known name that `name` may be a slip for, or `otherwise` where none is near."""
    from difflib import get_close_matches  # a mistake is rare, and its import is not free

    nearest = get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]}?" if nearest else otherwise


def _fill(spec: KeySpec, fields: Mapping[str, Any]) -> dict[str, str]:
    problems = {name: text for name in fields if (text := _secret_problem(name, fields))}
    try:
        BaseModel.__init__(spec, **fields)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False, include_context=False)
    else:
        return problems
    for item in wrong:
        name = str(item["loc"][0])
        if name in problems:
            continue
        if item["type"] == "missing":
            problems[name] = f"{name} is missing; write {WRITE[name]}"
        elif item["type"] == "extra_forbidden":
            problems[name] = unknown_field(name, tuple(WRITE))
        else:
            problems[name] = f"{name} is {show(fields[name])}; write {WRITE[name]}"
    return problems


def _secret_problem(name: str, fields: Mapping[str, Any]) -> str | None:
    suspicious = name not in WRITE and _SECRET_FIELD.search(name) and isinstance(fields[name], str)
    if not suspicious and not holds_a_secret(name) and not holds_a_secret(fields[name]):
        return None
    key_id = fields.get("key_id")
    named = show(key_id).startswith('"')
    variable = _variable_of(str(key_id)) if named else "API_KEY_<KEY_ID>"
    return (
        f"{show(name)} seems to hold a secret, and secrets never live in keys.json: "
        f"put it into the environment as {variable} and remove it here"
    )


def _variable_of(key_id: str) -> str:
    return "API_KEY_" + re.sub(r"[^A-Z0-9]+", "_", key_id.upper())
