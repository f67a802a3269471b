"""A Key Vault and the directory that logs in to it, on this machine, for the real Azure SDK.

The SDK speaks to nothing but https, and checks that the vault's challenge names the vault's own
domain. So its transport is given another way: it sends each request to the local server, with the
host in the path, and puts the address back before the SDK looks.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from azure.core.pipeline.transport import RequestsTransport

from tests.providers.scripted import Asked, Reply, ScriptedServer

VAULT = "team-keys.vault.azure.net"
DIRECTORY = "login.microsoftonline.com"
TENANT = "11111111-2222-3333-4444-555555555555"


class LocalTransport(RequestsTransport):  # type: ignore[misc]  # half typed
    """Sends what is meant for Azure to a server of 127.0.0.1."""

    def __init__(self, address: str, **timeouts: float) -> None:
        super().__init__(**timeouts)
        self._address = address

    def send(self, request: Any, **options: Any) -> Any:
        meant = request.url
        parts = urlsplit(meant)
        request.url = f"{self._address}/{parts.netloc}{parts.path}?{parts.query}"
        try:
            return super().send(request, **options)
        finally:
            request.url = meant


class Azure:
    """Answers as a Key Vault and as Entra ID do."""

    def __init__(self, client_secret: str) -> None:
        self.client_secret = client_secret
        self.token = "of-the-directory-1"
        self.secrets: dict[str, dict[str, Any]] = {}
        self.resource = "https://vault.azure.net"
        self.asked: list[str] = []

    def __call__(self, asked: Asked) -> Reply:
        _, host, path = asked.path.partition("?")[0].split("/", 2)
        self.asked.append(f"{host}/{path}")
        return self._directory(path, asked) if host == DIRECTORY else self._vault(path, asked)

    def _directory(self, path: str, asked: Asked) -> Reply:
        base = f"https://{DIRECTORY}/{TENANT}"
        if path.endswith("openid-configuration"):
            return Reply(
                {
                    "token_endpoint": f"{base}/oauth2/v2.0/token",
                    "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                    "issuer": f"{base}/v2.0",
                }
            )
        if path.endswith("discovery/instance"):
            return Reply({"tenant_discovery_endpoint": f"{base}/.well-known", "metadata": []})
        form = parse_qs(asked.raw.decode())
        if form["client_secret"] != [self.client_secret]:
            said = f"AADSTS7000215: Invalid client secret {form['client_secret']}"
            return Reply({"error": "invalid_client", "error_description": said}, 401)
        assert form["scope"] == ["https://vault.azure.net/.default"]
        token = {"access_token": self.token, "expires_in": 3600, "token_type": "Bearer"}
        return Reply(token)

    def _vault(self, path: str, asked: Asked) -> Reply:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            challenge = f'Bearer authorization="https://{DIRECTORY}/{TENANT}"'
            challenge += f', resource="{self.resource}"'
            error = {"code": "Unauthorized", "message": "AKV10000: Request is missing a token."}
            return Reply({"error": error}, 401, {"www-authenticate": challenge})
        _, name, *_ = path.split("/")
        found = self.secrets.get(name)
        if found is None:
            error = {"code": "SecretNotFound", "message": f"A secret with {name} was not found"}
            return Reply({"error": error}, 404)
        if "error" in found:
            return Reply({"error": found["error"]}, found["status"])
        now = int(time.time())
        attributes = {"enabled": True, "created": now, "updated": now}
        return Reply(
            {"id": f"https://{VAULT}/secrets/{name}/v1", "attributes": attributes, **found}
        )


def serve(azure: Azure) -> ScriptedServer:
    """A server that answers as `azure` says; use it with `with`."""
    server = ScriptedServer()
    server.default = azure
    return server
