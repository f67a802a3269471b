"""A secret leaves by the request alone: not by an error, its context, a repr or a log."""

from __future__ import annotations

import logging
import pickle
import time
import traceback
from typing import Any

import pytest
from pydantic import SecretStr

from core.errors import AuthenticationFailed, ProviderError
from llm.providers.sdk import SdkAdapter
from tests.providers.dialects import Dialect, call_of, new_secret
from tests.providers.scripted import Reply, ScriptedServer


def echo(dialect: Dialect, secret: str) -> dict[str, Any]:
    words = f"Incorrect API key provided: {secret}, or {secret[:8]}****{secret[-4:]}."
    return dialect.error(words, code=secret)


@pytest.mark.parametrize("status", [400, 401, 429, 500])
def test_errors_hold_no_secret(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], status: int
) -> None:
    secret = new_secret()
    headers = {"x-request-id": secret, "request-id": secret}
    server.default = Reply(echo(dialect, secret), status=status, headers=headers)
    with pytest.raises(ProviderError) as failed:
        adapter.send(call_of(dialect, server.url, secret=SecretStr(secret)))
    error = failed.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    for part in (secret, secret[:8], secret[-4:]):
        assert part not in shown
    assert dialect.key_in(server.asked[0]) == secret


@pytest.mark.parametrize("fault", ["refused", "dropped", "late", "nonsense"])
def test_no_foreign_exception_hangs_on_ours(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], fault: str
) -> None:
    url, timeout = server.url, 10.0
    if fault == "refused":
        server.__exit__()
    elif fault == "dropped":
        server.default = Reply(raw=lambda connection: None)
    elif fault == "late":
        timeout = 0.2
        server.default = Reply(raw=lambda connection: time.sleep(1))
    else:
        server.default = Reply(b"nonsense", status=500)
    with pytest.raises(ProviderError) as failed:
        adapter.send(call_of(dialect, url, timeout=timeout))
    assert failed.value.__cause__ is None
    assert failed.value.__context__ is None
    frames = traceback.extract_tb(failed.value.__traceback__)
    assert not [frame.filename for frame in frames if "site-packages" in frame.filename]


def test_logs_hold_no_secret(
    server: ScriptedServer,
    dialect: Dialect,
    adapter: SdkAdapter[Any, Any],
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = SecretStr(new_secret())
    server.script = [Reply(dialect.success), Reply(dialect.error("no"), status=401)]
    with caplog.at_level(logging.DEBUG):
        adapter.send(call_of(dialect, server.url, secret=secret))
        with pytest.raises(AuthenticationFailed):
            adapter.send(call_of(dialect, server.url, secret=secret))
    assert caplog.records
    logged = caplog.text + "".join(repr(vars(record)) for record in caplog.records)
    assert secret.get_secret_value() not in logged


@pytest.mark.parametrize("end", ["\n", " ", "é", "\x00", "\r\nX-Other: 1"])
def test_a_secret_that_no_header_can_carry_is_never_sent(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any], end: str
) -> None:
    secret = new_secret()
    with pytest.raises(AuthenticationFailed) as failed:
        adapter.send(call_of(dialect, server.url, secret=SecretStr(secret + end)))
    assert failed.value.sent is False
    assert secret not in str(failed.value)
    assert failed.value.__context__ is None
    assert server.asked == []


def test_an_empty_secret_is_never_sent(
    server: ScriptedServer, dialect: Dialect, adapter: SdkAdapter[Any, Any]
) -> None:
    with pytest.raises(AuthenticationFailed, match=f"key {dialect.name}-01 is empty"):
        adapter.send(call_of(dialect, server.url, secret=SecretStr("")))
    assert server.asked == []


def test_an_adapter_shows_no_secret(
    server: ScriptedServer, dialect: Dialect, fresh: SdkAdapter[Any, Any]
) -> None:
    secret = SecretStr(new_secret())
    server.default = Reply(dialect.success)
    call = call_of(dialect, server.url, secret=secret)
    fresh.send(call)
    shown = repr(fresh) + repr(vars(fresh)) + repr(vars(fresh._clients)) + repr(call)
    assert secret.get_secret_value() not in shown
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        pickle.dumps(fresh)
