"""The routing flow, driven by hand: what it asks for, in what order, and what it makes of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import pytest

import core.events
from conversation.records import Conversation
from core.errors import (
    AuthenticationFailed,
    ContentBlocked,
    ContextTooLong,
    ConversationUnavailable,
    NoKeys,
    ProviderRateLimited,
    ProviderTimeout,
    ProviderUnavailable,
    QuotaExhausted,
    RequestCancelled,
    RouterError,
    SecretError,
    SecretStoreDown,
    StorageError,
)
from core.events import (
    AttemptFinished,
    CapacityWaited,
    ConversationNotSaved,
    Event,
    SettleFailed,
    UserRefused,
    subscribe,
)
from core.types import ChatRequest, Message, ProviderReply, Reply, Usage
from keys.policies import Need, policy_of, weigh
from keys.reservations import Overdrawn, Refused, Reservation
from keys.selection import model_at, subjects_of
from keys.spec import KeySpec
from llm.routing import drivers, task_drivers
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
from llm.routing.flow import RetryRules, Surroundings, route
from llm.routing.retry_budget import RetryBudget
from llm.tokens import TokenCounter
from lua.circuits import Pulse
from lua.limiter_types import Shard

SHARD = Shard("pool", "health", "waiters", "deadlines", "ratios", "routers")
ANSWER = ProviderReply("Hi!", "m", "stop", Usage(input=7, output=3))


@dataclass
class World:
    """Plays the driver: `sends` are what each call of a provider gives, in order."""

    sends: list[Any] = field(default_factory=lambda: [ANSWER])
    reserves: list[Any] = field(default_factory=list)
    keys: list[KeySpec] = field(default_factory=lambda: [_key("a"), _key("b"), _key("c")])
    on_settle: list[Any] = field(default_factory=list)
    renewals: list[Any] = field(default_factory=list)
    admitted: Any = None
    seconds_a_send: float = 0.0
    now: float = 100.0
    effects: list[Effect] = field(default_factory=list)
    budget: RetryBudget = field(default_factory=RetryBudget)
    relays: list[Any] = field(default_factory=list)
    driver: ClassVar[str] = "threads"

    def run(self, request: ChatRequest, rules: RetryRules | None = None) -> Reply:
        """The reply, by the driver that this run of the test is about."""
        rules = rules or RetryRules(max_retries=3, base_backoff=0.5)
        if World.driver == "threads":
            return self._drive(request, rules, by_thread)
        twin = replace(self, **{name: list(getattr(self, name)) for name in LISTS})
        with muted():
            expected = outcome_of(lambda: twin._drive(request, rules, by_thread))
        try:
            return self._drive(request, rules, by_task)
        finally:
            assert self.effects == twin.effects, "both drivers perform the same effects"
            assert expected is not None

    def _drive(self, request: ChatRequest, rules: RetryRules, advance: Advance) -> Reply:
        flow = route(request, self.around(rules))
        reply = advance(flow, self, None, None)
        while reply is None:
            self.effects.append(Relay())
            relayed = self.relays.pop(0)
            if isinstance(relayed, BaseException):
                reply = advance(flow, self, None, relayed)
            else:
                reply = advance(flow, self, relayed, None)
        return reply

    def perform(self, effect: Effect) -> Any:
        """What a driver asks of its performer."""
        self.effects.append(effect)
        return self._perform(effect)

    async def perform_on_task(self, effect: Effect) -> Any:
        """The same, of a task's."""
        return self.perform(effect)

    def around(self, rules: RetryRules) -> Surroundings:
        return Surroundings(
            rules,
            TokenCounter(),
            models_of=lambda selection: ["m"],
            ratio_of=lambda model: 1.0,
            budget=self.budget,
            clock=lambda: self.now,
            chance=lambda: 1.0,
        )

    def _perform(self, effect: Effect) -> Any:
        match effect:
            case Reserve():
                if self.reserves:
                    return _give(self.reserves.pop(0))
                free = [k for k in self.keys if not _avoided(k, effect.avoid)]
                if not free:
                    raise NoKeys("every key was tried")
                key = free[0]
                weights = weigh(policy_of(key.provider), effect.need, 0)
                return Reservation(
                    effect.reservation_id, key, effect.need, weights, SHARD, self.now
                )
            case Send() | OpenStream():
                self.now += self.seconds_a_send
                return _give(self.sends.pop(0))
            case Renew():
                return _give(self.renewals.pop(0)) if self.renewals else False
            case Settle():
                return _give(self.on_settle.pop(0)) if self.on_settle else None
            case Sleep():
                self.now += effect.seconds
                return None
            case Admit():
                return _give(self.admitted)

    def of(self, kind: type) -> list[Any]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def names(self) -> list[str]:
        return [type(effect).__name__ for effect in self.effects]


