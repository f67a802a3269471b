"""HashiCorp Vault: the real hvac against a real OpenBao, and against servers that misbehave."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
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
from keys.secret_store import CachedSecrets, get_secret_store
from keys.secrets.store import put_secret
from keys.secrets.vault import VaultSecretStore
from tests.conftest import MakeSettings
from tests.integration.routers import wait_for
from tests.keys.fakes import fake_secret, spec
from tests.keys.secrets.certificates import Certificate
from tests.keys.secrets.stores import everything_logged, in_thread, local_variables
from tests.keys.secrets.vaults import Vault, openbao_or_skip
from tests.providers.scripted import Asked, Reply, ScriptedServer

A = spec("team/a:1@x.y")
MakeStore = Callable[..., VaultSecretStore]


@pytest.fixture(scope="session")
def running_vault(
    tmp_path_factory: pytest.TempPathFactory, certificate: Certificate
) -> Iterator[Vault]:
    openbao_or_skip()
    server = Vault(tmp_path_factory.mktemp("vault"), certificate)
    yield server
    server.stop()


@pytest.fixture
def vault(running_vault: Vault) -> Vault:
    listed = running_vault.admin.adapter.request(
        "list", "/v1/secret/metadata/llm", raise_exception=False
    )
    for name in listed["data"]["keys"] if isinstance(listed, dict) else []:
        running_vault.admin.secrets.kv.v2.delete_metadata_and_all_versions(f"llm/{name}")
    return running_vault


@pytest.fixture
def make_store(
    settings: MakeSettings, certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeStore]:
    """Makes stores of `secret/llm` that trust the test's own certificate."""
    made: list[VaultSecretStore] = []

    def make(address: str, **values: Any) -> VaultSecretStore:
        chosen = {
            "secret_store_type": "vault",
            "vault_addr": address,
            "vault_cacert": certificate.path,
            **values,
        }
        store = get_secret_store(settings(**chosen))
        assert isinstance(store, VaultSecretStore)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: MakeStore, vault: Vault) -> VaultSecretStore:
    return make_store(vault.url, vault_token=vault.token())


def test_a_secret_of_version_2_is_read(store: VaultSecretStore, vault: Vault) -> None:
    secret = fake_secret()
    vault.write("llm/a", api_key=f" {secret}\n", owner="x")
    vault.write("llm/team/a:1@x.y", api_key="another-secret-1")
    assert store.fetch(spec("a")).get_secret_value() == secret
    assert store.fetch(A).get_secret_value() == "another-secret-1"
    vault.write("llm/a", api_key="newer-secret-2")
    assert store.fetch(spec("a")).get_secret_value() == "newer-secret-2"


@pytest.mark.parametrize("path", ["old/kv/llm", "old/kv", "/old/kv/llm/"])
def test_a_secret_of_version_1_is_read_from_a_mount_of_any_depth(
    make_store: MakeStore, vault: Vault, path: str
) -> None:
    secret = fake_secret()
    folder = path.strip("/").removeprefix("old/kv").strip("/")
    vault.admin.secrets.kv.v1.create_or_update_secret(
        f"{folder}/a".strip("/"), {"api_key": secret}, mount_point="old/kv"
    )
    store = make_store(vault.url, vault_token=vault.token(), vault_secret_path=path)
    assert store.fetch(spec("a")).get_secret_value() == secret
    assert store.place_of(spec("a")) == f"{path.strip('/')}/a"


def test_the_version_can_be_told_where_a_policy_forbids_to_ask(
    make_store: MakeStore, vault: Vault
) -> None:
    vault.write("llm/a", api_key="some-secret-1")
    rules = 'path "secret/data/llm/a" { capabilities = ["read"] }'
    vault.admin.sys.create_or_update_policy("narrow", rules)
    token = vault.token("narrow", no_default_policy=True)
    store = make_store(vault.url, vault_token=token, vault_kv_version="2")
    assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"
    with pytest.raises(SecretDenied, match="refuses to give secret/llm/b"):
        store.fetch(spec("b"))


def test_a_namespace_has_secrets_of_its_own(make_store: MakeStore, vault: Vault) -> None:
    vault.write("llm/a", api_key="of-the-root-1")
    vault.admin.adapter.post("/v1/sys/namespaces/team-a")
    inside = vault.client(token=vault.root, namespace="team-a")
    inside.sys.enable_secrets_engine("kv", path="secret", options={"version": "1"})
    inside.secrets.kv.v1.create_or_update_secret("llm/a", {"api_key": "of-the-team-2"})
    store = make_store(vault.url, vault_token=vault.root, vault_namespace="team-a")
    assert store.fetch(spec("a")).get_secret_value() == "of-the-team-2"


