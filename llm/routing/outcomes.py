"""What the end of an attempt amounts to: its charge, its marks, its turn. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from conversation.records import StoredMessage, Turn
from core.errors import ContentBlocked, ProviderError, RouterError
from core.events import KeyCooledDown
from core.types import ChatRequest, EmbeddingReply, Message, ProviderReply, TokenCounts, Usage
from keys.policies import (
    charge_answered,
    charge_rejected,
    charge_unknown,
    charge_unsent,
    policy_of,
)
from keys.reservations import End, Reservation
from keys.selection import subjects_of
from llm.routing.prompts import Prompt
from llm.routing.verdicts import Counted, Subject, Verdict
from llm.tokens import TokenCounter
from lua.circuits import Pulse
from lua.limiter_types import LifeSign, Mark

if TYPE_CHECKING:
    from keys.spec import KeySpec


def answered_end(reservation: Reservation, reply: ProviderReply | EmbeddingReply) -> End:
    """The end of an attempt that was answered."""
    key = reservation.key
    policy = policy_of(key.provider, key.base_url)
    return End(
        charge=charge_answered(policy, reservation.need, reservation.weights, reply.usage),
        answered=True,
        usage=reply.usage,
        quotas=reply.quotas,
    )


def failed_end(reservation: Reservation, error: RouterError, verdict: Verdict) -> End:
    """The end of an attempt that failed, as its verdict says."""
    key = reservation.key
    if isinstance(error, ContentBlocked) and error.usage is not None:
        policy = policy_of(key.provider, key.base_url)
        charge = charge_answered(policy, reservation.need, reservation.weights, error.usage)
    elif verdict.counted is Counted.NOTHING:
        charge = charge_unsent()
    elif verdict.counted is Counted.REJECTED:
        policy = policy_of(key.provider, key.base_url)
        charge = charge_rejected(policy, reservation.weights)
    else:
        charge = charge_unknown(reservation.weights)
    return End(
        charge,
        answered=False,
        marks=_marks(verdict, key, error),
        life_sign=_heartbeat(verdict, error),
    )


def produced(
    so_far: ProviderReply, reservation: Reservation, tokens: TokenCounter
) -> ProviderReply:
    """What a stream that was cut had produced. The provider's own count of it may lack what came
    after its last word on the subject, so that the text's tokens count at least."""
    told, said = so_far.usage, tokens.count(so_far.content, so_far.model)
    if told is None:
        usage = Usage(reservation.need.input, said)
    else:
        usage = replace(told, output=max(told.output, said))
    return replace(so_far, usage=usage)


def cut_end(reservation: Reservation, so_far: ProviderReply, failure: End | None = None) -> End:
    """The end of a stream that was cut: by its caller, or by a failure whose end is given.

    Its usage is partly our own estimate, of which nobody shall learn.
    """
    end = failure or answered_end(reservation, so_far)
    return replace(end, charge=answered_end(reservation, so_far).charge, usage=None)


def unsent_end() -> End:
    """The end of an attempt that was never sent."""
    return End(charge_unsent(), answered=False, life_sign=LifeSign(Pulse.UNKNOWN))


def unknown_end(reservation: Reservation) -> End:
    """The end of an attempt that was interrupted: all of it may have been counted."""
    charge = charge_unknown(reservation.weights)
    return End(charge, answered=False, life_sign=LifeSign(Pulse.UNKNOWN))


def subject_names(key: KeySpec) -> dict[Subject, str]:
    """The name of each subject of a verdict on this key."""
    subjects = subjects_of(key)
    return {
        Subject.KEY: subjects.key,
        Subject.GROUP: subjects.group,
        Subject.PROVIDER: subjects.provider,
    }


def cooled(key: KeySpec, mark: Mark, request_id: str) -> KeyCooledDown:
    """The event that tells of a mark that a request left."""
    seconds = None if mark.milliseconds < 0 else mark.milliseconds / 1000
    subject = mark.field.partition(":")[2]
    return KeyCooledDown(key.provider, subject, mark.state, seconds, mark.reason, request_id)


def token_counts(reply: ProviderReply, prompt: Prompt, tokens: TokenCounter) -> TokenCounts:
    """The provider's own counts, or the estimates where it told none."""
    if reply.usage is not None:
        given, answer = reply.usage.input, reply.usage.output
    else:
        given, answer = prompt.tokens, tokens.count_message(_answer(reply), reply.model)
    return TokenCounts(input=given, output=answer, total=given + answer)


def turn_of(
    request: ChatRequest,
    reply: ProviderReply,
    counts: TokenCounts,
    user_id: str | None,
    tokens: TokenCounter,
) -> Turn | None:
    """What an answered chat appends to its conversation; None for a one-shot."""
    if request.conv_id is None:
        return None
    asked: str | tuple[StoredMessage, ...] = tuple(
        StoredMessage(message, tokens.count_message(message, reply.model))
        for message in request.messages
    )
    only = request.messages[0]
    if len(asked) == 1 and only.role == "user" and isinstance(only.content, str):
        asked = only.content
    return Turn(
        conv_id=request.conv_id,
        request_id=request.request_id,
        prompt=asked,
        answer=reply.content,
        model=reply.model,
        user_id=user_id,
        prompt_tokens=tokens.count(asked, reply.model) if isinstance(asked, str) else None,
        # Not the provider's count: hidden reasoning is no part of the history.
        answer_tokens=tokens.count_message(_answer(reply), reply.model),
        total_tokens=counts["total"],
        system_prompt=request.system_prompt,
        metadata=request.metadata,
        tool_calls=reply.tool_calls,
    )


def _answer(reply: ProviderReply) -> Message:
    return Message("assistant", reply.content, reply.tool_calls)


def _marks(verdict: Verdict, key: KeySpec, error: RouterError) -> tuple[Mark, ...]:
    if verdict.state is None:
        return ()
    name, wait = subject_names(key)[verdict.subject], _retry_after(error)
    milliseconds, longest = verdict.cooldown_ms(wait), verdict.longest_ms(wait)
    return (Mark(name, verdict.state, milliseconds, _reason(error), longest),)


def _heartbeat(verdict: Verdict, error: RouterError) -> LifeSign:
    if verdict.pulse is not Pulse.FAILED:
        return LifeSign(verdict.pulse)
    return LifeSign(verdict.pulse, round(1000 * (_retry_after(error) or 0.0)), _reason(error))


def _retry_after(error: RouterError) -> float | None:
    return error.retry_after if isinstance(error, ProviderError) else None


def _reason(error: RouterError) -> str:
    return " ".join(f"{error.error_type}: {error}".split())[:200]