def _give(thing: Any) -> Any:
    if isinstance(thing, BaseException):
        raise thing
    return thing.error if isinstance(thing, Returned) else thing


@dataclass
class Returned:
    """An error that an effect gives instead of raising it."""

    error: Exception


LISTS = ("sends", "reserves", "keys", "on_settle", "renewals", "effects", "relays")
Advance = Callable[[Any, Any, Any, BaseException | None], Reply | None]


def by_thread(flow: Any, world: Any, result: Any, error: BaseException | None) -> Reply | None:
    return drivers._advance(flow, world, math.inf, result, error)


def by_task(flow: Any, world: Any, result: Any, error: BaseException | None) -> Reply | None:
    return asyncio.run(task_drivers._advance(flow, world, math.inf, result, error))


def outcome_of(run: Callable[[], Any]) -> Any:
    try:
        return run()
    except BaseException as error:  # noqa: BLE001 - an interruption is an outcome
        return error


@contextmanager
def muted() -> Iterator[None]:
    """Events of a run that is made for comparison alone go to nobody."""
    subscribers, core.events._subscribers = core.events._subscribers, ()
    try:
        yield
    finally:
        core.events._subscribers = subscribers


@pytest.fixture(params=["threads", "tasks"], autouse=True)
def _driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "driver", request.param)


def _key(key_id: str, provider: str = "openai", **more: Any) -> KeySpec:
    fields = {"model_name": "m", "rpm": 10, **more}
    return KeySpec(key_id=key_id, provider=provider, **fields)


def _avoided(key: KeySpec, avoid: frozenset[str]) -> bool:
    return bool({*subjects_of(key), model_at(key)} & avoid)


def ask(**more: Any) -> ChatRequest:
    return ChatRequest(request_id="r", messages=(Message("user", "Hello"),), **more)


def refused() -> AuthenticationFailed:
    return AuthenticationFailed("401", provider="openai", status=401)


def down(provider: str = "openai", **more: Any) -> ProviderUnavailable:
    return ProviderUnavailable("503", provider=provider, status=503, **more)


@pytest.fixture
def events() -> Any:
    seen: list[Event] = []
    stop = subscribe(seen.append)
    yield seen
    stop()


def test_a_request_reserves_sends_and_settles_with_what_was_used() -> None:
    world = World()
    reply = world.run(ask())
    assert world.names == ["Admit", "Reserve", "Send", "Settle"]
    assert reply["success"]
    assert reply["content"] == "Hi!"
    assert reply["tokens"] == {"input": 7, "output": 3, "total": 10}
    assert [a["outcome"] for a in reply["attempts"]] == ["success"]
    (settle,) = world.of(Settle)
    assert (settle.end.charge.requests, settle.end.charge.output) == (1, 3)


def test_without_usage_the_estimate_is_told_and_charged() -> None:
    reply = World(sends=[ProviderReply("Hi there!", "m", "stop", None)]).run(ask())
    assert reply["tokens"]["output"] == 3
    assert reply["tokens"]["input"] > 0


