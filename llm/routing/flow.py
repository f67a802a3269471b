"""The way of one request: the only routing logic. It decides and yields what is to be done.

    admit the user, load (chat)  ->  reserve a key  ->  send  ->  settle (and append the turn)
                                          ^                          |
                                          +---- another key, model or provider, after a failure
                                                that allows it; of those that the caller allows

A stream is opened and relayed instead of sent. It may be tried elsewhere as long as the caller has
seen nothing of it; one that is cut later is settled with what was produced.

There is no input or output here: a driver performs each effect and sends back what came of it, or
throws the error. So the same logic serves threads and tasks, and tests drive it by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from random import random
from time import monotonic
from typing import TYPE_CHECKING, Any

from conversation.records import Conversation, Turn
from conversation.window import PromptTooLong
from core.errors import (
    AuthenticationFailed,
    CircuitsOpen,
    DeadlineExceeded,
    NoCapacity,
    NoKeys,
    ProviderError,
    ProviderRateLimited,
    RequestCancelled,
    RequestTooLarge,
    RouterError,
    SecretError,
    StorageError,
    UserRateLimited,
)
from core.events import (
    AttemptFinished,
    CapacityWaited,
    ConversationNotSaved,
    SettleFailed,
    UserRefused,
    emit,
)
from core.types import Attempt, ChatRequest, Message, Reply
from keys.longest import longest_prompt
from keys.reservations import End, Overdrawn, Refused, Reservation
from keys.selection import Selection, model_at, subjects_of
from llm.providers.abilities import EVERYTHING, Ability, needs_of
from llm.providers.embedding_limits import EmbeddingLimits
from llm.routing.backoff import LONGEST, pause
from llm.routing.effects import (
    Admit,
    Effect,
    OpenStream,
    Relay,
    Renew,
    Reserve,
    Send,
    Settle,
    Sleep,
    StreamCut,
)
from llm.routing.needs import Abilities, able
from llm.routing.outcomes import (
    answered_end,
    cooled,
    cut_end,
    failed_end,
    produced,
    subject_names,
    token_counts,
    turn_of,
    unknown_end,
    unsent_end,
)
from llm.routing.prompts import Prompt, build_prompt, need_of, selection_of, widest
from llm.routing.replies import Partial, answered, failed
from llm.routing.retry_budget import RetryBudget
from llm.routing.verdicts import Verdict, verdict_on
from llm.tokens import TokenCounter

if TYPE_CHECKING:
    from keys.spec import KeySpec

Flow = Generator[Effect, Any, Reply]

LEASE_MARGIN_SECONDS = 30.0
"""How much longer than its deadline a request may hold what does not age, if its client dies."""

MODEL_FAILURES = 2
"""After so many failures of a model at one service, other models and services are tried first."""

SERVICE_FAILURES = 3
"""After so many failures of a service, whatever the model, others are tried first."""


@dataclass(frozen=True, slots=True)
class RetryRules:
    """How often and after what pauses a request is tried again.

    Args:
        max_retries: further attempts after the first.
        base_backoff: seconds of the first pause.
    """

    max_retries: int = 3
    base_backoff: float = 0.5


def _no_keys(selection: Selection) -> Sequence[KeySpec]:
    return ()


def _one_text(key: KeySpec) -> EmbeddingLimits:
    return EmbeddingLimits(1, 1)


def _all_abilities(key: KeySpec) -> frozenset[Ability]:
    return EVERYTHING


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the flow knows without asking for it.

    Args:
        models_of: the models of the keys that a selection allows, the preferred ones first.
        ratio_of: real input tokens for each estimated one, of the model that a selection prefers.
        abilities_of: what a key's provider and model can do beyond plain text.
        keys_of: the keys that a selection allows, the best first.
        embedding_limits_of: how much one call for embeddings may hold.
        clock: seconds that only go forwards.
        budget: how many retries each service may get.
        chance: numbers from 0 to 1, for the jitter of pauses.
    """

    rules: RetryRules
    tokens: TokenCounter
    models_of: Callable[[Selection], Sequence[str]]
    ratio_of: Callable[[Selection], float]
    abilities_of: Abilities = _all_abilities
    keys_of: Callable[[Selection], Sequence[KeySpec]] = _no_keys
    embedding_limits_of: Callable[[KeySpec], EmbeddingLimits] = _one_text
    budget: RetryBudget = field(default_factory=RetryBudget)
    clock: Callable[[], float] = monotonic
    chance: Callable[[], float] = random