def test_what_is_not_there_is_not_found(store: VaultSecretStore, vault: Vault) -> None:
    with pytest.raises(SecretNotFound, match=r"secret/llm/a; write it with: vault kv put"):
        store.fetch(spec("a"))
    vault.write("llm/a", api_key=fake_secret())
    vault.admin.secrets.kv.v2.delete_latest_version_of_secret("llm/a")
    with pytest.raises(SecretNotFound):
        store.fetch(spec("a"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"key": "x"}, "secret/llm/a has no field api_key with a text"),
        ({"api_key": 7}, "secret/llm/a has no field api_key with a text"),
        ({"api_key": "changeme"}, "the field api_key of secret/llm/a holds a placeholder"),
        ({"api_key": ""}, "is empty"),
    ],
)
def test_what_can_be_no_secret_is_malformed(
    store: VaultSecretStore, vault: Vault, fields: dict[str, Any], message: str
) -> None:
    vault.write("llm/a", **fields)
    with pytest.raises(SecretMalformed) as caught:
        store.fetch(spec("a"))
    assert message in str(caught.value)


@pytest.mark.parametrize("key_id", ["a/../../sys/b", "a//b", "a/."])
def test_a_key_cannot_leave_the_folder(store: VaultSecretStore, key_id: str) -> None:
    with pytest.raises(SecretMalformed, match="can be no path in a Vault"):
        store.fetch(spec(key_id))


def test_a_token_without_the_right_or_life_is_denied(make_store: MakeStore, vault: Vault) -> None:
    vault.write("llm/a", api_key=fake_secret())
    weak = make_store(vault.url, vault_token=vault.token("default"))
    with pytest.raises(SecretDenied, match="allow read on it, or renew the token"):
        weak.fetch(spec("a"))
    with pytest.raises(SecretDenied):
        make_store(vault.url, vault_token="none-of-its-own").fetch(spec("a"))


class TestAppRole:
    def test_it_logs_in_once_and_stays_logged_in(self, make_store: MakeStore, vault: Vault) -> None:
        vault.write("llm/a", api_key="some-secret-1")
        role_id, secret_id = vault.approle(secret_id_num_uses=1)
        store = make_store(vault.url, vault_role_id=role_id, vault_secret_id=secret_id)
        threads = [in_thread(lambda: store.fetch(spec("a"))) for _ in range(8)]
        for thread, _ in threads:
            thread.join()
        assert [got for _, got in threads] == [[SecretStr("some-secret-1")]] * 8

    def test_it_logs_in_anew_when_its_token_was_revoked(
        self, make_store: MakeStore, vault: Vault
    ) -> None:
        vault.write("llm/a", api_key="some-secret-1")
        role_id, secret_id = vault.approle(secret_id_num_uses=0)
        store = make_store(vault.url, vault_role_id=role_id, vault_secret_id=secret_id)
        store.fetch(spec("a"))
        renewing = {thread for thread in threading.enumerate() if thread.name == "vault-token"}
        vault.admin.auth.token.revoke(store._session.get().client.token)
        assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"
        wait_for(lambda: not all(thread.is_alive() for thread in renewing))

    def test_what_a_policy_forbids_makes_no_further_logins(
        self, make_store: MakeStore, vault: Vault
    ) -> None:
        role_id, secret_id = vault.approle(secret_id_num_uses=0)
        store = make_store(
            vault.url,
            vault_role_id=role_id,
            vault_secret_id=secret_id,
            vault_secret_path="secret/other",
            vault_kv_version="2",
        )
        for _ in range(3):
            with pytest.raises(SecretDenied, match="refuses to give secret/other/a"):
                store.fetch(spec("a"))
        assert store._session.get()._logins == 1

    def test_a_wrong_secret_id_is_denied(self, make_store: MakeStore, vault: Vault) -> None:
        role_id, _ = vault.approle()
        wrong = fake_secret()
        store = make_store(vault.url, vault_role_id=role_id, vault_secret_id=wrong)
        with pytest.raises(
            SecretDenied, match=r"refuses the login at .*/v1/auth/approle"
        ) as caught:
            store.fetch(spec("a"))
        assert wrong not in str(caught.value)

    def test_another_mount_can_be_named(self, make_store: MakeStore, vault: Vault) -> None:
        role_id, secret_id = vault.approle()
        store = make_store(
            vault.url,
            vault_role_id=role_id,
            vault_secret_id=secret_id,
            vault_auth_mount="elsewhere",
        )
        with pytest.raises(SecretDenied, match=r"auth/elsewhere.*VAULT_AUTH_MOUNT"):
            store.fetch(spec("a"))