def test_a_refused_secret_takes_the_key_out_and_goes_on_with_the_next_at_once() -> None:
    world = World(sends=[AuthenticationFailed("401", provider="openai", status=401), ANSWER])
    reply = world.run(ask())
    assert world.names == [
        "Admit", "Reserve", "Send", "Renew", "Settle", "Reserve", "Send", "Settle",
    ]  # fmt: skip
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b"]
    mark = world.of(Settle)[0].end.marks[0]
    assert (mark.field, mark.state, mark.milliseconds) == ("k:a", "invalid", -1)


def test_a_newer_secret_goes_on_with_the_same_key_and_reservation(events: list[Event]) -> None:
    world = World(sends=[refused(), ANSWER], renewals=[True])
    reply = world.run(ask(), RetryRules(max_retries=0))
    assert world.names == ["Admit", "Reserve", "Send", "Renew", "Send", "Settle"]
    assert [(a["key_id"], a["outcome"]) for a in reply["attempts"]] == [
        ("a", "auth_failed"),
        ("a", "success"),
    ]
    (settle,) = world.of(Settle)
    assert settle.end.marks == ()
    assert settle.end.charge.requests == 1
    assert [event.status for event in events if isinstance(event, AttemptFinished)] == [401, None]


def test_a_newer_secret_that_is_refused_too_takes_the_key_out() -> None:
    world = World(sends=[refused(), refused(), ANSWER], renewals=[True])
    reply = world.run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "a", "b"]
    assert world.of(Settle)[0].end.marks[0].state == "invalid"
    assert len(world.of(Renew)) == 1, "once is enough"


def test_a_refused_secret_whose_store_is_down_takes_no_key_out() -> None:
    world = World(sends=[refused(), ANSWER], renewals=[SecretStoreDown("the Vault is sealed")])
    reply = world.run(ask())
    assert [(a["key_id"], a["outcome"]) for a in reply["attempts"]] == [
        ("a", "secret_unavailable"),
        ("b", "success"),
    ]
    assert "401" in reply["attempts"][0]["error"]
    assert "the Vault is sealed" in reply["attempts"][0]["error"]
    assert world.of(Settle)[0].end.marks == ()


def test_no_newer_secret_is_asked_for_when_the_time_is_over() -> None:
    world = World(sends=[refused()], seconds_a_send=10.0)
    reply = world.run(ask(timeout=5.0))
    assert reply["error_type"] == "timeout"
    assert world.names == ["Admit", "Reserve", "Send", "Settle"]
    assert world.of(Settle)[0].end.marks == ()


def test_a_rate_limit_cools_the_group_for_as_long_as_the_provider_asks() -> None:
    error = ProviderRateLimited("429", provider="openai", status=429, retry_after=12.5)
    world = World(
        sends=[error, ANSWER],
        keys=[_key("a", quota_group="t"), _key("b", quota_group="t"), _key("c")],
    )
    reply = world.run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "c"], "b shares a's group"
    mark = world.of(Settle)[0].end.marks[0]
    assert (mark.field, mark.state, mark.milliseconds) == ("g:openai/t", "throttled", 12_500)


def test_one_who_may_wait_comes_back_to_the_only_key_that_was_throttled() -> None:
    error = ProviderRateLimited("429", provider="openai", status=429, retry_after=0.3)
    reply = World(sends=[error, ANSWER], keys=[_key("a")]).run(ask(max_wait=5.0))
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "a"]
    error = ProviderRateLimited("429", provider="openai", status=429, retry_after=0.3)
    reply = World(sends=[error, ANSWER], keys=[_key("a")]).run(ask())
    assert (reply["error_type"], reply["retry_after"]) == ("rate_limited", 0.3)


def test_a_spent_quota_marks_the_group_exhausted() -> None:
    world = World(sends=[QuotaExhausted("no credit", provider="openai", status=429), ANSWER])
    world.run(ask())
    assert world.of(Settle)[0].end.marks[0].state == "exhausted"


