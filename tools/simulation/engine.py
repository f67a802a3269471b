"""One request from its arrival to its last byte.

The order is the providers': the key, the form of the request, then limits, then the answer. A named
error strikes before the limits, so it costs the key nothing; a broken transport strikes after them:
the request was counted, only its answer is lost.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType

from aiohttp import web

from tools.simulation import delivery
from tools.simulation.accounts import Account, AccountBook
from tools.simulation.calls import (
    Answer,
    Call,
    Dialect,
    Operation,
    compose,
    count_tokens,
    dump,
)
from tools.simulation.errors import TABLE, Facts, Row
from tools.simulation.faults import FaultBook, Strike
from tools.simulation.faulty import InvalidRequest
from tools.simulation.latency import parse_latency
from tools.simulation.quotas import Quota, Refusal
from tools.simulation.settings import SimulationSettings

NOTHING: Mapping[str, str] = MappingProxyType({})


class Engine:
    """Answers calls in any dialect, with the limits, faults and counts of one simulation."""

    def __init__(self, settings: SimulationSettings, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.clock = clock
        self.random = Random(settings.seed)
        self.accounts = AccountBook(settings, clock)
        self.faults = FaultBook(self.random, settings.faults)
        self.latency = parse_latency(settings.latency)
        self._numbers = itertools.count(1)

    async def handle(
        self, dialect: Dialect, operation: Operation, request: web.Request
    ) -> web.StreamResponse:
        """The reply to one HTTP request."""
        raw = await request.read()
        number = next(self._numbers)
        exchange = _Exchange(self, dialect, request, f"{number:024x}")
        secret = dialect.secret(request)
        if secret is None:
            return exchange.error("missing_api_key", Facts())
        account = self.accounts.find(secret)
        if account.revoked:
            return exchange.refuse(account, "revoked", dialect.revoked_row, Facts())
        try:
            body = json.loads(raw)
            if not isinstance(body, dict):
                raise InvalidRequest("the body must be a JSON object")
            call = dialect.parse(operation, body, request)
        except InvalidRequest as error:
            facts = Facts(detail=str(error), param=error.param)
            return exchange.refuse(account, "invalid", error.row or dialect.invalid_row, facts)
        except ValueError:
            facts = Facts(detail="We could not parse the JSON body of your request.")
            return exchange.refuse(account, "invalid", dialect.invalid_row, facts)
        return await exchange.answer(account, call)


class _Exchange:
    """One request and what is needed to answer it."""

    __slots__ = ("dialect", "engine", "id", "request", "request_id", "rows")

    def __init__(self, engine: Engine, dialect: Dialect, request: web.Request, id: str) -> None:
        self.engine = engine
        self.dialect = dialect
        self.request = request
        self.id = id
        self.request_id = f"req_{id}"
        self.rows = TABLE[dialect.protocol]

    async def answer(self, account: Account, call: Call) -> web.StreamResponse:
        engine, settings, dialect = self.engine, self.engine.settings, self.dialect
        now = engine.clock()
        strike = engine.faults.strike(dialect.protocol, call.model, account.names)
        if strike.name:
            account.faults[strike.name] += 1
        row = self.rows.get(strike.name)
        midway = call.stream and strike.fault is not None and strike.fault.midway
        if row is not None and row.outcome is None and not midway:
            await asyncio.sleep(strike.delay)
            facts = self._facts(call, strike, row)
            asked = strike.fault is not None and strike.fault.retry_after is not None
            tells = asked or row.retry_after is not None
            told = dialect.retry_headers(facts.wait, facts.fine) if tells else {}
            return self.refuse(account, strike.name, strike.name, facts, told)

        estimate = count_tokens(call.characters, settings.chars_per_token)
        if settings.context_tokens is not None and estimate > settings.context_tokens:
            facts = Facts(model=call.model, tokens=estimate, context=settings.context_tokens)
            return self.refuse(account, "context", dialect.context_row, facts)
        if call.operation == "count":
            reply = dialect.reply(call, self._compose(call, None))
            return delivery.whole(dump(reply), dialect.headers(None, now, self.request_id))

        charged = estimate
        if dialect.cached_input_is_free:
            charged -= int(estimate * settings.cached_share)
        quota = engine.accounts.quota(account, dialect.protocol, call.model)
        tokens = dialect.charged_tokens(call, charged, account.settings.token_rule)
        refusal = account.admit(quota, now, tokens, charged)
        if refusal is not None:
            return self._limited(call, quota, refusal, now)
        with account.under_way(quota):
            delay = strike.delay
            if engine.latency is not None:
                delay += engine.latency(engine.random)
            if delay:
                await asyncio.sleep(delay)
            return await self._admitted(account, quota, call, strike, row)

    async def _admitted(
        self, account: Account, quota: Quota, call: Call, strike: Strike, row: Row | None
    ) -> web.StreamResponse:
        dialect, settings, clock = self.dialect, self.engine.settings, self.engine.clock
        answer = self._compose(call, row)
        account.tokens_in += answer.input_tokens
        content_type = delivery.STREAM_TYPE if call.stream else delivery.JSON_TYPE
        fault = strike.name if row is None else ""
        if fault:
            instead = await delivery.replaced(self.request, fault, content_type)
            if instead is not None:
                return instead
        seconds = strike.fault.seconds if strike.fault is not None else None
        pause = seconds if isinstance(seconds, float | int) else None

        def produced(tokens: int) -> None:
            account.tokens_out += tokens
            quota.produce(clock(), tokens, dialect.output_counts_in_tpm)

        if not call.stream:
            produced(answer.output_tokens)
            headers = dialect.headers(quota, clock(), self.request_id)
            body = dump(dialect.reply(call, answer))
            if not fault:
                return delivery.whole(body, headers)
            return await delivery.interrupted(self.request, body, headers, fault, pause)

        headers = dialect.headers(quota, clock(), self.request_id)
        frames = dialect.stream(call, answer, settings.chunk_tokens)
        end: str | bytes = fault
        if row is not None and row.outcome is None:
            body_of_error = dialect.error(row, self._facts(call, strike, row), self.request_id)
            end = dialect.error_event(body_of_error)
        if end:
            return await delivery.interrupted_stream(
                self.request, frames, headers, produced, end, pause
            )
        if call.as_array:
            content_type = delivery.JSON_TYPE
        return await delivery.streamed(
            self.request, frames, headers, produced, settings.chunk_seconds, content_type
        )

    def error(self, name: str, facts: Facts, told: Mapping[str, str] = NOTHING) -> web.Response:
        """A named error of this dialect, with the headers `told` beside the usual ones."""
        row = self.rows[name]
        headers = {**self.dialect.headers(None, 0.0, self.request_id), **told}
        body = dump(self.dialect.error(row, facts, self.request_id))
        return delivery.whole(body, headers, row.status)

    def refuse(
        self,
        account: Account,
        reason: str,
        name: str,
        facts: Facts,
        told: Mapping[str, str] = NOTHING,
    ) -> web.Response:
        """A named error, counted as a refusal for `reason`."""
        account.refused_by[reason] += 1
        return self.error(name, facts, told)

    def _limited(self, call: Call, quota: Quota, refusal: Refusal, now: float) -> web.Response:
        dialect = self.dialect
        name = dialect.refusal_row(refusal)
        fine = quota.tells_thousandths
        wait = refusal.wait if math.isfinite(refusal.wait) else quota.seconds
        facts = Facts(
            model=call.model,
            what=dialect.limit_words[refusal.name],
            limit=refusal.limit,
            used=refusal.used,
            requested=refusal.requested,
            wait=wait,
            fine=fine,
        )
        headers = dialect.headers(quota, now, self.request_id)
        if self.rows[name].retry_after is not None:
            headers |= dialect.retry_headers(wait, fine)
        return self.error(name, facts, headers)

    def _facts(self, call: Call, strike: Strike, row: Row) -> Facts:
        told = strike.fault.retry_after if strike.fault is not None else None
        wait = told if told is not None else row.retry_after
        words = self.dialect.limit_words
        limits = self.dialect.limit_rows.items()
        what = next((words[limit] for limit, name in limits if name == strike.name), "")
        return Facts(
            model=call.model,
            what=what or words["rpm"],
            wait=wait if wait is not None else 0.0,
            fine=told is not None and told != int(told),
        )

    def _compose(self, call: Call, row: Row | None) -> Answer:
        settings = self.engine.settings
        per_token = settings.usage_chars_per_token or settings.chars_per_token
        input_tokens = count_tokens(call.characters, per_token)
        if call.operation == "chat":
            text, output_tokens, outcome, used = compose(call, settings, self.id[-12:])
        else:
            text, output_tokens, outcome, used = "", 0, "stop", ()
        if row is not None and row.outcome is not None:
            text, output_tokens, outcome, used = "", 0, row.outcome, ()
        return Answer(
            id=self.id,
            created=int(self.engine.clock()),
            model=call.model,
            text=text,
            input_tokens=input_tokens,
            cached_tokens=int(input_tokens * settings.cached_share),
            output_tokens=output_tokens,
            outcome=outcome,
            used=used,
        )
