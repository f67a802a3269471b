"""AWS Secrets Manager: the real boto3 against moto's server, and against servers that misbehave."""

from __future__ import annotations

import json
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import boto3
import pytest
from botocore.loaders import create_loader
from moto.server import ThreadedMotoServer
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
from keys.secrets.aws import AwsSecretStore
from keys.secrets.store import put_secret
from tests.conftest import MakeSettings
from tests.keys.fakes import fake_secret, spec
from tests.keys.secrets.stores import everything_logged, local_variables
from tests.providers.scripted import Reply, ScriptedServer

REGION = "eu-central-1"
A = spec("team/a:1@x.y")
NAME = "llm/team/a_1@x.y"
MakeStore = Callable[..., AwsSecretStore]
_loader_of = cache(create_loader)


@pytest.fixture(autouse=True)
def _descriptions_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions share what botocore reads of AWS's services, which takes longer than most tests."""
    monkeypatch.setattr("botocore.session.create_loader", _loader_of)


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def make_store(
    settings: MakeSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> Iterator[MakeStore]:
    """Makes stores that talk to an address; nothing of this machine's own AWS set-up is read."""
    made: list[AwsSecretStore] = []
    for name in ("AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test" + secrets.token_hex(6))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secrets.token_hex(16))
    monkeypatch.setenv("AWS_SESSION_TOKEN", secrets.token_hex(16))

    def make(address: str, **values: Any) -> AwsSecretStore:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", address)
        chosen = {"secret_store_type": "aws", "aws_region": REGION, **values}
        store = get_secret_store(settings(**chosen))
        assert isinstance(store, AwsSecretStore)
        made.append(store)
        return store

    yield make
    for store in made:
        store.close()


@pytest.fixture
def store(make_store: MakeStore, moto: str) -> AwsSecretStore:
    return make_store(moto)


@pytest.fixture
def manager(store: AwsSecretStore, moto: str) -> Any:
    """The administrator's client of the same server, emptied."""
    client = boto3.session.Session(region_name=REGION).client("secretsmanager", endpoint_url=moto)
    for found in client.list_secrets(IncludePlannedDeletion=True)["SecretList"]:
        client.delete_secret(SecretId=found["Name"], ForceDeleteWithoutRecovery=True)
    return client


def test_json_and_plain_texts_are_read(store: AwsSecretStore, manager: Any) -> None:
    plain, wrapped = fake_secret(), fake_secret()
    manager.create_secret(Name="llm/a", SecretString=f" {plain}\n")
    manager.create_secret(Name=NAME, SecretString=json.dumps({"api_key": wrapped, "owner": "x"}))
    assert store.fetch(spec("a")).get_secret_value() == plain
    assert store.fetch(A).get_secret_value() == wrapped
    assert store.place_of(A) == NAME


def test_the_newest_version_counts(store: AwsSecretStore, manager: Any) -> None:
    manager.create_secret(Name="llm/a", SecretString="first-version-1")
    assert store.fetch(spec("a")).get_secret_value() == "first-version-1"
    manager.put_secret_value(SecretId="llm/a", SecretString="second-version-2")
    assert store.fetch(spec("a")).get_secret_value() == "second-version-2"


def test_the_prefix_is_the_users(make_store: MakeStore, moto: str, manager: Any) -> None:
    secret = fake_secret()
    manager.create_secret(Name="prod-a", SecretString=secret)
    store = make_store(moto, aws_secret_prefix="prod-")
    assert store.fetch(spec("a")).get_secret_value() == secret


def test_what_is_not_there_is_not_found(store: AwsSecretStore, manager: Any) -> None:
    with pytest.raises(SecretNotFound, match="AWS has none called llm/a in eu-central-1"):
        store.fetch(spec("a"))
    manager.create_secret(Name="llm/a", SecretString=fake_secret())
    manager.delete_secret(SecretId="llm/a")
    with pytest.raises(SecretNotFound, match=r"llm/a .*\(InvalidRequestException\)"):
        store.fetch(spec("a"))


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"SecretString": "changeme"}, "llm/a holds a placeholder"),
        ({"SecretString": '{"key": "x"}'}, "llm/a has no field api_key with a text"),
        ({"SecretString": '["x"]'}, "llm/a has no field api_key with a text"),
        ({"SecretString": '{"api_key": 7}'}, "llm/a has no field api_key with a text"),
        ({"SecretString": '{"api_key": "a b"}'}, "the field api_key of llm/a holds a space"),
        ({"SecretString": '{"api_key": "x'}, "llm/a holds a space, a quote"),
        ({"SecretBinary": b"bytes"}, "llm/a holds bytes; store a text"),
    ],
)
def test_what_can_be_no_secret_is_malformed(
    store: AwsSecretStore, manager: Any, kept: dict[str, Any], message: str
) -> None:
    manager.create_secret(Name="llm/a", **kept)
    with pytest.raises(SecretMalformed) as caught:
        store.fetch(spec("a"))
    assert message in str(caught.value)