def test_a_failing_provider_is_tried_again_after_a_growing_pause() -> None:
    world = World(sends=[down(), down(), ANSWER])
    reply = world.run(ask())
    assert reply["success"]
    assert [effect.seconds for effect in world.of(Sleep)] == [0.5, 1.0]
    assert all(not settle.end.marks for settle in world.of(Settle))


def test_after_two_failures_of_a_model_others_are_tried_first() -> None:
    keys = [_key("a"), _key("b"), _key("c"), _key("d", "anthropic")]
    reply = World(sends=[down(), down(), ANSWER], keys=keys).run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b", "d"]


def test_a_model_that_is_down_says_little_of_another_of_its_provider() -> None:
    keys = [_key("a"), _key("b"), _key("c"), _key("d", model_name="n"), _key("e", "anthropic")]
    reply = World(sends=[down(), down(), ANSWER], keys=keys).run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b", "d"]


def test_after_three_failures_of_a_provider_another_is_tried_first() -> None:
    models = [_key(name, model_name=name) for name in "abcd"]
    keys = [*models, _key("e", "anthropic")]
    reply = World(sends=[down(), down(), down(), ANSWER], keys=keys).run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b", "c", "e"]


def test_the_same_provider_at_another_address_is_another_service() -> None:
    near = {"base_url": "http://127.0.0.1:8000/v1"}
    keys = [_key("a"), _key("b"), _key("c"), _key("d", **near)]
    reply = World(sends=[down(), down(), ANSWER], keys=keys).run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b", "d"]


# -- content that a filter blocks --------------------------------------------------------------


def blocked() -> ContentBlocked:
    return ContentBlocked("no", provider="openai", status=400, reasons=("hate",))


def asked_models(world: World) -> list[tuple[str, ...]]:
    return [effect.selection.models for effect in world.of(Reserve)]


def test_blocked_content_may_go_to_the_fallback_models_in_the_callers_order() -> None:
    world = World(sends=[blocked(), blocked(), ANSWER], keys=[])
    world.reserves = [_reserved(world, name) for name in ("m", "n", "o")]
    reply = world.run(ask(model_preference="m", fallback_models=("n", "o")))
    assert reply["success"]
    assert asked_models(world) == [("m", "n", "o"), ("n", "o"), ("o",)]
    assert world.of(Sleep) == [], "there is nothing to wait for"
    assert all(not settle.end.marks for settle in world.of(Settle)), "it marks no key"
    prompts = {send.messages for send in world.of(Send)}
    assert len(prompts) == 1, "the prompt is never rewritten"


def test_a_fallback_model_that_blocks_too_leaves_those_behind_it_alone() -> None:
    world = World(sends=[blocked(), blocked()], keys=[])
    world.reserves = [_reserved(world, "n"), _reserved(world, "o")]
    reply = world.run(ask(model_preference="m", fallback_models=("n", "o")))
    assert asked_models(world) == [("m", "n", "o"), ("o",)]
    assert (reply["error_type"], reply["reasons"]) == ("content_filtered", ["hate"])


@pytest.mark.parametrize("end", [NoKeys("none"), Refused(3.0, "1 full")])
def test_where_no_fallback_model_can_serve_the_filters_word_is_the_answer(end: Any) -> None:
    world = World(sends=[blocked()], keys=[])
    world.reserves = [_reserved(world, "m"), end]
    reply = world.run(ask(model_preference="m", fallback_models=("n",)))
    assert reply["error_type"] == "content_filtered"


def _reserved(world: World, model: str) -> Reservation:
    need = Need(10, 10, 10)
    key = _key(f"key-of-{model}", model_name=model)
    return Reservation("r.0", key, need, weigh(policy_of("openai"), need, 0), SHARD, world.now)


# -- circuits and the retry budget -------------------------------------------------------------


def test_open_circuits_are_a_failure_of_providers_and_no_rate_limit() -> None:
    reply = World(reserves=[Refused(7.5, "3 with an open circuit", broken=True)]).run(ask())
    assert (reply["error_type"], reply["retry_after"]) == ("provider_unavailable", 7.5)