def route(request: ChatRequest, around: Surroundings) -> Flow:
    """Route one request to its reply; what a provider, Redis or a store does is never raised."""
    journey = Journey(request, around)
    try:
        reply: Reply = yield from journey.run()
        return reply
    except RouterError as error:
        seconds = journey.elapsed()
        ended: RouterError = error
        if isinstance(error, StorageError) and seconds >= request.timeout:
            # Redis was given no longer than the request had: that says nothing of Redis.
            ended = DeadlineExceeded(f"the request's timeout of {request.timeout:g} s is over")
        return failed(request, ended, journey.attempts, seconds, journey.partial)


class Journey:
    """One request on its way, and what it has been through."""

    def __init__(self, request: ChatRequest, around: Surroundings) -> None:
        self.request = request
        self.around = around
        self.attempts: list[Attempt] = []
        self._started = self._began = around.clock()
        self._refused: set[str] = set()
        self._flaky: set[str] = set()
        self._throttled: set[str] = set()
        self._failures_of: dict[str, int] = {}
        self._longest: int | None = None
        self._services: set[str] = set()
        self._retry_at: str | None = None
        self._blocked: set[str] = set()
        self._pauses = 0
        self._given = 0.0
        self._waited = 0.0
        self._reservations = 0
        self._last_error: RouterError | None = None
        self.partial: Partial | None = None

    def elapsed(self) -> float:
        return self.around.clock() - self._started

    def run(self) -> Generator[Effect, Any, Any]:
        request, around = self.request, self.around
        selection = self._selection()
        conversation = yield from self._admit()
        user_id, fitted_for = request.user_id, request.model_preference
        if conversation is not None:
            user_id = conversation.admit(user_id)
            selection = self._able(selection, (*conversation.messages, *request.messages))
            fitted_for = widest(around.models_of(selection), request)
            self._longest = self._longest_prompt(selection)
        prompt = self._prompt(conversation, fitted_for)
        while True:
            reservation = yield from self._reserve(selection, prompt)
            key = reservation.key
            self._count(subjects_of(key).service)
            self._began = around.clock()
            try:
                fitted = prompt
                if conversation is not None and key.model_name != fitted_for:
                    fitted = self._prompt(conversation, key.model_name)
                reply = yield from self._attempt(reservation, fitted)
            except DeadlineExceeded:
                yield from self._settle(reservation, unsent_end())
                raise
            except PromptTooLong as error:
                # This model's window is smaller than that of the one the history was cut for.
                yield from self._settle(reservation, unsent_end())
                self._refused.add(subjects_of(key).key)
                self._last_error = error
            except StreamCut as cut:
                yield from self._settle_cut(reservation, cut, fitted, user_id)
                raise cut.cause from None
            except RouterError as error:
                verdict = verdict_on(error, self._given)
                self._note_failure(reservation, error, verdict, around.clock() - self._began)
                yield from self._settle(reservation, failed_end(reservation, error, verdict))
                if len(self.attempts) > around.rules.max_retries:
                    raise
                if verdict.escalate:
                    selection = self._escalated(selection, key.model_name, error)
                elif not verdict.retry:
                    raise
                elif verdict.transient and self._may_retry(subjects_of(key).service):
                    yield Sleep(self._pause(error))
            except GeneratorExit:
                # Nothing can be yielded any more: the reservation ages out by itself.
                raise
            except BaseException:
                yield from self._settle(reservation, unknown_end(reservation))
                raise
            else:
                self._note(reservation, "success", around.clock() - self._began)
                return (yield from self._answer(reservation, reply, fitted, user_id))

    def _answer(
        self, reservation: Reservation, reply: Any, prompt: Prompt, user_id: str | None
    ) -> Generator[Effect, Any, Any]:
        """Settle an attempt that was answered, and say so to the caller."""
        request, tokens = self.request, self.around.tokens
        counts = token_counts(reply, prompt, tokens)
        turn = turn_of(request, reply, counts, user_id, tokens)
        yield from self._settle(reservation, answered_end(reservation, reply), turn)
        return answered(request, reservation.key, reply, counts, self.attempts, self.elapsed())

    def _prompt(self, conversation: Conversation | None, model: str | None) -> Prompt:
        """What would be sent to a model."""
        return build_prompt(self.request, conversation, model, self.around.tokens, self._longest)

    def _longest_prompt(self, selection: Selection) -> int | None:
        """The most tokens, as they are estimated, that any allowed key admits at once."""
        around = self.around
        nothing = need_of(self.request, Prompt((), None, 0), ratio=1.0)
        longest = longest_prompt(around.keys_of(selection), nothing)
        return None if longest is None else int(longest / around.ratio_of(selection))

    def _selection(self) -> Selection:
        """The keys that may serve, as far as the request alone decides."""
        return self._able(selection_of(self.request), self.request.messages)

    def _able(self, selection: Selection, messages: Sequence[Message]) -> Selection:
        """The selection without the keys that cannot do what is asked; raises if none can."""
        around, needs = self.around, needs_of(messages, self.request.options)
        return able(selection, needs, around.abilities_of, around.models_of)

    def _asked(self, reservation: Reservation, prompt: Prompt) -> Generator[Effect, Any, Any]:
        """The provider's whole answer; a stream's is handed out on the way."""
        send = self._send(reservation, prompt)
        if not self.request.streamed or not isinstance(send, Send):
            return (yield send)
        yield OpenStream(send)
        return (yield Relay())

    def _settle_cut(
        self,
        reservation: Reservation,
        cut: StreamCut,
        prompt: Prompt,
        user_id: str | None,
    ) -> Generator[Effect, Any, None]:
        """Charge a stream that was cut with what it had produced; keep the turn if asked to."""
        request, seconds = self.request, self.around.clock() - self._began
        so_far = produced(cut.so_far, reservation, self.around.tokens)
        counts = token_counts(so_far, prompt, self.around.tokens)
        self.partial = Partial(so_far.content, counts)
        turn = None
        if request.keep_partial and so_far.content:
            turn = turn_of(request, so_far, counts, user_id, self.around.tokens)
        if isinstance(cut.cause, RequestCancelled):
            self._note(reservation, cut.cause.error_type, seconds, str(cut.cause))
            end = cut_end(reservation, so_far)
        else:
            verdict = verdict_on(cut.cause)
            self._note_failure(reservation, cut.cause, verdict, seconds)
            end = cut_end(reservation, so_far, failed_end(reservation, cut.cause, verdict))
        yield from self._settle(reservation, end, turn)

    def _admit(self) -> Generator[Effect, Any, Conversation | None]:
        """The conversation of a request whose user may ask now."""
        request = self.request
        outcome: Conversation | Overdrawn | None = yield Admit(request.user_id, request.conv_id)
        if not isinstance(outcome, Overdrawn):
            return outcome
        seconds = outcome.retry_after
        emit(UserRefused(request.request_id, request.user_id, outcome.source, seconds))
        who = "all users together have"
        if outcome.source == "user":
            who = f"user {request.user_id!r} has"
        raise UserRateLimited(
            f"{who} asked as often as allowed; the next request is admitted in {seconds:.3f} s",
            retry_after=seconds,
        )

    def _reserve(self, selection: Selection, prompt: Prompt) -> Generator[Effect, Any, Reservation]:
        """A reservation, after as much waiting as the caller allows."""
        request = self.request
        while True:
            left = self._time_left()
            self._reservations += 1
            reserve = Reserve(
                need=need_of(request, prompt, self.around.ratio_of(selection)),
                selection=selection,
                reservation_id=f"{request.request_id}.{self._reservations}",
                lease_seconds=left + LEASE_MARGIN_SECONDS,
                avoid=frozenset(self._refused | self._flaky | self._throttled),
                max_wait=max(0.0, min(request.max_wait - self._waited, left)),
                priority=request.priority,
            )
            try:
                outcome: Reservation | Refused = yield reserve
            except (NoKeys, RequestTooLarge):
                if self._flaky:
                    # No other key is left: those that failed in passing get another chance.
                    self._flaky.clear()
                    continue
                if self._throttled and self._waited < request.max_wait:
                    # What a provider asked to leave alone for a while can be waited for.
                    self._throttled.clear()
                    continue
                if self._last_error is not None:
                    raise self._last_error from None
                raise
            except (Exception, GeneratorExit):
                raise
            except BaseException:
                yield from self._withdraw(reserve)
                raise
            if isinstance(outcome, Refused) and self._flaky:
                self._flaky.clear()
                continue
            if isinstance(outcome, Refused) and outcome.broken:
                yield Sleep(self._until_circuits_close(outcome))
                continue
            if isinstance(outcome, Refused) and self._must_end_as_it_failed():
                raise self._last_error or NoCapacity(outcome.reason)
            if isinstance(outcome, Refused):
                emit(CapacityWaited(request.request_id, False, outcome.retry_after))
                raise NoCapacity(self._no_capacity(outcome), retry_after=outcome.retry_after)
            if outcome.waited > 0:
                self._waited += outcome.waited
                emit(CapacityWaited(request.request_id, True, outcome.waited))
            return outcome

    def _withdraw(self, reserve: Reserve) -> Generator[Effect, Any, None]:
        """Give back what was reserved, if it was: who was interrupted does not know. The same id
        gets the same answer."""
        try:
            outcome: Reservation | Refused = yield replace(reserve, max_wait=0.0)
        except RouterError:
            return  # then it ages out
        if isinstance(outcome, Reservation):
            yield from self._settle(outcome, unsent_end())

    def _attempt(self, reservation: Reservation, prompt: Prompt) -> Generator[Effect, Any, Any]:
        """Send; and where a provider refused a secret that is not the newest, once more."""
        try:
            return (yield from self._asked(reservation, prompt))
        except AuthenticationFailed as error:
            refused = error
            seconds = self.around.clock() - self._began
            if not (yield from self._renew(reservation.key, error)):
                raise
        # What was refused was counted on nobody, so that the reservation serves the second call.
        self._note(reservation, refused.error_type, seconds, str(refused), refused.status)
        self._began = self.around.clock()
        return (yield from self._asked(reservation, prompt))

    def _renew(self, key: KeySpec, refused: AuthenticationFailed) -> Generator[Effect, Any, bool]:
        """Whether the store has another secret than the one that was refused."""
        try:
            newer: bool = yield Renew(key, self._time_left())
        except SecretError as error:
            # Nobody knows whether it was the newest: no reason to take the key out of rotation.
            raise type(error)(
                f"{refused}; and there is no newer secret to be had: {error}"
            ) from None
        return newer

    def _settle(
        self, reservation: Reservation, end: End, turn: Turn | None = None
    ) -> Generator[Effect, Any, None]:
        """Settle; what goes wrong here is told, and never costs the caller the answer."""
        request = self.request
        try:
            unsaved = yield Settle(reservation, end, turn)
        except StorageError as error:
            emit(SettleFailed(request.request_id, reservation.key.key_id, str(error)))
            unsaved = error if turn is not None else None
        else:
            for mark in end.marks:
                emit(cooled(reservation.key, mark, request.request_id))
        if unsaved is not None and request.conv_id is not None:
            emit(ConversationNotSaved(request.request_id, request.conv_id, str(unsaved)))

    def _send(self, reservation: Reservation, prompt: Prompt) -> Effect:
        self._given = self._time_left()
        return Send(
            key=reservation.key,
            messages=prompt.messages,
            system_prompt=prompt.system_prompt,
            max_output_tokens=self.request.max_output_tokens,
            temperature=self.request.temperature,
            timeout=self._given,
            idle_timeout=self.request.idle_timeout,
            options=self.request.options,
        )

    def _count(self, service: str) -> None:
        """Keep the account of retries: one that was allowed at another service was not used."""
        budget, allowed = self.around.budget, self._retry_at
        self._retry_at = None
        if allowed is not None and allowed != service:
            budget.give_back(allowed)
        if service not in self._services:
            self._services.add(service)
            budget.count(service)

    def _may_retry(self, service: str) -> bool:
        """Whether a service may be asked again after it failed; else others alone are."""
        if self.around.budget.take(service):
            self._retry_at = service
            return True
        self._refused.add(service)
        return False

    def _escalated(self, selection: Selection, model: str, error: RouterError) -> Selection:
        """What may be asked after a model's filter refused: the caller's fallback models behind it.
        Raises `error` where there is none."""
        request = self.request
        self._blocked.add(model)
        order = [m for m in (request.model_preference, *request.fallback_models) if m]
        behind = (
            order[order.index(model) + 1 :] if model in order else list(request.fallback_models)
        )
        models = tuple(m for m in behind if m not in self._blocked)
        if not models:
            raise error
        return replace(selection, models=models)

    def _must_end_as_it_failed(self) -> bool:
        """Whether it is no want of room that ends this request, but what happened before."""
        return bool(self._blocked or self._refused & self._services)

    def _until_circuits_close(self, refused: Refused) -> float:
        """Seconds until one of the circuits lets a request through, for one that has been tried
        and may be tried again soon; raises where it may not."""
        seconds = refused.retry_after
        tried = self.attempts and self._pauses < self.around.rules.max_retries
        if tried and seconds is not None and seconds <= min(LONGEST, self._time_left()):
            self._pauses += 1
            rules = self.around.rules
            return max(seconds, pause(self._pauses, rules.base_backoff, self.around.chance))
        if self._last_error is not None:
            raise self._last_error
        raise CircuitsOpen(self._no_capacity(refused), retry_after=seconds)

    def _pause(self, error: RouterError) -> float:
        """Seconds to pause before the next try; raises `error` where there is no time for it."""
        rules = self.around.rules
        seconds = pause(len(self.attempts), rules.base_backoff, self.around.chance)
        if seconds >= self._time_left():
            raise error
        return seconds

    def _time_left(self) -> float:
        left = self.request.timeout - self.elapsed()
        if left <= 0:
            after = f"; the last attempt said: {self._last_error}" if self._last_error else ""
            raise DeadlineExceeded(
                f"the request's timeout of {self.request.timeout:g} s is over{after}"
            )
        return left

    def _note_failure(
        self, reservation: Reservation, error: RouterError, verdict: Verdict, seconds: float
    ) -> None:
        key = reservation.key
        names = subject_names(key)
        if verdict.subject in names:
            avoided = self._flaky if verdict.transient else self._refused
            if isinstance(error, ProviderRateLimited):
                avoided = self._throttled
            avoided.add(names[verdict.subject])
        if verdict.transient:
            for name, most in (
                (model_at(key), MODEL_FAILURES),
                (subjects_of(key).service, SERVICE_FAILURES),
            ):
                self._failures_of[name] = self._failures_of.get(name, 0) + 1
                if self._failures_of[name] >= most:
                    self._flaky.add(name)
        self._last_error = error
        status = error.status if isinstance(error, ProviderError) else None
        self._note(reservation, error.error_type, seconds, str(error), status)

    def _note(
        self,
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
        self.attempts.append(attempt)
        emit(
            AttemptFinished(
                request_id=self.request.request_id,
                key_id=key.key_id,
                provider=key.provider,
                model=key.model_name,
                outcome=outcome,
                duration_ms=attempt["duration_ms"],
                error=error,
                status=status,
            )
        )

    def _no_capacity(self, refused: Refused) -> str:
        longest, reason = self.request.max_wait, refused.reason
        in_vain = longest > 0 and self.elapsed() >= longest
        if in_vain:
            reason += f"; max_wait of {longest:g} s is over"
        if refused.retry_after is None:
            return reason
        hint = "" if in_vain else "; give max_wait to wait for it"
        if longest and not in_vain:
            hint = f", beyond max_wait of {longest:g} s"
        return f"{reason}; the next opens in {refused.retry_after:.3f} s{hint}"
