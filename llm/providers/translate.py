"""From what a provider refuses to our errors: tables of rules, the first that fits decides.

Each provider has one table, most specific first; `BY_STATUS` at the bottom ends all of them.
Adding or changing a fact is one row, and each row says where the fact is from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol, Self
from uuid import uuid4

from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ModelForbidden,
    ProviderError,
    ProviderRateLimited,
    ProviderUnavailable,
    QuotaExhausted,
    RequestRejected,
)
from llm.providers.base import ProviderCall
from llm.providers.redact import redact

_TAG = re.compile(r"<[^>]{0,1000}>")
_LONGEST_CODE = 100


class HttpResponse(Protocol):
    """What is read of an SDK's response object."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    @property
    def content(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider answered over HTTP; the names of `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes | str

    @classmethod
    def of(cls, response: HttpResponse) -> Self:
        """The answer in a response whose body was read."""
        return cls(response.status_code, _headers(response), response.content)

    @classmethod
    def begun(cls, response: HttpResponse) -> Self:
        """Status and headers of a response whose body is still to come."""
        return cls(response.status_code, _headers(response), b"")

    @classmethod
    def json_of(cls, status: int, body: Any) -> Self:
        """An answer with this JSON as its body, and no headers."""
        return cls(status, {}, json.dumps(body))

    def json(self) -> Any:
        """The body as JSON, or None if it is not."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    def text(self) -> str:
        """The body as text, without the tags of an HTML page."""
        text = self.body if isinstance(self.body, str) else self.body.decode("utf-8", "replace")
        return _TAG.sub(" ", text[:10_000]) if text.lstrip().startswith("<") else text


def _headers(response: HttpResponse) -> dict[str, str]:
    raw: Sequence[tuple[bytes, bytes]] = response.headers.raw
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in raw}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What a provider's error says, in no provider's format.

    Args:
        status: the HTTP status.
        codes: the body's codes, types and reasons, the most specific first.
        message: the provider's words, not yet redacted.
        request_id: the provider's name for the request.
        retry_after: seconds that the provider asks to wait.
        reasons: what a safety filter found.
    """

    status: int
    codes: tuple[str, ...] = ()
    message: str = ""
    request_id: str | None = None
    retry_after: float | None = None
    reasons: tuple[str, ...] = ()


Wait = Callable[[Refusal, datetime], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One fact: which refusal means what. A condition that is left out fits everything.

    Args:
        error: what it means.
        source: where that is written.
        status: the HTTP status.
        code: a pattern that one of the codes matches, such as `*_spend_limit_exceeded`.
        says: words that the message contains, in lower case.
        wait: tells the seconds to wait better than the provider's own `retry_after` does.
    """

    error: type[ProviderError]
    source: str
    status: int | None = None
    code: str | None = None
    says: str = ""
    wait: Wait | None = None

    def fits(self, refusal: Refusal) -> bool:
        """Whether all conditions hold."""
        code = self.code
        return (
            (self.status is None or self.status == refusal.status)
            and (code is None or any(fnmatchcase(each, code) for each in refusal.codes))
            and self.says in refusal.message.lower()
        )


_DESIGN = "DESIGN, one table of failures"
BY_STATUS = (
    Rule(error=AuthenticationFailed, status=401, source=_DESIGN),
    Rule(error=QuotaExhausted, status=402, source="RFC 9110: payment required"),
    Rule(error=ModelForbidden, status=403, source=_DESIGN),
    Rule(error=ProviderUnavailable, status=408, source=_DESIGN),
    Rule(error=ProviderUnavailable, status=409, source=_DESIGN),
    Rule(error=ProviderRateLimited, status=429, source=_DESIGN),
    Rule(error=ProviderUnavailable, status=499, source="google.rpc.Code: CANCELLED"),
)


def rule_for(refusal: Refusal, rules: Sequence[Rule]) -> Rule:
    """The first rule that fits; an unknown 4xx is the caller's fault, all else the provider's."""
    for rule in (*rules, *BY_STATUS):
        if rule.fits(refusal):
            return rule
    theirs = not 400 <= refusal.status < 500
    return Rule(error=ProviderUnavailable if theirs else RequestRejected, source=_DESIGN)


def failure(
    call: ProviderCall, refusal: Refusal, rules: Sequence[Rule], now: datetime | None = None
) -> ProviderError:
    """Our error for a refusal; what it says is redacted and short, and keeps the request's id."""
    rule = rule_for(refusal, rules)
    code = refusal.codes[0] if refusal.codes else None
    if code is not None:
        code = redact(code, call.secret)[:_LONGEST_CODE]
    message = redact(refusal.message, call.secret) or "no reason given"
    text = f"{call.provider}: {refusal.status}{f' {code}' if code else ''}: {message}"
    if refusal.request_id:
        text += f" (request {redact(refusal.request_id, call.secret)[:_LONGEST_CODE]})"
    if issubclass(rule.error, ContentBlocked):
        reasons = refusal.reasons or refusal.codes[:1]
        return rule.error(
            text, provider=call.provider, reasons=reasons, status=refusal.status, code=code
        )
    # A spent budget does not come back with a 429's usual half minute.
    wait = None if issubclass(rule.error, QuotaExhausted) else refusal.retry_after
    if rule.wait is not None:
        wait = rule.wait(refusal, now or datetime.now(UTC))
    return rule.error(
        text, provider=call.provider, status=refusal.status, code=code, retry_after=wait
    )


def nonsense(call: ProviderCall, answer: Answer, missing: str) -> ProviderUnavailable:
    """The error for a success whose body is not one."""
    text = redact(answer.text()[:200], call.secret)
    return ProviderUnavailable(
        f"{call.provider}: {answer.status}, but {missing}; the body begins: {text or 'nothing'}",
        provider=call.provider,
        status=answer.status,
    )


def codes_in(error: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """The texts and numbers under these names, in their order, each once."""
    values = (error.get(name) for name in names)
    found = (str(value) for value in values if isinstance(value, (str, int)) and value != "")
    return tuple(dict.fromkeys(found))


def clean(text: str) -> str:
    """The text without halves of surrogate pairs, which neither a socket nor Redis takes.

    Example:
        >>> clean(chr(0xD800) + "Hi.")
        '?Hi.'
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def new_call_id() -> str:
    """A name for a tool call of a provider that gives it none."""
    return f"call_{uuid4().hex[:24]}"


def objects(value: object) -> list[dict[str, Any]]:
    """The JSON objects of a list; none if it is no list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def count(value: object) -> int | None:
    """A number of tokens, or None if it is none."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    return None