def test_one_that_was_tried_waits_for_the_circuit_where_it_has_the_time() -> None:
    world = World(keys=[_key("a")], sends=[down(), ANSWER])
    first, refused = _reserved(world, "m"), Refused(3.0, "open", broken=True)
    world.reserves = [first, refused, refused, first]  # once without the key that failed
    reply = world.run(ask(timeout=60.0))
    assert reply["success"]
    assert [effect.seconds for effect in world.of(Sleep)] == [0.5, 3.0]


@pytest.mark.parametrize("seconds", [9.0, None])
def test_it_waits_for_no_circuit_for_long(seconds: float | None) -> None:
    world = World(sends=[down()], keys=[])
    world.reserves = [_reserved(world, "m"), *2 * [Refused(seconds, "open", broken=True)]]
    reply = world.run(ask(timeout=60.0))
    assert (reply["error_type"], len(reply["attempts"])) == ("provider_unavailable", 1)


def test_it_waits_for_circuits_no_more_often_than_it_may_retry() -> None:
    world = World(sends=[down()], keys=[])
    refusals = [Refused(0.01, "open", broken=True) for _ in range(9)]
    world.reserves = [_reserved(world, "m"), *refusals]
    world.run(ask())
    assert len(world.of(Sleep)) == 1 + 3


def test_without_budget_a_failing_provider_is_not_asked_again() -> None:
    budget = RetryBudget(0.0, clock=lambda: 0.0)
    while budget.take("s:openai"):
        pass
    world = World(sends=[down(), ANSWER], budget=budget)
    reply = world.run(ask())
    assert (reply["error_type"], len(reply["attempts"])) == ("provider_unavailable", 1)
    assert world.of(Sleep) == []
    keys = [_key("a"), _key("b", "anthropic")]
    reply = World(sends=[down(), ANSWER], keys=keys, budget=budget).run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b"], "another may be"


def test_a_retry_at_another_provider_costs_the_failing_one_nothing() -> None:
    budget = RetryBudget(0.0, clock=lambda: 0.0)
    keys = [_key("a"), _key("b", "anthropic")]
    for _ in range(30):
        world = World(sends=[down(), ANSWER], keys=keys, budget=budget)
        assert world.run(ask())["success"]
    assert budget.take("s:openai")


def test_a_caller_in_a_hurry_tells_the_circuits_nothing() -> None:
    late = ProviderTimeout("read", provider="openai")
    for timeout, pulse in ((3.0, Pulse.UNKNOWN), (30.0, Pulse.FAILED)):
        world = World(sends=[late, late, late, late])
        world.run(ask(timeout=timeout))
        assert world.of(Settle)[0].end.life_sign.pulse is pulse


def test_the_only_key_is_tried_again_when_its_failure_may_pass() -> None:
    reply = World(sends=[down(), ANSWER], keys=[_key("a")]).run(ask())
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "a"]
    assert reply["success"]


def test_retries_end_with_the_last_error_and_every_attempt() -> None:
    world = World(sends=[down(), down(), down(), down(), ANSWER])
    reply = world.run(ask())
    assert not reply["success"]
    assert reply["error_type"] == "provider_unavailable"
    assert len(reply["attempts"]) == 4
    assert len(world.of(Settle)) == 4


def test_when_every_key_was_refused_the_last_refusal_is_the_answer() -> None:
    refusals = [AuthenticationFailed("401", provider="openai", status=401) for _ in "abc"]
    reply = World(sends=refusals).run(ask())
    assert reply["error_type"] == "auth_failed"
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("error", "error_type"),
    [
        (ContextTooLong("too long", provider="openai", status=400), "context_too_long"),
        (ContentBlocked("no", provider="gemini", reasons=("SAFETY",)), "content_filtered"),
    ],
)
def test_what_another_key_cannot_mend_goes_back_at_once(error: Exception, error_type: str) -> None:
    world = World(sends=[error])
    reply = world.run(ask())
    assert reply["error_type"] == error_type
    assert world.names == ["Admit", "Reserve", "Send", "Settle"]
    assert world.of(Settle)[0].end.marks == ()