class TestRenewal:
    def test_a_token_is_renewed_while_nobody_asks(
        self, make_store: MakeStore, vault: Vault
    ) -> None:
        vault.write("llm/a", api_key="some-secret-1")
        token = vault.token(period="2s")
        store = make_store(vault.url, vault_token=token)
        store.fetch(spec("a"))
        time.sleep(4.5)
        assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"

    def test_a_token_at_the_end_of_its_longest_life_is_followed_by_a_new_login(
        self, make_store: MakeStore, vault: Vault
    ) -> None:
        vault.write("llm/a", api_key="some-secret-1")
        role_id, secret_id = vault.approle(secret_id_num_uses=0, token_ttl="2s", token_max_ttl="3s")
        store = make_store(vault.url, vault_role_id=role_id, vault_secret_id=secret_id)
        store.fetch(spec("a"))
        session = store._session.get()
        first = session.client.token
        wait_for(lambda: session.client.token != first, 6)
        assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"

    def test_a_closed_store_renews_nothing(self, make_store: MakeStore, vault: Vault) -> None:
        before = {thread for thread in threading.enumerate() if thread.name == "vault-token"}
        store = make_store(vault.url, vault_token=vault.token(ttl="1h"))
        with pytest.raises(SecretNotFound):
            store.fetch(spec("a"))
        (renewing,) = {
            thread for thread in threading.enumerate() if thread.name == "vault-token"
        } - before
        store.close()
        renewing.join(5)
        assert not renewing.is_alive()


class TestKubernetes:
    @pytest.fixture
    def cluster(self, vault: Vault, tls_server: ScriptedServer) -> ScriptedServer:
        """What a cluster's API says of a service account, to the Vault that asks it."""

        def review(asked: Asked) -> Reply:
            assert asked.path == "/apis/authentication.k8s.io/v1/tokenreviews"
            good = jwt.decode(asked.body["spec"]["token"], options={"verify_signature": False})
            user = {"username": good["sub"], "uid": "7", "groups": ["system:serviceaccounts"]}
            status = {"authenticated": True, "audiences": good["aud"], "user": user}
            kind = {"kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1"}
            return Reply({**kind, "status": status}, 201)

        tls_server.default = review
        config = {
            "kubernetes_host": tls_server.url,
            "kubernetes_ca_cert": vault.certificate.path.read_text(),
            "disable_local_ca_jwt": True,
        }
        vault.admin.adapter.post("/v1/auth/kubernetes/config", json=config)
        vault.admin.auth.kubernetes.create_role(
            "router", ["router"], ["prod"], policies=["llm"], ttl="1h", audience="vault"
        )
        return tls_server

    def account(self, folder: Path, name: str) -> Path:
        now = int(time.time())
        claims = {
            "sub": f"system:serviceaccount:prod:{name}",
            "aud": ["vault"],
            "iat": now,
            "nbf": now - 5,
            "exp": now + 600,
            "kubernetes.io": {
                "namespace": "prod",
                "serviceaccount": {"name": name, "uid": "7"},
            },
        }
        path = folder / "token"
        path.write_text(jwt.encode(claims, ec.generate_private_key(ec.SECP256R1()), "ES256") + "\n")
        return path

    def test_a_service_account_logs_in(
        self, make_store: MakeStore, vault: Vault, cluster: ScriptedServer, tmp_path: Path
    ) -> None:
        vault.write("llm/a", api_key="some-secret-1")
        store = make_store(
            vault.url,
            vault_kubernetes_role="router",
            vault_kubernetes_token_file=self.account(tmp_path, "router"),
        )
        assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"

    def test_another_account_is_denied(
        self, make_store: MakeStore, vault: Vault, cluster: ScriptedServer, tmp_path: Path
    ) -> None:
        store = make_store(
            vault.url,
            vault_kubernetes_role="router",
            vault_kubernetes_token_file=self.account(tmp_path, "stranger"),
        )
        with pytest.raises(SecretDenied, match=r"refuses the login at .*/v1/auth/kubernetes"):
            store.fetch(spec("a"))

    def test_outside_a_pod_it_says_so(self, make_store: MakeStore, vault: Vault) -> None:
        store = make_store(vault.url, vault_kubernetes_role="router")
        with pytest.raises(SecretDenied, match="is this a Kubernetes pod"):
            store.fetch(spec("a"))


