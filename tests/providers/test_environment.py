"""What other programs left in the environment neither redirects nor re-authenticates a key."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import ConnectionFailed
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import Dialect, call_of, new_secret
from tests.providers.scripted import Reply, ScriptedServer

OFFICIAL = {
    "openai": "api.openai.com:443",
    "anthropic": "api.anthropic.com:443",
    "gemini": "generativelanguage.googleapis.com:443",
}


@pytest.fixture
def strays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Every variable by which an SDK takes a key, an account or an address; their keys."""
    keys = [new_secret() for _ in range(3)]
    with ScriptedServer() as decoy:
        url = decoy.url
    headers = (
        f"Authorization: Bearer {keys[0]}\nX-Api-Key: {keys[1]}\nOpenAI-Organization: org-other"
    )
    strays = {
        "OPENAI_API_KEY": keys[0],
        "OPENAI_ADMIN_KEY": keys[1],
        "OPENAI_BASE_URL": url,
        "OPENAI_ORG_ID": "org-other",
        "OPENAI_PROJECT_ID": "proj_other",
        "OPENAI_CUSTOM_HEADERS": headers,
        "OPENAI_API_TYPE": "azure",
        "AZURE_OPENAI_ENDPOINT": url,
        "ANTHROPIC_API_KEY": keys[0],
        "ANTHROPIC_AUTH_TOKEN": keys[1],
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_CUSTOM_HEADERS": headers,
        "ANTHROPIC_PROFILE": "other",
        "ANTHROPIC_CONFIG_DIR": str(tmp_path),
        "GOOGLE_API_KEY": keys[0],
        "GEMINI_API_KEY": keys[1],
        "GOOGLE_GENAI_API_KEY": keys[2],
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_GENAI_API_VERSION": "v9",
        "GOOGLE_GENAI_HTTP_CLIENT": "httpx",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "GOOGLE_GENAI_REPLAYS_DIRECTORY": str(tmp_path),
        "GOOGLE_GEMINI_BASE_URL": url,
        "GOOGLE_CLOUD_PROJECT": "other-project",
        "GOOGLE_CLOUD_LOCATION": "us-central1",
    }
    for name, value in strays.items():
        monkeypatch.setenv(name, value)
    return keys


def test_a_call_carries_its_own_key_alone(
    server: ScriptedServer, dialect: Dialect, fresh: SdkAdapter[Any, Any], strays: list[str]
) -> None:
    server.default = Reply(dialect.success)
    secret = new_secret()
    fresh.send(call_of(dialect, server.url, secret=SecretStr(secret)))
    asked = server.asked[0]
    assert dialect.key_in(asked) == secret
    sent = json.dumps(dict(asked.headers)) + asked.path + asked.raw.decode()
    assert "other" not in sent
    assert not [stray for stray in strays if stray in sent]
    assert "v9" not in asked.path


@pytest.mark.usefixtures("strays")
def test_without_base_url_the_official_address_is_called_and_proxies_are_honoured(
    server: ScriptedServer,
    dialect: Dialect,
    fresh: SdkAdapter[Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.default = Reply(b"", status=403)
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with pytest.raises(ConnectionFailed, match="proxy") as failed:
        fresh.send(call_of(dialect, None))
    assert failed.value.sent is False
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("CONNECT", OFFICIAL[dialect.name])
    ]
    assert "authorization" not in server.asked[0].headers


_IMPORT_ALL = """
import importlib, pkgutil, sys
import llm.providers, llm.providers.registry
registry = llm.providers.registry.ProviderRegistry()
assert registry.names() == ("anthropic", "gemini", "openai")
for module in pkgutil.iter_modules(llm.providers.__path__):
    importlib.import_module("llm.providers." + module.name)
for name in registry.names():
    registry.get(name)
print([name for name in ("openai", "anthropic", "google.genai") if name in sys.modules])
"""


def test_importing_the_package_loads_no_sdk() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORT_ALL], capture_output=True, text=True, timeout=60
    )
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