def test_a_blocked_prompt_tells_the_providers_reasons() -> None:
    error = ContentBlocked("no", provider="gemini", reasons=("HARM_CATEGORY_X",))
    assert World(sends=[error]).run(ask())["reasons"] == ["HARM_CATEGORY_X"]


def test_a_key_without_a_secret_cools_down_and_is_charged_nothing() -> None:
    world = World(sends=[SecretError("no secret for a"), ANSWER])
    assert world.run(ask())["success"]
    settle = world.of(Settle)[0]
    assert settle.end.charge.requests == 0
    assert settle.end.marks[0].milliseconds == 5_000


def test_what_never_left_is_charged_nothing_and_what_may_have_arrived_is_charged() -> None:
    unsent = ProviderTimeout("connect", provider="openai", sent=False)
    lost = ProviderTimeout("read", provider="openai")
    world = World(sends=[unsent, lost, ANSWER])
    world.run(ask(expected_completion_tokens=40))
    charges = [settle.end.charge.requests for settle in world.of(Settle)]
    assert charges == [0, 1, 1]


def test_it_asks_to_wait_no_longer_than_the_caller_and_the_deadline_allow() -> None:
    world = World()
    world.run(ask(max_wait=5.0, priority=3))
    assert [(e.max_wait, e.priority) for e in world.of(Reserve)] == [(5.0, 3)]
    world = World()
    world.run(ask(max_wait=90.0, timeout=10.0))
    assert world.of(Reserve)[0].max_wait == 10.0


def test_what_was_waited_once_is_not_waited_again(events: list[Event]) -> None:
    key = _key("a")
    need = Need(10, 10, 10)
    waited = Reservation(
        "r.0", key, need, weigh(policy_of("openai"), need, 0), SHARD, 100.0, waited=2.0
    )
    world = World(reserves=[waited], sends=[down(), ANSWER])
    assert world.run(ask(max_wait=5.0))["success"]
    assert [e.max_wait for e in world.of(Reserve)] == [5.0, 3.0]
    assert CapacityWaited("r", True, 2.0) in events


def test_without_room_it_refuses_with_the_time() -> None:
    reply = World(reserves=[Refused(2.0, "3 full")]).run(ask())
    assert reply["error_type"] == "rate_limited"
    assert reply["retry_after"] == 2.0
    assert "3 full" in reply["error"]
    assert "2.000 s" in reply["error"]


def test_the_deadline_holds_for_the_whole_request() -> None:
    world = World(sends=[down(), ANSWER], seconds_a_send=4.0)
    reply = world.run(ask(timeout=3.0))
    assert not reply["success"]
    assert len(world.of(Send)) == 1
    assert world.of(Send)[0].timeout == 3.0


def test_each_attempt_gets_the_time_that_is_left() -> None:
    world = World(sends=[down(), ANSWER], seconds_a_send=4.0)
    assert world.run(ask(timeout=10.0))["success"]
    assert [send.timeout for send in world.of(Send)] == [10.0, 5.5]


def test_redis_away_is_a_typed_refusal() -> None:
    reply = World(reserves=[StorageError("Redis is away")]).run(ask())
    assert reply["error_type"] == "redis_unavailable"
    assert reply["attempts"] == []


