"""Azure Key Vault: the real azure-keyvault-secrets and azure-identity against a local server."""

from __future__ import annotations

import json
import logging
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from azure.keyvault.secrets._shared import http_challenge_cache
from pydantic import SecretStr

from core.errors import (
    ConfigurationError,
    SecretDenied,
    SecretError,
    SecretMalformed,
    SecretNotFound,
    SecretNotWritable,
    SecretStoreDown,
)
from core.settings import Settings
from keys.secret_store import get_secret_store
from keys.secrets.azure import AzureSecretStore
from keys.secrets.store import put_secret
from tests.conftest import MakeSettings
from tests.keys.fakes import fake_secret, spec
from tests.keys.secrets.azures import DIRECTORY, TENANT, VAULT, Azure, LocalTransport, serve
from tests.keys.secrets.stores import everything_logged, local_variables
from tests.providers.scripted import Reply, ScriptedServer

A = spec("team/a:1@x.y")
MakeStore = Callable[..., AzureSecretStore]


@pytest.fixture
def azure() -> Azure:
    http_challenge_cache.clear()
    return Azure(secrets.token_hex(16))


@pytest.fixture
def server(azure: Azure) -> Iterator[ScriptedServer]:
    with serve(azure) as running:
        yield running


@pytest.fixture
def azure_settings(settings: MakeSettings, azure: Azure) -> MakeSettings:
    def make(**values: Any) -> Settings:
        chosen = {
            "secret_store_type": "azure",
            "azure_vault_url": f"https://{VAULT}",
            "azure_tenant_id": TENANT,
            "azure_client_id": "66666666-7777-8888-9999-000000000000",
            "azure_client_secret": azure.client_secret,
            **values,
        }
        return settings(**chosen)

    return make


@pytest.fixture
def make_store(azure_settings: MakeSettings, server: ScriptedServer) -> Iterator[MakeStore]:
    made: list[AzureSecretStore] = []

    def make(address: str = server.url, **values: Any) -> AzureSecretStore:
        made.append(AzureSecretStore(azure_settings(**values), partial(LocalTransport, address)))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: MakeStore) -> AzureSecretStore:
    return make_store()


def test_texts_and_json_are_read(store: AzureSecretStore, azure: Azure) -> None:
    plain, wrapped = fake_secret(), fake_secret()
    azure.secrets["llm-a"] = {"value": f"{plain}\n"}
    azure.secrets["llm-team-a-1-x-y"] = {"value": json.dumps({"api_key": wrapped})}
    assert store.fetch(spec("a")).get_secret_value() == plain
    assert store.fetch(A).get_secret_value() == wrapped
    assert store.place_of(A) == "llm-team-a-1-x-y"
    azure.secrets["llm-a"] = {"value": "newer-secret-2"}
    assert store.fetch(spec("a")).get_secret_value() == "newer-secret-2"


def test_the_prefix_is_the_users(make_store: MakeStore, azure: Azure) -> None:
    azure.secrets["a"] = {"value": "some-secret-1"}
    store = make_store(azure_secret_prefix="")
    assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"


def test_a_token_of_the_directory_serves_many_fetches(
    store: AzureSecretStore, azure: Azure
) -> None:
    azure.secrets["llm-a"] = {"value": "some-secret-1"}
    for _ in range(3):
        store.fetch(spec("a"))
    assert sum(path.endswith("oauth2/v2.0/token") for path in azure.asked) == 1
    assert sum(path.startswith(VAULT) for path in azure.asked) == 4, "one more for the challenge"


def test_what_is_not_there_is_not_found(store: AzureSecretStore) -> None:
    with pytest.raises(SecretNotFound, match="Azure Key Vault has none called llm-a; create it"):
        store.fetch(spec("a"))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ("changeme", "llm-a holds a placeholder"),
        ('{"key": "x"}', "llm-a has no field api_key with a text"),
        ("", "llm-a is empty"),
        (None, "llm-a is empty"),
    ],
)
def test_what_can_be_no_secret_is_malformed(
    store: AzureSecretStore, azure: Azure, kept: str | None, message: str
) -> None:
    azure.secrets["llm-a"] = {"value": kept}
    with pytest.raises(SecretMalformed) as caught:
        store.fetch(spec("a"))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("status", "code", "kind", "message"),
    [
        (403, "Forbidden", SecretDenied, "(Forbidden); allow the identity to get secrets"),
        (403, "SecretDisabled", SecretDenied, "SecretDisabled"),
        (400, "BadParameter", SecretMalformed, "does not understand the secret's name llm-a"),
        (429, "Throttled", SecretStoreDown, "Throttled, status 429"),
        (500, "InternalServerError", SecretStoreDown, "status 500"),
        (503, "Unavailable", SecretStoreDown, "status 503"),
    ],
)
def test_errors_are_told_apart_and_nothing_is_tried_twice(
    store: AzureSecretStore,
    azure: Azure,
    status: int,
    code: str,
    kind: type[SecretError],
    message: str,
) -> None:
    azure.secrets["llm-a"] = {"status": status, "error": {"code": code, "message": "it says more"}}
    with pytest.raises(kind) as caught:
        store.fetch(spec("a"))
    assert message in str(caught.value)
    assert len([path for path in azure.asked if path.startswith(VAULT)]) == 2


