"""ApiKeyRouter: keys are registered by the program, and requests are routed over them.

The same core as `AsyncRequestRouter`: exact limits, failover, settled use. The keys are this
process's own; their secrets lie encrypted, and never in Redis.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

from pydantic import SecretStr

from core.errors import ConfigurationError, InvalidRequest, StreamInterrupted
from core.settings import Settings, get_settings
from core.types import ChatRequest, Reply
from core.types import Message as CoreMessage
from keys.secrets.store import WritableStore
from llm.api_key_parts import (
    PROVIDER_TAG,
    ForeignAdapter,
    OnePerKey,
    OwnKeys,
    id_of,
    spec_of,
    store_of,
)
from llm.api_key_types import (
    OBJECTIVES,
    BudgetExceededError,
    CostEstimate,
    Message,
    NoEligibleKeysError,
    ProviderAdapter,
    RedisStateStore,
    RegisteredKey,
    RequestIntent,
    ResponseMetadata,
    RouterSettings,
    RoutingObjective,
    SystemError,
    SystemResponse,
    TokenUsage,
)
from llm.arguments import checked
from llm.async_router import AsyncRequestRouter
from llm.providers.base import AsyncAdapter
from llm.providers.base import ProviderAdapter as CoreAdapter
from llm.providers.registry import ProviderRegistry

__all__ = [
    "ApiKeyRouter",
    "BudgetExceededError",
    "CostEstimate",
    "Message",
    "NoEligibleKeysError",
    "ProviderAdapter",
    "RedisStateStore",
    "RegisteredKey",
    "RequestIntent",
    "ResponseMetadata",
    "RouterSettings",
    "RoutingObjective",
    "SystemError",
    "SystemResponse",
    "TokenUsage",
]


def tiers_of(
    objective: str | RoutingObjective | None, usual: str, intent: RequestIntent
) -> dict[str, Any]:
    """What an objective asks of the limiter's choice, as fields of the request.

    This is the one place where objectives meet the choice: candidates come to it in tiers, and
    within a tier the one with the most room wins, which is fairness. So every objective is checked,
    and answered alike until keys have prices and records to be ordered by.

    Raises:
        InvalidRequest: no such objective.
    """
    primary = objective.primary if isinstance(objective, RoutingObjective) else objective or usual
    if primary not in OBJECTIVES:
        raise InvalidRequest(f"objective is {primary!r}; write one of {', '.join(OBJECTIVES)}")
    return {"tags": {} if intent.provider_id is None else {PROVIDER_TAG: intent.provider_id}}


class ApiKeyRouter:
    """Routes requests of tasks over keys that the program registers.

    Args:
        state_store: which Redis keeps the state; by default that of the settings.
        config: settings in the program's own words.
        settings: all other settings, by default those of the environment.
        secret_store: where secrets are put; by default they stay encrypted in this process.

    Example:
        >>> async with ApiKeyRouter() as router:                         # doctest: +SKIP
        ...     await router.register_provider("openai", OpenAIAdapter())
        ...     await router.register_key(key_material="sk-...", provider_id="openai")
        ...     intent = RequestIntent("gpt-4o", [Message("user", "Hello")], "openai")
        ...     (await router.route(intent)).content
        'Hello!'
    """

    def __init__(
        self,
        state_store: RedisStateStore | None = None,
        config: RouterSettings | None = None,
        *,
        settings: Settings | None = None,
        secret_store: WritableStore | None = None,
    ) -> None:
        self._config = config or RouterSettings()
        self._settings = settings
        self._state_store = state_store
        self._secrets: OnePerKey = store_of(secret_store, self._config.encryption_key)
        self._providers = ProviderRegistry({})
        self._adapters: list[CoreAdapter] = []
        self._registered: dict[str, RegisteredKey] = {}
        self._keys = OwnKeys()
        self._router: AsyncRequestRouter | None = None
        self._building: asyncio.Lock | None = None

    async def register_provider(
        self, provider_id: str, adapter: CoreAdapter | ProviderAdapter
    ) -> None:
        """Add a provider.

        Args:
            adapter: one of `llm.providers`, or one of your own with `execute_request`. It is the
                router's from now on, and closed with it.

        Raises:
            core.errors.ConfigurationError: the name or the adapter is not of that kind.
        """
        known = ForeignAdapter(adapter) if isinstance(adapter, ProviderAdapter) else adapter
        self._providers.register(provider_id, known)
        self._adapters.append(known)

    async def register_key(
        self, key_material: str, provider_id: str, metadata: Mapping[str, Any] | None = None
    ) -> RegisteredKey:
        """Add a key. Its secret is encrypted at once.

        Args:
            metadata: of your own; `rpm, tpm, itpm, otpm, rpd, tpd, max_parallel, base_url,
                priority, quota_group` are for the limiter, `cost_per_1k` for the cost.

        Raises:
            core.errors.ConfigurationError: the provider is not registered, or a limit is wrong.
            core.errors.SecretMalformed: the secret cannot be one.
        """
        if provider_id not in self._providers.names():
            raise ConfigurationError(
                f"provider {provider_id!r} is not registered; call register_provider first"
            )
        key = RegisteredKey(f"{provider_id}-{uuid4().hex[:12]}", provider_id, dict(metadata or {}))
        spec = spec_of(key, "any")
        await asyncio.to_thread(self._secrets.put, spec, SecretStr(key_material))
        self._registered[key.id] = key
        return key

    async def route(
        self,
        intent: RequestIntent | Mapping[str, Any],
        objective: str | RoutingObjective | None = None,
    ) -> SystemResponse:
        """Route a request to its answer.

        Args:
            intent: a RequestIntent, or a dict with its fields.
            objective: by what a key is chosen; see `tiers_of`.

        Raises:
            NoEligibleKeysError: no key can serve now.
            BudgetExceededError: a budget forbids it.
            SystemError: it failed otherwise; `category` says how.
        """
        request = self._request(intent, objective)
        router = await self._open()
        return self._response(await router._send(request))

    async def route_stream(
        self,
        intent: RequestIntent | Mapping[str, Any],
        objective: str | RoutingObjective | None = None,
    ) -> AsyncIterator[str]:
        """Route a request, and give the texts of its answer as they arrive. Raises as `route`."""
        request = self._request(intent, objective)
        router = await self._open()
        async with router._stream(request) as stream:
            try:
                async for chunk in stream:
                    if chunk.reply is not None:
                        self._response(chunk.reply)
                    elif chunk.text:
                        yield chunk.text
            except StreamInterrupted as cut:
                raise SystemError(cut.error_type, str(cut), cut.partial) from None

    async def get_state_summary(self) -> dict[str, Any]:
        """How many keys there are and how they fare.

        Returns:
            `total_keys`, `providers`, `keys_by_provider`, `keys_by_state`, `redis`.
        """
        router = await self._open()
        statuses = await asyncio.to_thread(router._parts.driver.keys.get_all_key_statuses)
        states = dict.fromkeys(self._registered, "available")
        for status in statuses:
            if status["state"] != "available":
                states[id_of(status["key_id"])] = status["state"]
        providers = [key.provider_id for key in self._registered.values()]
        return {
            "total_keys": len(self._registered),
            "providers": list(self._providers.names()),
            "keys_by_provider": {name: providers.count(name) for name in sorted(set(providers))},
            "keys_by_state": {
                state: list(states.values()).count(state) for state in sorted(set(states.values()))
            },
            "redis": router._parts.redis.description,
        }

    async def close(self) -> None:
        """Give back connections and clients; the router is not used afterwards."""
        router, self._router = self._router, None
        if router is not None:
            await router.aclose()
        for adapter in self._adapters:
            if isinstance(adapter, AsyncAdapter):
                await adapter.aclose()
            adapter.close()
        self._adapters.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    # -- inside --------------------------------------------------------------------------------

    async def _open(self) -> AsyncRequestRouter:
        """The router behind this one, made at its first use, off the loop."""
        if self._router is None:
            from llm.factory import build_async_router

            self._building = self._building or asyncio.Lock()
            async with self._building:
                if self._router is None:
                    self._router = await asyncio.to_thread(
                        build_async_router,
                        self._chosen(),
                        providers=self._providers,
                        secret_store=self._secrets,
                        registry=self._keys,
                    )
        return self._router

    def _chosen(self) -> Settings:
        settings = self._settings or get_settings()
        changes: dict[str, Any] = {}
        if self._state_store is not None:
            changes["redis_url"] = self._state_store.redis_url
        if self._config.log_level is not None:
            changes["log_level"] = self._config.log_level
        return settings.model_copy(update=changes)

    def _request(self, intent: Any, objective: str | RoutingObjective | None) -> ChatRequest:
        asked = _intent_of(intent)
        asking = tiers_of(objective, self._config.default_objective, asked)
        for key in self._registered.values():
            spec = spec_of(key, asked.model)
            fits = asked.provider_id in (None, key.provider_id)
            if fits and self._keys.get(spec.key_id) is None:
                self._keys.add(spec)
        given, settings = asked.parameters, self._settings or get_settings()
        most = int(given.get("max_tokens") or 2048)
        try:
            return checked(
                ChatRequest(
                    request_id=uuid4().hex,
                    messages=tuple(CoreMessage(m.role, m.content) for m in asked.messages),
                    model_preference=asked.model,
                    max_output_tokens=most,
                    expected_completion_tokens=min(most, int(given.get("expected_tokens", 512))),
                    temperature=given.get("temperature"),
                    timeout=float(given.get("timeout") or settings.llm_request_timeout_seconds),
                    max_wait=float(given.get("max_wait", 0.0)),
                    idle_timeout=settings.llm_stream_idle_seconds,
                    **asking,
                )
            )
        except InvalidRequest as error:
            raise SystemError("invalid_request", str(error)) from None

    def _response(self, reply: Reply) -> SystemResponse:
        if not reply["success"]:
            raise _error_of(reply)
        key = id_of(reply["key_id"])
        tokens = TokenUsage(reply["tokens"]["input"], reply["tokens"]["output"])
        price = Decimal(str(self._registered[key].metadata.get("cost_per_1k", 0)))
        cost = price * tokens.total / 1000
        return SystemResponse(
            content=reply["content"] or "",
            key_used=key,
            cost=cost,
            metadata=ResponseMetadata(
                key_used=key,
                provider_id=reply["provider"] or "",
                model_used=reply["model"] or "",
                token_usage=tokens,
                cost_actual=cost,
                attempts=tuple(reply["attempts"]),
                response_time_ms=reply["duration_ms"],
                request_id=reply["request_id"],
            ),
        )


def _intent_of(given: Any) -> RequestIntent:
    try:
        intent = given if isinstance(given, RequestIntent) else RequestIntent(**given)
        messages = [m if isinstance(m, Message) else Message(**m) for m in intent.messages]
    except TypeError as error:
        raise SystemError(
            "invalid_request",
            f"an intent is a RequestIntent, or a dict with model, messages, provider_id: {error}",
        ) from None
    if not messages:
        raise SystemError("invalid_request", "an intent needs one message at least")
    return RequestIntent(intent.model, messages, intent.provider_id, intent.parameters)


def _error_of(reply: Reply) -> Exception:
    kind, message = reply["error_type"], reply["error"]
    if kind in ("no_keys", "rate_limited"):
        return NoEligibleKeysError(message, reply.get("retry_after"))
    if kind == "budget_exceeded":
        return BudgetExceededError(message)
    return SystemError(kind, message)
