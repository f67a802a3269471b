"""ApiKeyRouter: the examples of its guide with only the import paths changed, and its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import llm.factory
import llm.providers.openai as openai_adapter
from core.errors import ConfigurationError
from core.redis_connection import RedisConnection
from core.settings import Settings, get_settings
from llm.api_key_router import (
    ApiKeyRouter,
    CostEstimate,
    Message,
    NoEligibleKeysError,
    ProviderAdapter,
    RequestIntent,
    RouterSettings,
    RoutingObjective,
    SystemError,
    SystemResponse,
)
from llm.providers.openai import OpenAIAdapter
from tests.integration.elsewhere import offline
from tools.simulated_provider import SimulatedProvider


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatedProvider]:
    with SimulatedProvider() as running:
        yield running


@pytest.fixture(autouse=True)
def _at_home(
    simulator: SimulatedProvider,
    redis_server: RedisConnection,
    redis_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`ApiKeyRouter()` finds this worker's server, and OpenAI at the simulation's address."""
    chosen: dict[str, Any] = {"_env_file": None, "llm_data_dir": redis_folder}
    monkeypatch.setattr("llm.api_key_router.get_settings", lambda: Settings(**chosen))
    monkeypatch.setattr(openai_adapter, "OFFICIAL", simulator.openai_base_url)
    monkeypatch.setattr(llm.factory, "load_tiktoken", offline)
    get_settings.cache_clear()


def test_basic_usage(capsys: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        # Initialize router
        router = ApiKeyRouter()

        # Register a provider adapter
        openai_adapter = OpenAIAdapter()
        await router.register_provider("openai", openai_adapter)

        # Register API keys
        key1 = await router.register_key(
            key_material="-".join(("sk", "your", "openai", "key", "1")),
            provider_id="openai",
            metadata={"account_tier": "pro", "region": "us-east"},
        )

        key2 = await router.register_key(
            key_material="-".join(("sk", "your", "openai", "key", "2")),
            provider_id="openai",
            metadata={"account_tier": "basic"},
        )

        # Route a request
        intent = RequestIntent(
            model="gpt-4",
            messages=[Message(role="user", content="Hello, world!")],
            provider_id="openai",
        )

        # Route with cost optimization
        response = await router.route(intent, objective="cost")
        print(f"Response: {response.content}")
        print(f"Key used: {response.key_used}")
        print(f"Cost: ${response.cost}")
        assert response.key_used in (key1.id, key2.id)
        await router.close()

    asyncio.run(main())
    said = capsys.readouterr().out
    assert "Hello, world!" in said
    assert "Cost: $0" in said


def test_custom_provider_adapter() -> None:
    class MyCustomAdapter(ProviderAdapter):
        async def execute_request(self, intent: RequestIntent, key: str) -> SystemResponse:
            return SystemResponse(content=f"{intent.messages[-1].content}, said with {len(key)}")

        async def estimate_cost(self, request_intent: RequestIntent) -> CostEstimate:
            return CostEstimate(Decimal("0.01"))

    async def main() -> str:
        async with ApiKeyRouter() as router:
            # Register custom adapter
            await router.register_provider("my-provider", MyCustomAdapter())
            await router.register_key("a-key-of-mine", "my-provider")
            intent = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
            response = await router.route(intent)
            texts = [text async for text in router.route_stream(intent)]
            assert texts == [response.content]
            return response.content

    assert asyncio.run(main()) == "Hi, said with 13"


def test_library_usage() -> None:
    async def main() -> None:
        config = RouterSettings(max_decisions=1000, max_transitions=500, log_level="INFO")
        router = ApiKeyRouter(config=config)
        await router.close()

        # Using async context manager
        async with ApiKeyRouter() as router:
            await router.register_provider("openai", OpenAIAdapter())

            # Register multiple keys
            keys = []
            for i in range(5):
                key = await router.register_key(
                    key_material=f"sk-key-{i}", provider_id="openai", metadata={"index": i}
                )
                keys.append(key)

            intent = RequestIntent(
                model="gpt-4",
                messages=[Message(role="user", content="Hello, how are you?")],
                provider_id="openai",
            )

            response = await router.route(intent)
            assert "Hello, how are you?" in response.content
            assert response.metadata.key_used in {key.id for key in keys}
            assert response.metadata.cost_actual == 0

            async for chunk in router.route_stream(intent):
                print(chunk, end="", flush=True)

            # Combine multiple objectives with weights
            objective = RoutingObjective(
                primary="cost",
                secondary=["reliability", "fairness"],
                weights={"cost": 0.5, "reliability": 0.3, "fairness": 0.2},
                constraints={"min_reliability": 0.95},
            )
            assert (await router.route(intent, objective=objective)).content
            summary = await router.get_state_summary()
            assert (summary["total_keys"], summary["keys_by_provider"]) == (5, {"openai": 5})

    asyncio.run(main())


def test_errors_have_the_names_that_programs_catch(simulator: SimulatedProvider) -> None:
    async def main() -> None:
        async with ApiKeyRouter() as router:
            intent = RequestIntent("gpt-4", [Message("user", "Hello")], "openai")
            with pytest.raises(NoEligibleKeysError):
                await router.route(intent)
            with pytest.raises(ConfigurationError, match="register_provider"):
                await router.register_key("sk-a", "openai")
            await router.register_provider("openai", OpenAIAdapter())
            await router.register_key("sk-full", "openai", {"rpm": 1, "cost_per_1k": "0.01"})
            first = await router.route(intent)
            assert first.cost == Decimal("0.01") * first.metadata.token_usage.total / 1000
            with pytest.raises(NoEligibleKeysError) as full:
                await router.route(intent)
            assert full.value.retry_after is not None
            await router.register_key("sk-fails", "openai")
            simulator.add_fault("context_length_exceeded", times=1)
            with pytest.raises(SystemError) as failed:
                await router.route(intent)
            assert failed.value.category == "context_too_long"
            with pytest.raises(SystemError, match="one message"):
                await router.route({"model": "gpt-4", "messages": []})

    asyncio.run(main())


def test_no_secret_reaches_redis(redis_server: RedisConnection) -> None:
    secret = "-".join(("sk", "a", "very", "secret", "one"))

    async def main() -> None:
        async with ApiKeyRouter() as router:
            await router.register_provider("openai", OpenAIAdapter())
            await router.register_key(secret, "openai")
            await router.route(RequestIntent("gpt-4", [Message("user", "Hello")]))
            assert secret not in repr(vars(router))

    asyncio.run(main())
    client = redis_server.client
    for name in client.scan_iter():
        assert secret not in str(name)
        assert secret not in str(client.dump(name))