def test_not_even_local_variables_hold_what_was_fetched(
    store: AwsSecretStore, manager: Any
) -> None:
    secret = fake_secret()
    for text in (f"{secret} {secret}", json.dumps({"key": secret}), f'"{secret}"'):
        manager.create_secret(Name="llm/a", SecretString=text)
        with pytest.raises(SecretMalformed) as caught:
            store.fetch(spec("a"))
        assert secret not in local_variables(caught.value)
        manager.delete_secret(SecretId="llm/a", ForceDeleteWithoutRecovery=True)


def test_a_refusal_of_the_policy_is_denied(store: AwsSecretStore, moto: str, manager: Any) -> None:
    import requests

    manager.create_secret(Name="llm/a", SecretString=fake_secret())
    requests.post(f"{moto}/moto-api/reset-auth", data="0", timeout=5)  # from now on IAM is asked
    try:
        with pytest.raises(SecretDenied, match="refuses to give llm/a"):
            store.fetch(spec("a"))
    finally:
        requests.post(f"{moto}/moto-api/reset-auth", data="inf", timeout=5)


def said(code: str, status: int = 400) -> Reply:
    body = {"__type": code, "message": "it says more"}
    return Reply(body, status, {"content-type": "application/x-amz-json-1.1"})


@pytest.mark.parametrize(
    ("reply", "kind", "message"),
    [
        (said("AccessDeniedException"), SecretDenied, "allow secretsmanager:GetSecretValue"),
        (said("ExpiredTokenException"), SecretDenied, "ExpiredTokenException"),
        (said("DecryptionFailure"), SecretDenied, "kms:Decrypt"),
        (said("SomethingNew", 403), SecretDenied, "SomethingNew"),
        (said("InvalidParameterException"), SecretMalformed, "does not understand"),
        (said("InternalServiceError", 500), SecretStoreDown, "InternalServiceError, status 500"),
        (said("ThrottlingException"), SecretStoreDown, "ThrottlingException"),
        (Reply(b"<html>", 502), SecretStoreDown, "status 502"),
        (Reply(b"<html>", 200), SecretStoreDown, "what answered is not AWS"),
        (Reply({}, 200), SecretStoreDown, "what answered is not AWS"),
        (Reply(raw=lambda connection: None), SecretStoreDown, "ConnectionClosedError"),
    ],
)
def test_errors_are_told_apart_and_nothing_is_tried_twice(
    make_store: MakeStore, reply: Reply, kind: type[SecretError], message: str
) -> None:
    with ScriptedServer() as server:
        server.default = reply
        with pytest.raises(kind) as caught:
            make_store(server.url).fetch(spec("a"))
        assert message in str(caught.value)
        assert type(caught.value) is kind
        assert len(server.asked) == 1


def test_a_server_that_hangs_is_down_after_the_timeout_and_no_later(make_store: MakeStore) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        store = make_store(address, secret_store_timeout_seconds=1)
        store._client.get()  # boto3 takes its time to load
        began = time.monotonic()
        with pytest.raises(SecretStoreDown, match="ReadTimeoutError"):
            store.fetch(spec("a"))
        assert time.monotonic() - began < 1.9
    with pytest.raises(SecretStoreDown, match="EndpointConnectionError"):
        store.fetch(spec("a"))


def test_what_is_missing_is_named(
    make_store: MakeStore, moto: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SecretError, match="set AWS_REGION"):
        CachedSecrets(make_store(moto, aws_region=None), 1).get(spec("a"))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(SecretDenied, match="set AWS_ACCESS_KEY_ID"):
        make_store(moto).fetch(spec("a"))


def test_plain_http_to_another_machine_is_refused(make_store: MakeStore) -> None:
    store = make_store("http://10.0.0.1:5000")
    with pytest.raises(ConfigurationError, match="would travel in the clear"):
        store.fetch(spec("a"))


def test_a_certificate_that_nobody_vouches_for_is_refused(
    make_store: MakeStore, tls_server: ScriptedServer
) -> None:
    with pytest.raises(SecretStoreDown, match="name the CA in AWS_CA_BUNDLE"):
        make_store(tls_server.url).fetch(spec("a"))
    assert tls_server.asked == []


def test_it_is_changed_in_aws(store: AwsSecretStore) -> None:
    with pytest.raises(SecretNotWritable, match="AWS Secrets Manager: change llm/a there"):
        put_secret(store, spec("a"), SecretStr(fake_secret()))


def test_no_log_holds_what_was_fetched(store: AwsSecretStore, manager: Any) -> None:
    import os

    secret = fake_secret()
    manager.create_secret(Name="llm/a", SecretString=json.dumps({"api_key": secret}))
    manager.create_secret(Name="llm/b", SecretString=f"{secret} {secret}")
    with everything_logged() as written:
        for _ in range(2):
            store.fetch(spec("a"))
            with pytest.raises(SecretMalformed):
                store.fetch(spec("b"))
        manager.list_secrets()
    assert "botocore" in written.getvalue() or "Response body" in written.getvalue()
    for hidden in (secret, os.environ["AWS_SECRET_ACCESS_KEY"]):
        assert hidden not in written.getvalue()
