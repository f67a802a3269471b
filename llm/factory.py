"""The one place that puts the parts together."""

from __future__ import annotations

from collections.abc import Callable

from conversation.store import ConversationStore
from core.redis_connection import RedisConnection, open_redis, shared_redis
from core.settings import Settings, get_settings
from keys.manager import KeyManager, build_key_manager, get_key_manager
from keys.rate_limiter import build_rate_limiter
from keys.registry import KeyRegistry
from keys.secret_store import SecretStore, build_secrets, close_store, get_secret_store
from llm.async_router import AsyncRequestRouter
from llm.parts import RouterParts
from llm.providers.registry import ProviderRegistry, get_provider_registry
from llm.router import RequestRouter
from llm.routing.drivers import Parts
from llm.routing.flow import RetryRules, Surroundings
from llm.routing.retry_budget import RetryBudget
from llm.tokens import TokenCounter, load_tiktoken
from lua.names import Names
from observability.logs import follow_with_logs
from observability.metrics import follow_with_metrics


def build_router(
    settings: Settings | None = None,
    *,
    providers: ProviderRegistry | None = None,
    secret_store: SecretStore | None = None,
) -> RequestRouter:
    """Make a router of its own.

    Args:
        settings: by default those of the environment and `.env`.
        providers: by default OpenAI, Anthropic, Gemini and those that were registered.
        secret_store: by default the one that `SECRET_STORE_TYPE` names.

    Raises:
        core.errors.ConfigurationError: a setting or `keys.json` is wrong or missing.

    Example:
        >>> router = build_router()                         # doctest: +SKIP
        >>> router.health_check()["healthy"]                # doctest: +SKIP
        True
    """
    return RequestRouter(_parts(settings, providers, secret_store))


def build_async_router(
    settings: Settings | None = None,
    *,
    providers: ProviderRegistry | None = None,
    secret_store: SecretStore | None = None,
    registry: KeyRegistry | None = None,
) -> AsyncRequestRouter:
    """Make a router of its own for tasks. It may take a second where it starts a server.

    Args:
        settings, providers, secret_store: as for `build_router`.
        registry: the keys, by default those of `KEYS_FILE`.

    Raises:
        As `build_router`.

    Example:
        >>> async with build_async_router() as router:      # doctest: +SKIP
        ...     (await router.health_check())["healthy"]
        True
    """
    return AsyncRequestRouter(_parts(settings, providers, secret_store, registry))


def build_process_router() -> RequestRouter:
    """The router that shares its Redis and its keys with all of this process.

    Raises:
        core.errors.ConfigurationError: a setting or `keys.json` is wrong or missing.
    """
    return RequestRouter(_process_parts())


def build_process_async_router() -> AsyncRequestRouter:
    """The router for tasks that shares its Redis and its keys with all of this process.

    Raises:
        core.errors.ConfigurationError: a setting or `keys.json` is wrong or missing.
    """
    return AsyncRequestRouter(_process_parts())


def _process_parts() -> RouterParts:
    return _assemble(get_settings(), shared_redis(), get_key_manager(), None, None, ())


def _parts(
    settings: Settings | None,
    providers: ProviderRegistry | None,
    secret_store: SecretStore | None,
    registry: KeyRegistry | None = None,
) -> RouterParts:
    settings = settings or get_settings()
    connection = open_redis(settings)
    try:
        keys = build_key_manager(settings, connection, registry)
        giving_back = (connection.close, keys.close)
        return _assemble(settings, connection, keys, providers, secret_store, giving_back)
    except BaseException:
        connection.close()
        raise


def _assemble(
    settings: Settings,
    connection: RedisConnection,
    keys: KeyManager,
    providers: ProviderRegistry | None,
    secret_store: SecretStore | None,
    giving_back: tuple[Callable[[], None], ...],
) -> RouterParts:
    store = secret_store or get_secret_store(settings)
    secrets = build_secrets(settings, store)
    names = Names(settings.redis_key_prefix)
    driver = Parts(
        keys=keys,
        secrets=secrets,
        providers=providers or get_provider_registry().fresh(),
        conversations=ConversationStore(keys.calls, names, settings.conversation_ttl_seconds),
        limiter=build_rate_limiter(settings, keys.calls, keys.routers_while_away),
    )
    keys.use_secrets(store, driver.secrets.forget)
    around = Surroundings(
        rules=RetryRules(settings.llm_max_retries, settings.llm_base_backoff_ms / 1000),
        tokens=TokenCounter(load_tiktoken),
        models_of=keys.models_of,
        ratio_of=keys.ratio_of,
        budget=RetryBudget(settings.llm_retry_budget),
        abilities_of=driver.providers.abilities_of,
        keys_of=keys.keys_of,
        embedding_limits_of=driver.providers.embedding_limits_of,
    )
    # Followed last: whatever is refused above has left nothing behind.
    unfollow_logs = follow_with_logs(settings)
    unfollow_metrics = follow_with_metrics(settings, keys.get_all_key_statuses)
    if secret_store is None:  # one that was given belongs to who made it
        giving_back = (*giving_back, lambda: close_store(store))
    on_close = (*giving_back, unfollow_metrics, unfollow_logs, secrets.close)
    return RouterParts(settings, connection, driver, around, on_close)
