"""What can be configured: the limits of one key, and the whole simulation.

The command line, a JSON file and Python all fill the same two classes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

from tools.simulation.faults import Fault
from tools.simulation.latency import parse_latency
from tools.simulation.limits import Kind

LIMITS = ("rpm", "tpm", "itpm", "otpm", "rpd", "max_parallel")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySettings:
    """What one API key is allowed. A limit that is left out does not exist.

    Args:
        name: how reports call the key; default is a mask of the secret.
        rpm: requests a window.
        tpm: tokens a window, as the protocol counts them (see `openai`, `anthropic`, `gemini`).
        itpm: input tokens a window.
        otpm: output tokens a window, charged as they are produced.
        rpd: requests a day.
        max_parallel: requests under way at once.
        kind: `sliding`, `fixed` or `bucket`; default is the simulation's.
        window_seconds: length of the window; default is the simulation's.
        group: keys of one group share their counters, like keys of one project.
        per_model: each model has counters of its own.
        enforce: False only measures, so that `overshoot` shows what a client does unrefused.
        token_rule: what `tpm` charges in the OpenAI protocol: `max` of max_tokens and the
            estimated input, or their `sum` as on Azure.

    Raises:
        ValueError: if a limit is below 1, a window is not positive, or a kind unknown.
    """

    name: str | None = None
    rpm: int | None = None
    tpm: int | None = None
    itpm: int | None = None
    otpm: int | None = None
    rpd: int | None = None
    max_parallel: int | None = None
    kind: Kind | None = None
    window_seconds: float | None = None
    group: str | None = None
    per_model: bool = False
    enforce: bool = True
    token_rule: Literal["max", "sum"] = "max"

    def __post_init__(self) -> None:
        for name in LIMITS:
            limit = getattr(self, name)
            if limit is not None and (not isinstance(limit, int) or limit < 1):
                raise ValueError(f"{name} must be a whole number of at least 1, not {limit!r}")
        if self.window_seconds is not None and self.window_seconds <= 0:
            raise ValueError(f"window_seconds must be positive, not {self.window_seconds!r}")
        if self.kind is not None and self.kind not in get_args(Kind):
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(get_args(Kind))}")
        if self.token_rule not in ("max", "sum"):
            raise ValueError(f"token_rule {self.token_rule!r} is neither max nor sum")

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Key settings from JSON; an unknown field is an error."""
        return cls(**_known(cls, data))


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationSettings:
    """The whole simulation; times are in seconds.

    Args:
        host: address to listen on.
        port: 0 lets the system choose.
        kind: how limits count, unless a key says otherwise.
        window_seconds: what "a minute" lasts; tests make it short.
        day_seconds: what "a day" lasts.
        count_refused: refused requests count against the request limits too.
        completion_tokens: length of each answer; None lets the echo have its natural length.
        chars_per_token: the rule by which limits estimate tokens: characters divided by this,
            rounded up.
        usage_chars_per_token: the same rule for the usage in replies, so that it can differ.
        cached_share: part of the input, 0 to 1, that replies report as read from a cache.
        context_tokens: more input than this is refused as too long.
        latency: before each answer (see `latency.FORMS`).
        chunk_tokens: tokens in each piece of a stream.
        chunk_seconds: pause between the pieces.
        models: what the list of models shows.
        seed: of every random choice.
        keep_accepted: how many of the last admissions of each key a report can show.
        default: what a key that is not configured may use.
        keys: settings by secret.
        faults: in force from the start.

    Example:
        SimulationSettings(window_seconds=2, keys={"key-1": KeySettings(name="first", rpm=60)})
    """

    host: str = "127.0.0.1"
    port: int = 0
    kind: Kind = "sliding"
    window_seconds: float = 60.0
    day_seconds: float = 86_400.0
    count_refused: bool = False
    completion_tokens: int | None = None
    chars_per_token: float = 4.0
    usage_chars_per_token: float | None = None
    cached_share: float = 0.0
    context_tokens: int | None = None
    latency: float | str = 0.0
    chunk_tokens: int = 8
    chunk_seconds: float = 0.0
    models: tuple[str, ...] = ("simulated-large", "simulated-small")
    seed: int = 0
    keep_accepted: int = 100_000
    default: KeySettings = field(default_factory=KeySettings)
    keys: Mapping[str, KeySettings] = field(default_factory=dict, repr=False)
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        parse_latency(self.latency)
        if self.kind not in get_args(Kind):
            raise ValueError(f"kind {self.kind!r} is none of {', '.join(get_args(Kind))}")
        positive = (
            "window_seconds", "day_seconds", "chars_per_token", "usage_chars_per_token",
            "completion_tokens", "context_tokens", "chunk_tokens",
        )  # fmt: skip
        for name in positive:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive, not {value!r}")
        if not 0 <= self.cached_share <= 1:
            raise ValueError(f"cached_share must be between 0 and 1, not {self.cached_share!r}")

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Self:
        """Settings from JSON, where `keys` is a list of objects, each with its `secret`."""
        known = _known(cls, data)
        if "default" in known:
            known["default"] = KeySettings.from_mapping(known["default"])
        if "keys" in known:
            known["keys"] = dict(key_from_mapping(entry) for entry in known["keys"])
        if "faults" in known:
            known["faults"] = tuple(Fault.from_mapping(entry) for entry in known["faults"])
        if "models" in known:
            known["models"] = tuple(known["models"])
        return cls(**known)

    @classmethod
    def load(cls, source: str) -> Self:
        """Settings from a JSON file, or from the JSON text itself if it begins with `{`."""
        text = source if source.lstrip().startswith("{") else Path(source).read_text("utf-8")
        return cls.from_mapping(json.loads(text))

    def to_json(self) -> str:
        """These settings as `load` reads them, without the keys, which are secrets."""
        return json.dumps(asdict(replace(self, keys={})) | {"keys": []})


def key_from_mapping(data: Mapping[str, Any]) -> tuple[str, KeySettings]:
    """The secret and the settings of one entry `{"secret": ..., "name": ..., "rpm": ...}`."""
    rest = dict(data)
    secret = rest.pop("secret", None)
    if not isinstance(secret, str) or not secret:
        raise ValueError("each key needs a secret: a text that is not empty")
    return secret, KeySettings.from_mapping(rest)


def _known(cls: type[KeySettings | SimulationSettings], data: Mapping[str, Any]) -> dict[str, Any]:
    names = {each.name for each in fields(cls)}
    if unknown := set(data) - names:
        raise ValueError(f"unknown settings {sorted(unknown)}; there are {sorted(names)}")
    return dict(data)
