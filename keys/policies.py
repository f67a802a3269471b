"""What each provider counts: the weight of a request before it, and its charge after it.

The rules are the providers' own, as their rate-limit pages state them (late 2026):
OpenAI counts max(max_tokens, an estimate from the characters) at admission and counts failed
requests too; Anthropic counts input, less what its cache held, and output as it is produced;
Gemini counts input only and its day ends at midnight Pacific; Azure OpenAI counts prompt plus
max_tokens and gives nothing back before its counter resets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from core.types import ProviderQuota, Usage
from lua.limiter_types import Charge, Lesson, Told, Weights

LESSON_TOKENS = 50
"""A prompt that is estimated to have fewer tokens teaches nothing."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a request is expected to use, in tokens.

    Args:
        input: the estimate of the prompt, corrected by what was learned of its model.
        expected_output: what the caller expects the answer to have.
        max_output: the most that the answer may have.
        estimated: the estimate before that correction; 0 where none was made.
    """

    input: int
    expected_output: int
    max_output: int
    estimated: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """One provider's way to count.

    Args:
        tokens: the weight against `tpm` and `tpd`.
        most_input: the most input tokens that a limit on those tokens admits beside the answer.
        used_tokens: what a finished call is charged there, from its need and its real usage.
        gives_back: whether less use than reserved is credited; else the larger of both counts.
        cached_input_counts: whether input that was read from the provider's cache counts.
        day_zone: the time zone whose midnight ends the provider's day.
    """

    tokens: Callable[[Need], int]
    most_input: Callable[[int, Need], int]
    used_tokens: Callable[[Need, Usage], int]
    gives_back: bool
    cached_input_counts: bool = True
    day_zone: tzinfo = UTC


_ALL_TOKENS = Policy(
    tokens=lambda need: need.input + need.expected_output,
    most_input=lambda limit, need: limit - need.expected_output,
    used_tokens=lambda need, usage: usage.total,
    gives_back=True,
)

_POLICIES = {
    "openai": Policy(
        tokens=lambda need: max(need.max_output, need.input),
        most_input=lambda limit, need: limit if need.max_output <= limit else 0,
        used_tokens=lambda need, usage: max(need.max_output, usage.input),
        gives_back=False,
    ),
    # Others that speak OpenAI's protocol count by rules of their own: the larger of both.
    "openai-compatible": Policy(
        tokens=lambda need: max(need.max_output, need.input + need.expected_output),
        most_input=lambda limit, need: (
            limit - need.expected_output if need.max_output <= limit else 0
        ),
        used_tokens=lambda need, usage: max(need.max_output, usage.total),
        gives_back=False,
    ),
    "azure": Policy(
        tokens=lambda need: need.input + need.max_output,
        most_input=lambda limit, need: limit - need.max_output,
        used_tokens=lambda need, usage: usage.input + need.max_output,
        gives_back=False,
    ),
    "anthropic": Policy(
        tokens=_ALL_TOKENS.tokens,
        most_input=_ALL_TOKENS.most_input,
        used_tokens=_ALL_TOKENS.used_tokens,
        gives_back=True,
        cached_input_counts=False,
    ),
    "gemini": Policy(
        tokens=lambda need: need.input,
        most_input=lambda limit, need: limit,
        used_tokens=lambda need, usage: usage.input,
        gives_back=True,
        day_zone=ZoneInfo("America/Los_Angeles"),
    ),
}


def policy_of(provider: str, base_url: str | None = None) -> Policy:
    """The policy of a provider; one that was registered counts input and output together.

    Example:
        >>> policy_of("openai").tokens(Need(input=300, expected_output=100, max_output=2048))
        2048
    """
    if base_url is not None:
        host = urlsplit(base_url).hostname or ""
        if host.endswith((".openai.azure.com", ".services.ai.azure.com")):
            return _POLICIES["azure"]
        if provider == "openai" and host != "api.openai.com":
            return _POLICIES["openai-compatible"]
    return _POLICIES.get(provider, _ALL_TOKENS)


def weigh(policy: Policy, need: Need, day_end_ms: int) -> Weights:
    """What a request adds to each counter before it is sent."""
    return Weights(policy.tokens(need), need.input, need.max_output, day_end_ms)


def charge_answered(policy: Policy, need: Need, weights: Weights, usage: Usage | None) -> Charge:
    """The charge of a call that was answered; without usage the estimate stands."""
    if usage is None:
        return Charge(1, weights.tokens, weights.input, need.expected_output)
    tokens = policy.used_tokens(need, usage)
    counted = usage.input if policy.cached_input_counts else usage.input - usage.cached
    if not policy.gives_back:
        tokens, counted = max(tokens, weights.tokens), max(counted, weights.input)
    return Charge(1, tokens, max(0, counted), usage.output)


def charge_rejected(policy: Policy, weights: Weights) -> Charge:
    """The charge of a call that the provider refused: the request, and tokens where they count."""
    if policy.gives_back:
        return Charge(1, 0, 0, 0)
    return Charge(1, weights.tokens, weights.input, 0)


def charge_unknown(weights: Weights) -> Charge:
    """The charge of a call whose end nobody saw: all that it may have used."""
    return Charge(1, weights.tokens, weights.input, weights.output)


def charge_unsent() -> Charge:
    """The charge of a call that never left: nothing."""
    return Charge(0, 0, 0, 0)


MINUTE_SECONDS = 60.0


def told_use(quotas: Sequence[ProviderQuota]) -> Told:
    """What a provider's headers say is used of each limit a minute, by whomever.

    An allowance that is whole again only after more than a minute is a daily one: OpenAI names
    both alike.

    Example:
        >>> told_use([ProviderQuota("requests", remaining=40, limit=60)]).requests
        20
    """
    used = {
        quota.dimension: max(0, quota.limit - quota.remaining)
        for quota in quotas
        if quota.limit is not None and (quota.reset_seconds or 0.0) <= MINUTE_SECONDS
    }
    return Told(
        requests=used.get("requests", -1),
        tokens=used.get("tokens", -1),
        input=used.get("input_tokens", -1),
        output=used.get("output_tokens", -1),
    )


def lesson_of(model: str, need: Need, usage: Usage | None) -> Lesson:
    """What an answer teaches of a model's estimates; short prompts teach nothing, as what every
    message costs beyond its text outweighs them."""
    if usage is None or need.estimated < LESSON_TOKENS:
        return Lesson(model)
    return Lesson(model, need.estimated, usage.input)


def day_end_ms(zone: tzinfo, now: datetime) -> int:
    """The next midnight in `zone`, in Unix milliseconds, daylight saving included.

    Example:
        >>> day_end_ms(UTC, datetime(2026, 11, 21, 12, tzinfo=UTC))
        1795305600000
    """
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    return int(datetime.combine(tomorrow, time(), zone).timestamp() * 1000)


class DayEnds:
    """The end of each zone's day, reckoned once a day.

    Args:
        clock: Unix seconds.

    Example:
        >>> DayEnds(lambda: 0.0)(UTC)
        86400000
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ends: dict[tzinfo, int] = {}

    def __call__(self, zone: tzinfo) -> int:
        """The next midnight in `zone`, in Unix ms."""
        now = self._clock()
        end = self._ends.get(zone, 0)
        if end <= now * 1000 or end > now * 1000 + 90_000_000:
            end = self._ends[zone] = day_end_ms(zone, datetime.fromtimestamp(now, UTC))
        return end