def test_a_login_that_is_refused_is_denied_and_not_echoed(
    make_store: MakeStore, azure: Azure
) -> None:
    wrong = fake_secret()
    with pytest.raises(SecretDenied, match="Azure refuses the login") as caught:
        make_store(azure_client_secret=wrong).fetch(spec("a"))
    assert wrong not in str(caught.value)


@pytest.mark.parametrize("reply", [Reply(b"<html>", 502), Reply(raw=lambda connection: None)])
def test_a_directory_that_fails_is_told_without_a_second_try(
    make_store: MakeStore, server: ScriptedServer, azure: Azure, reply: Reply
) -> None:
    asked = 0

    def answer(request: Any) -> Reply:
        nonlocal asked
        if DIRECTORY not in request.path:
            return azure(request)
        asked += 1
        return reply

    server.default = answer
    with pytest.raises(SecretError, match="Azure"):
        make_store().fetch(spec("a"))
    assert asked == 1


def test_the_challenge_of_another_domain_is_not_answered(
    store: AzureSecretStore, azure: Azure
) -> None:
    azure.resource = "https://elsewhere.example"
    with pytest.raises(SecretStoreDown, match="no vault of that name; check AZURE_VAULT_URL"):
        store.fetch(spec("a"))
    assert not any("oauth2" in path for path in azure.asked), "no token was asked for it"


def test_a_vault_that_hangs_is_down_after_the_timeout_and_no_later(make_store: MakeStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = make_store(address, secret_store_timeout_seconds=1)
        store._clients.get()
        began = time.monotonic()
        with pytest.raises(SecretStoreDown, match="does not answer"):
            store.fetch(spec("a"))
        assert time.monotonic() - began < 1.9
    with pytest.raises(SecretStoreDown, match="ServiceRequestError"):
        store.fetch(spec("a"))


def test_a_certificate_that_nobody_vouches_for_is_refused(
    azure_settings: MakeSettings, tls_server: ScriptedServer
) -> None:
    store = AzureSecretStore(azure_settings(azure_vault_url=tls_server.url))
    with pytest.raises(SecretStoreDown, match="ServiceRequestError"):
        store.fetch(spec("a"))
    assert tls_server.asked == []


def test_without_an_application_the_machines_identity_is_looked_for(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch, azure: Azure
) -> None:
    monkeypatch.setenv("PATH", "")  # no `az`
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "environmentcredential")
    store = make_store(azure_client_secret=None, azure_tenant_id=None, azure_client_id=None)
    with pytest.raises(SecretDenied, match="give the machine an identity"):
        store.fetch(spec("a"))
    monkeypatch.setenv("AZURE_TENANT_ID", TENANT)
    monkeypatch.setenv("AZURE_CLIENT_ID", "66666666-7777-8888-9999-000000000000")
    monkeypatch.setenv("AZURE_CLIENT_SECRET", azure.client_secret)
    azure.secrets["llm-a"] = {"value": "some-secret-1"}
    store = make_store(azure_client_secret=None, azure_tenant_id=None, azure_client_id=None)
    assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"azure_vault_url": None}, "AZURE_VAULT_URL is not set"),
        ({"azure_client_id": None}, "set AZURE_TENANT_ID and AZURE_CLIENT_ID too"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(
    azure_settings: MakeSettings, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        get_secret_store(azure_settings(**values))
    assert message in str(caught.value)


def test_it_is_changed_in_azure(store: AzureSecretStore) -> None:
    with pytest.raises(SecretNotWritable, match="Azure Key Vault: change llm-a there"):
        put_secret(store, spec("a"), SecretStr(fake_secret()))


def test_nothing_that_is_printed_or_logged_holds_a_secret(
    make_store: MakeStore, azure: Azure
) -> None:
    secret = fake_secret()
    azure.token = secrets.token_hex(20)
    azure.secrets["llm-a"] = {"value": secret}
    azure.secrets["llm-b"] = {"value": f"{secret} {secret}"}
    with everything_logged() as written:
        store = make_store()
        print(store.fetch(spec("a")), store, vars(store), file=written)
        with pytest.raises(SecretMalformed) as caught:
            store.fetch(spec("b"))
        logging.getLogger("test").error("no secret", exc_info=caught.value)
    assert len(written.getvalue()) > 500
    assert secret not in local_variables(caught.value)
    for hidden in (secret, azure.token, azure.client_secret):
        assert hidden not in written.getvalue()