class TestDown:
    def test_a_sealed_vault(self, store: VaultSecretStore, vault: Vault) -> None:
        vault.write("llm/a", api_key="some-secret-1")
        store.fetch(spec("a"))
        with vault.sealed(), pytest.raises(SecretStoreDown, match="sealed; unseal it"):
            store.fetch(spec("a"))
        assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"

    def test_a_vault_that_hangs(self, make_store: MakeStore, vault: Vault) -> None:
        store = make_store(vault.url, vault_token=vault.token(), secret_store_timeout_seconds=1)
        with pytest.raises(SecretNotFound):
            store.fetch(spec("a"))
        with vault.frozen():
            began = time.monotonic()
            with pytest.raises(SecretStoreDown, match="ReadTimeout"):
                store.fetch(spec("a"))
            assert time.monotonic() - began < 1.9

    def test_while_it_is_sealed_the_cache_serves(
        self, store: VaultSecretStore, vault: Vault
    ) -> None:
        vault.write("llm/a", api_key="some-secret-1")
        cache = CachedSecrets(store, 0.2)
        cache.get(spec("a"))
        with vault.sealed():
            time.sleep(0.25)
            assert cache.get(spec("a"), 5).get_secret_value() == "some-secret-1"
            assert "sealed" in (cache.outage() or "")
            with pytest.raises(SecretStoreDown):
                cache.get(spec("b"), 5)

    @pytest.mark.parametrize(
        ("reply", "message"),
        [
            (Reply({"errors": []}, 429), "RateLimitExceeded"),
            (Reply({"errors": ["boom"]}, 500), "InternalServerError"),
            (Reply({"errors": []}, 501), "not initialised"),
            (Reply(b"<html>", 502), "BadGateway"),
            (Reply({"errors": ["Vault is sealed"]}, 503), "sealed"),
            (Reply({"errors": []}, 473), "UnexpectedError"),
            (Reply(b"<html>", 200), "answered what no Vault answers"),
            (Reply({"data": {"data": None}}, 200), "answered what no Vault answers"),
            (Reply([], 200), "answered what no Vault answers"),
            (Reply(raw=lambda connection: None), "ConnectionError"),
        ],
    )
    def test_broken_answers(self, make_store: MakeStore, reply: Reply, message: str) -> None:
        with ScriptedServer() as server:
            server.default = reply
            store = make_store(server.url, vault_token=fake_secret(), vault_kv_version="2")
            with pytest.raises(SecretStoreDown) as caught:
                store.fetch(spec("a"))
            assert message in str(caught.value)

    def test_nobody_there(self, make_store: MakeStore) -> None:
        store = make_store("http://127.0.0.1:1", vault_token="x-token")
        with pytest.raises(SecretStoreDown, match="ConnectionError"):
            store.fetch(spec("a"))


def test_a_certificate_that_nobody_vouches_for_is_refused(
    make_store: MakeStore, tls_server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_SKIP_VERIFY", "true")
    store = make_store(tls_server.url, vault_token=fake_secret(), vault_cacert=None)
    with pytest.raises(SecretStoreDown, match="name the CA's file in VAULT_CACERT"):
        store.fetch(spec("a"))
    assert tls_server.asked == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vault_addr": None}, "VAULT_ADDR is not set"),
        ({"vault_addr": "http://vault:8200"}, "would travel in the clear; write https://"),
        ({"vault_addr": "https://vault:8200"}, "none of them is set"),
        ({"vault_token": "x", "vault_role_id": "y"}, "VAULT_TOKEN and VAULT_ROLE_ID is set"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(
    settings: MakeSettings, values: dict[str, Any], message: str
) -> None:
    chosen = {"secret_store_type": "vault", "vault_addr": "https://vault:8200", **values}
    with pytest.raises(ConfigurationError) as caught:
        get_secret_store(settings(**chosen))
    assert message in str(caught.value)


def test_it_is_changed_in_the_vault(make_store: MakeStore) -> None:
    store = make_store("https://vault:8200", vault_token="x-token")
    with pytest.raises(SecretNotWritable, match="the Vault: change secret/llm/a there"):
        put_secret(store, spec("a"), SecretStr(fake_secret()))


def test_nothing_that_is_printed_or_logged_holds_a_secret(
    make_store: MakeStore, vault: Vault
) -> None:
    secret, token = fake_secret(), vault.token()
    vault.write("llm/a", api_key=secret)
    vault.write("llm/b", api_key=f"{secret} {secret}")
    with everything_logged() as written:
        store = make_store(vault.url, vault_token=token)
        print(store.fetch(spec("a")), store, vars(store), file=written)
        with pytest.raises(SecretError) as caught:
            store.fetch(spec("b"))
        logging.getLogger("test").error("no secret", exc_info=caught.value)
    assert "urllib3" in written.getvalue() or "GET /v1/secret" in written.getvalue()
    assert secret not in local_variables(caught.value)
    assert secret not in written.getvalue()
    assert token not in written.getvalue()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_a_connection_of_its_own(store: VaultSecretStore, vault: Vault) -> None:
    vault.write("llm/a", api_key="some-secret-1")
    parents = store._session.get()
    store.fetch(spec("a"))
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fetched = store.fetch(spec("a")).get_secret_value()
            same = store._session.get() is parents
            os.write(writing, f"{fetched} {same}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"some-secret-1 False"
    os.waitpid(child, 0)
    assert store.fetch(spec("a")).get_secret_value() == "some-secret-1"