def test_a_settlement_that_fails_is_told_and_never_costs_the_answer(events: list[Event]) -> None:
    reply = World(on_settle=[StorageError("Redis is away")]).run(ask())
    assert reply["success"]
    assert any(isinstance(event, SettleFailed) for event in events)


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), RequestCancelled("stop")])
def test_an_interrupted_call_is_settled_as_if_it_had_arrived(interruption: BaseException) -> None:
    world = World(sends=[interruption])
    if isinstance(interruption, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            world.run(ask())
    else:
        world.run(ask())
    assert world.names == ["Admit", "Reserve", "Send", "Settle"]
    assert world.of(Settle)[0].end.charge.requests == 1


def test_a_chat_sends_the_history_and_appends_the_turn() -> None:
    from conversation.records import StoredMessage

    history = (
        StoredMessage(Message("user", "My name is Bo"), tokens=5),
        StoredMessage(Message("assistant", "Hello Bo"), tokens=3),
    )
    world = World(admitted=Conversation("c", "Be brief.", history))
    reply = world.run(ask(conv_id="c", user_id="bo"))
    assert world.names == ["Admit", "Reserve", "Send", "Settle"]
    (send,) = world.of(Send)
    assert [m.content for m in send.messages] == ["My name is Bo", "Hello Bo", "Hello"]
    assert send.system_prompt == "Be brief."
    turn = world.of(Settle)[0].turn
    assert (turn.prompt, turn.answer, turn.user_id) == ("Hello", "Hi!", "bo")
    assert reply["conversation_id"] == "c"


def test_a_failed_turn_appends_nothing() -> None:
    error = ContextTooLong("too long", provider="openai", status=400)
    world = World(admitted=Conversation("c"), sends=[error])
    world.run(ask(conv_id="c"))
    assert world.of(Settle)[0].turn is None


def test_a_turn_that_cannot_be_saved_is_told_with_the_answer(events: list[Event]) -> None:
    world = World(
        admitted=Conversation("c"), on_settle=[Returned(ConversationUnavailable("damaged"))]
    )
    assert world.run(ask(conv_id="c"))["success"]
    assert any(isinstance(event, ConversationNotSaved) for event in events)


def test_the_user_and_the_conversation_are_asked_for_at_once_and_first() -> None:
    world = World()
    world.run(ask(user_id="bo"))
    assert world.effects[0] == Admit("bo", None)
    world = World(admitted=Conversation("c"))
    world.run(ask(user_id="bo", conv_id="c"))
    assert world.effects[0] == Admit("bo", "c")


@pytest.mark.parametrize(
    ("source", "who"), [("user", "user 'bo' has"), ("all_users", "all users together have")]
)
@pytest.mark.parametrize("request_", [ask(user_id="bo"), ask(user_id="bo", conv_id="c")])
def test_a_user_who_asks_too_often_is_refused_before_anything_is_reserved(
    events: list[Event], request_: ChatRequest, source: str, who: str
) -> None:
    world = World(admitted=Overdrawn(source, 1.25))
    reply = world.run(request_)
    assert world.names == ["Admit"]
    assert (reply["success"], reply["error_type"]) == (False, "user_rate_limited")
    assert (reply["retry_after"], reply["attempts"]) == (1.25, [])
    assert reply["error"].startswith(who)
    assert "1.250 s" in reply["error"]
    assert events == [UserRefused("r", "bo", source, 1.25)]


def test_a_refused_user_does_not_wait_for_the_next_turn() -> None:
    world = World(admitted=Overdrawn("user", 0.5))
    assert not world.run(ask(user_id="bo", max_wait=60.0))["success"]
    assert world.now == 100.0


def test_a_limit_that_cannot_be_read_is_a_typed_refusal() -> None:
    world = World(admitted=StorageError("Redis is away"))
    assert world.run(ask(user_id="bo"))["error_type"] == "redis_unavailable"
    assert world.names == ["Admit"]


def test_an_unreadable_history_refuses_before_anything_is_reserved() -> None:
    world = World(admitted=ConversationUnavailable("Redis is away"))
    reply = world.run(ask(conv_id="c"))
    assert reply["error_type"] == "conversation_unavailable"
    assert world.names == ["Admit"]


def test_another_users_conversation_is_refused() -> None:
    from conversation.records import Metadata

    meta = Metadata("c", 2, 10, "t", "t", user_id="alice")
    world = World(admitted=Conversation("c", metadata=meta))
    assert world.run(ask(conv_id="c", user_id="bob"))["error_type"] == "invalid_request"


def test_an_abandoned_flow_asks_for_nothing_more() -> None:
    world = World()
    flow = route(ask(), world.around(RetryRules()))
    assert next(flow) == Admit(None, None)
    reserve = flow.send(None)
    assert isinstance(flow.send(world._perform(reserve)), Send)
    flow.close()


def cut(error: RouterError, text: str = "Hel", usage: Usage | None = None) -> StreamCut:
    return StreamCut(error, ProviderReply(text, "m", "other", usage))


def test_a_stream_is_opened_relayed_and_settled_with_what_was_used() -> None:
    world = World(sends=[None], relays=[ANSWER])
    reply = world.run(ask(streamed=True))
    assert world.names == ["Admit", "Reserve", "OpenStream", "Relay", "Settle"]
    assert (reply["content"], reply["tokens"]["output"]) == ("Hi!", 3)
    assert world.of(Settle)[0].end.charge.output == 3


def test_before_its_first_text_a_stream_is_tried_on_other_keys() -> None:
    limited = ProviderRateLimited("429", provider="openai", status=429)
    world = World(sends=[limited, down(), None], relays=[ANSWER])
    reply = world.run(ask(streamed=True))
    assert [a["key_id"] for a in reply["attempts"]] == ["a", "b", "c"]
    assert reply["success"]
    assert "partial" not in reply


def test_after_it_a_stream_that_breaks_is_not_tried_again_and_charges_what_it_produced() -> None:
    world = World(sends=[None, None], relays=[cut(down(), usage=Usage(9, 1))])
    reply = world.run(ask(streamed=True))
    assert world.names == ["Admit", "Reserve", "OpenStream", "Relay", "Settle"]
    assert (reply["success"], reply["partial"]) == (False, "Hel")
    assert reply["error_type"] == "provider_unavailable"
    (settle,) = world.of(Settle)
    assert settle.end.charge.requests == 1
    assert 1 <= settle.end.charge.output <= 3
    assert settle.end.usage is None, "nobody learns from an estimate"
    assert not settle.end.answered


def test_a_429_in_the_middle_of_a_stream_cools_the_group() -> None:
    limited = ProviderRateLimited("slow", provider="openai", status=429, retry_after=4.0)
    world = World(sends=[None], relays=[cut(limited)])
    assert world.run(ask(streamed=True))["error_type"] == "rate_limited"
    mark = world.of(Settle)[0].end.marks[0]
    assert (mark.state, mark.milliseconds) == ("throttled", 4_000)


def test_a_caller_who_stops_is_charged_what_was_produced_and_the_key_stays_well() -> None:
    world = World(sends=[None], relays=[cut(RequestCancelled("stopped"), "Hello you")])
    reply = world.run(ask(streamed=True))
    assert (reply["error_type"], reply["partial"]) == ("cancelled", "Hello you")
    (settle,) = world.of(Settle)
    assert settle.end.marks == ()
    assert settle.end.answered
    assert 0 < settle.end.charge.output < 10


@pytest.mark.parametrize("keep", [False, True])
def test_the_turn_of_a_stream_that_was_cut_is_kept_only_if_the_caller_says_so(keep: bool) -> None:
    stopped = cut(RequestCancelled("stopped"), "Hello you")
    world = World(sends=[None], relays=[stopped], admitted=Conversation("c"))
    world.run(ask(streamed=True, conv_id="c", keep_partial=keep))
    turn = world.of(Settle)[0].turn
    assert (turn.answer if turn else None) == ("Hello you" if keep else None)


def test_an_interrupted_reservation_is_asked_for_again_and_given_back() -> None:
    world = World(reserves=[KeyboardInterrupt()])
    with pytest.raises(KeyboardInterrupt):
        world.run(ask(max_wait=5.0))
    assert world.names == ["Admit", "Reserve", "Reserve", "Settle"]
    first, again = world.of(Reserve)
    assert (again.reservation_id, again.max_wait) == (first.reservation_id, 0.0)
    assert world.of(Settle)[0].end.charge.requests == 0
