"""The way of one request: the only routing logic. It decides and yields what is to be done.

    admit the user, load the conversation  ->  reserve a key  ->  send  ->  settle, append the turn
                                                    ^                          |
                                                    +-- another key, after a failure that allows it

There is no input or output here: a driver performs each effect and sends back what came of it, or
throws the error. So the same logic serves threads and tasks, and tests drive it by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from random import random
from time import monotonic
from typing import Any

from conversation.records import Conversation, Turn
from conversation.window import PromptTooLong
from core.errors import (
    DeadlineExceeded,
    NoCapacity,
    NoKeys,
    ProviderError,
    RouterError,
    StorageError,
    UserRateLimited,
)
from core.events import (
    AttemptFinished,
    CapacityWaited,
    ConversationNotSaved,
    KeyCooledDown,
    SettleFailed,
    UserRefused,
    emit,
)
from core.types import Attempt, ChatRequest, ProviderReply, Reply, TokenCounts
from keys.manager import Refused, Reservation
from keys.policies import (
    charge_answered,
    charge_rejected,
    charge_unknown,
    charge_unsent,
    policy_of,
)
from keys.rate_limiter import Overdrawn
from keys.selection import Selection, subjects_of
from keys.spec import KeySpec
from llm.routing.backoff import pause
from llm.routing.effects import Admit, Effect, Reserve, Send, Settle, Sleep
from llm.routing.prompts import Prompt, build_prompt, need_of, widest
from llm.routing.replies import answered, failed
from llm.routing.verdicts import Counted, Subject, Verdict, verdict_on
from llm.tokens import TokenCounter
from lua.limiter_calls import Charge, Mark

Flow = Generator[Effect, Any, Reply]

LEASE_MARGIN_SECONDS = 30.0
"""How much longer than its deadline a request may hold what does not age, if its client dies."""

PROVIDER_FAILURES = 2
"""After so many keys of one provider failed on one request, others are tried first."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often and after what pauses a request is tried again.

    Args:
        max_retries: further attempts after the first.
        base_backoff: seconds of the first pause.
    """

    max_retries: int = 3
    base_backoff: float = 0.5


@dataclass
class _Progress:
    """What one request has been through."""

    started: float
    attempts: list[Attempt] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    flaky: set[str] = field(default_factory=set)
    failures_of: dict[str, int] = field(default_factory=dict)
    waited: float = 0.0
    last_error: RouterError | None = None


def route(
    request: ChatRequest,
    *,
    rules: RetryRules,
    tokens: TokenCounter,
    models_of: Callable[[Selection], Sequence[str]],
    clock: Callable[[], float] = monotonic,
    chance: Callable[[], float] = random,
) -> Flow:
    """Route one request to its reply. It never raises for what a provider, Redis or a store does.

    Args:
        models_of: the models of the keys that a selection allows, the preferred ones first.
        clock: seconds that only go forwards.
        chance: numbers from 0 to 1, for the jitter of pauses.
    """
    progress = _Progress(started=clock())
    try:
        return (yield from _attempts(request, rules, tokens, models_of, progress, clock, chance))
    except RouterError as error:
        return failed(request, error, progress.attempts, clock() - progress.started)


def _attempts(
    request: ChatRequest,
    rules: RetryRules,
    tokens: TokenCounter,
    models_of: Callable[[Selection], Sequence[str]],
    progress: _Progress,
    clock: Callable[[], float],
    chance: Callable[[], float],
) -> Flow:
    selection = _selection(request)
    conversation = yield from _admit(request)
    user_id = conversation.admit(request.user_id) if conversation is not None else request.user_id
    fitted_for = widest(models_of(selection), request) if conversation is not None else None
    prompt = build_prompt(request, conversation, fitted_for, tokens)
    while True:
        reservation = yield from _reserve(request, selection, prompt, progress, clock)
        key = reservation.key
        began = clock()
        late = began - reservation.ready_at
        try:
            fitted = prompt
            if conversation is not None and key.model_name != fitted_for:
                fitted = build_prompt(request, conversation, key.model_name, tokens)
            left = _time_left(request, progress, clock)
            reply: ProviderReply = yield _send(request, fitted, reservation, left)
        except DeadlineExceeded:
            yield from _settle(request, reservation, charge_unsent())
            raise
        except PromptTooLong as error:
            # This model's window is smaller than that of the one the history was cut for.
            yield from _settle(request, reservation, charge_unsent())
            progress.refused.add(subjects_of(key).key)
            progress.last_error = error
        except RouterError as error:
            verdict = verdict_on(error)
            _note_failure(request, progress, reservation, error, verdict, clock() - began)
            marks = _marks(verdict, key, error)
            yield from _settle(
                request, reservation, _charge(verdict, reservation), marks, late=late
            )
            if not verdict.retry or len(progress.attempts) > rules.max_retries:
                raise
            if verdict.transient:
                seconds = pause(len(progress.attempts), rules.base_backoff, chance)
                if seconds >= _time_left(request, progress, clock):
                    raise
                yield Sleep(seconds)
        except GeneratorExit:
            # Nothing can be yielded any more: the reservation ages out by itself.
            raise
        except BaseException:
            # Interrupted or cancelled on the way: what the provider counted is not known.
            yield from _settle(request, reservation, charge_unknown(reservation.weights), late=late)
            raise
        else:
            seconds = clock() - began
            _note(request, progress, reservation, "success", seconds)
            counts = _counts(reply, fitted, tokens)
            policy = policy_of(key.provider, key.base_url)
            charge = charge_answered(policy, reservation.need, reservation.weights, reply.usage)
            turn = _turn(request, reply, counts, user_id, tokens)
            yield from _settle(request, reservation, charge, turn=turn, late=late)
            total = clock() - progress.started
            return answered(request, key, reply, counts, progress.attempts, total)


def _admit(request: ChatRequest) -> Generator[Effect, Any, Conversation | None]:
    """The conversation of a request whose user may ask now."""
    outcome: Conversation | Overdrawn | None = yield Admit(request.user_id, request.conv_id)
    if not isinstance(outcome, Overdrawn):
        return outcome
    seconds = outcome.retry_after
    emit(UserRefused(request.request_id, request.user_id, outcome.source, seconds))
    who = f"user {request.user_id!r} has" if outcome.source == "user" else "all users together have"
    raise UserRateLimited(
        f"{who} asked as often as allowed; the next request is admitted in {seconds:.3f} s",
        retry_after=seconds,
    )


def _reserve(
    request: ChatRequest,
    selection: Selection,
    prompt: Prompt,
    progress: _Progress,
    clock: Callable[[], float],
) -> Generator[Effect, Any, Reservation]:
    """A reservation, after as much waiting as the caller allows."""
    asked = 0
    while True:
        left = _time_left(request, progress, clock)
        asked += 1
        try:
            outcome = yield Reserve(
                need=need_of(request, prompt),
                selection=selection,
                reservation_id=f"{request.request_id}.{len(progress.attempts)}.{asked}",
                lease_seconds=left + LEASE_MARGIN_SECONDS,
                avoid=frozenset(progress.refused | progress.flaky),
                max_wait=max(0.0, min(request.max_wait - progress.waited, left)),
                priority=request.priority,
            )
        except NoKeys:
            if progress.flaky:
                # No other key is left: those that failed in passing get another chance.
                progress.flaky.clear()
                continue
            if progress.last_error is not None:
                raise progress.last_error from None
            raise
        if isinstance(outcome, Reservation):
            if outcome.waited > 0:
                progress.waited += outcome.waited
                emit(CapacityWaited(request.request_id, True, outcome.waited))
            return outcome
        emit(CapacityWaited(request.request_id, False, outcome.retry_after))
        raise NoCapacity(_no_capacity(request, outcome), retry_after=outcome.retry_after)


def _selection(request: ChatRequest) -> Selection:
    models = tuple(m for m in (request.model_preference, *request.fallback_models) if m)
    return Selection(models, request.tags, request.workload)


def _settle(
    request: ChatRequest,
    reservation: Reservation,
    charge: Charge,
    marks: tuple[Mark, ...] = (),
    turn: Turn | None = None,
    late: float = 0.0,
) -> Generator[Effect, Any, None]:
    """Settle; what goes wrong here is told, and never costs the caller the answer."""
    try:
        unsaved = yield Settle(reservation, charge, marks, turn, late)
    except StorageError as error:
        emit(SettleFailed(request.request_id, reservation.key.key_id, str(error)))
        unsaved = error if turn is not None else None
    else:
        for mark in marks:
            emit(_cooled(reservation, mark))
    if unsaved is not None and request.conv_id is not None:
        emit(ConversationNotSaved(request.request_id, request.conv_id, str(unsaved)))


def _send(request: ChatRequest, prompt: Prompt, reservation: Reservation, left: float) -> Send:
    return Send(
        key=reservation.key,
        messages=prompt.messages,
        system_prompt=prompt.system_prompt,
        max_output_tokens=request.max_output_tokens,
        temperature=request.temperature,
        timeout=left,
    )


def _time_left(request: ChatRequest, progress: _Progress, clock: Callable[[], float]) -> float:
    left = request.timeout - (clock() - progress.started)
    if left <= 0:
        after = f"; the last attempt said: {progress.last_error}" if progress.last_error else ""
        raise DeadlineExceeded(f"the request's timeout of {request.timeout} s is over{after}")
    return left


def _charge(verdict: Verdict, reservation: Reservation) -> Charge:
    key = reservation.key
    if verdict.counted is Counted.NOTHING:
        return charge_unsent()
    if verdict.counted is Counted.REJECTED:
        return charge_rejected(policy_of(key.provider, key.base_url), reservation.weights)
    return charge_unknown(reservation.weights)


def _marks(verdict: Verdict, key: KeySpec, error: RouterError) -> tuple[Mark, ...]:
    if verdict.state is None:
        return ()
    names = _names(key)
    milliseconds = verdict.cooldown_ms(getattr(error, "retry_after", None))
    reason = " ".join(f"{error.error_type}: {error}".split())[:200]
    return (Mark(names[verdict.subject], verdict.state, milliseconds, reason),)


def _names(key: KeySpec) -> dict[Subject, str]:
    subjects = subjects_of(key)
    return {
        Subject.KEY: subjects.key,
        Subject.GROUP: subjects.group,
        Subject.PROVIDER: subjects.provider,
    }


def _note_failure(
    request: ChatRequest,
    progress: _Progress,
    reservation: Reservation,
    error: RouterError,
    verdict: Verdict,
    seconds: float,
) -> None:
    key = reservation.key
    avoided = _names(key)
    if verdict.subject in avoided:
        (progress.flaky if verdict.transient else progress.refused).add(avoided[verdict.subject])
    if verdict.transient:
        failures = progress.failures_of.get(key.provider, 0) + 1
        progress.failures_of[key.provider] = failures
        if failures >= PROVIDER_FAILURES:
            progress.flaky.add(subjects_of(key).provider)
    progress.last_error = error
    status = error.status if isinstance(error, ProviderError) else None
    _note(request, progress, reservation, error.error_type, seconds, str(error), status)


def _note(
    request: ChatRequest,
    progress: _Progress,
    reservation: Reservation,
    outcome: str,
    seconds: float,
    error: str | None = None,
    status: int | None = None,
) -> None:
    key = reservation.key
    attempt = Attempt(
        key_id=key.key_id,
        provider=key.provider,
        model=key.model_name,
        outcome=outcome,
        duration_ms=round(seconds * 1000, 3),
    )
    if error is not None:
        attempt["error"] = error
    progress.attempts.append(attempt)
    emit(
        AttemptFinished(
            request_id=request.request_id,
            key_id=key.key_id,
            provider=key.provider,
            model=key.model_name,
            outcome=outcome,
            duration_ms=attempt["duration_ms"],
            error=error,
            status=status,
        )
    )


def _counts(reply: ProviderReply, prompt: Prompt, tokens: TokenCounter) -> TokenCounts:
    if reply.usage is not None:
        given, answer = reply.usage.input, reply.usage.output
    else:
        given, answer = prompt.tokens, tokens.count(reply.content, reply.model)
    return TokenCounts(input=given, output=answer, total=given + answer)


def _turn(
    request: ChatRequest,
    reply: ProviderReply,
    counts: TokenCounts,
    user_id: str | None,
    tokens: TokenCounter,
) -> Turn | None:
    if request.conv_id is None:
        return None
    prompt = request.messages[-1].content
    return Turn(
        conv_id=request.conv_id,
        request_id=request.request_id,
        prompt=prompt,
        answer=reply.content,
        model=reply.model,
        user_id=user_id,
        prompt_tokens=tokens.count(prompt, reply.model),
        # Not the provider's count: hidden reasoning is no part of the history.
        answer_tokens=tokens.count(reply.content, reply.model),
        total_tokens=counts["total"],
        system_prompt=request.system_prompt,
        metadata=request.metadata,
    )


def _cooled(reservation: Reservation, mark: Mark) -> KeyCooledDown:
    seconds = None if mark.milliseconds < 0 else mark.milliseconds / 1000
    subject = mark.field.partition(":")[2] or reservation.key.provider
    return KeyCooledDown(reservation.key.provider, subject, mark.state, seconds, mark.reason)


def _no_capacity(request: ChatRequest, refused: Refused) -> str:
    if refused.retry_after is None:
        return refused.reason
    hint = "" if request.max_wait else "; give max_wait to wait for it"
    return f"{refused.reason}; the next opens in {refused.retry_after:.3f} s{hint}"
