"""What can be asked of a running simulation, wherever it runs."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from tools.simulation.accounts import Report
from tools.simulation.limits import Kind

Protocol = Literal["openai", "anthropic", "gemini"]


class SimulationClient:
    """Configures, breaks and reads a simulation through its control endpoints.

    Args:
        url: the simulation's base URL, such as `http://127.0.0.1:8080`.
        timeout: seconds for each call.

    Every method raises ValueError with the simulation's reason if it refuses the arguments, and
    OSError if the simulation is out of reach.
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        self.url = url
        self._timeout = timeout

    @property
    def openai_base_url(self) -> str:
        """For `openai.OpenAI(base_url=...)`."""
        return self.url + "/v1"

    @property
    def anthropic_base_url(self) -> str:
        """For `anthropic.Anthropic(base_url=...)`."""
        return self.url

    @property
    def gemini_base_url(self) -> str:
        """For `google.genai.types.HttpOptions(base_url=...)`."""
        return self.url

    def configure_key(
        self,
        secret: str,
        *,
        name: str | None = None,
        rpm: int | None = None,
        tpm: int | None = None,
        itpm: int | None = None,
        otpm: int | None = None,
        rpd: int | None = None,
        max_parallel: int | None = None,
        kind: Kind | None = None,
        window_seconds: float | None = None,
        group: str | None = None,
        per_model: bool = False,
        enforce: bool = True,
        token_rule: Literal["max", "sum"] = "max",
    ) -> str:
        """Sets what a key may use (see `settings.KeySettings`) and returns its name in reports.

        A key that was known starts anew: valid again, with no counts.
        """
        body = {
            "secret": secret,
            "name": name,
            "rpm": rpm,
            "tpm": tpm,
            "itpm": itpm,
            "otpm": otpm,
            "rpd": rpd,
            "max_parallel": max_parallel,
            "kind": kind,
            "window_seconds": window_seconds,
            "group": group,
            "per_model": per_model,
            "enforce": enforce,
            "token_rule": token_rule,
        }
        return str(self._call("POST", "/_sim/keys", body)["name"])

    def add_fault(
        self,
        kind: str,
        *,
        key: str | None = None,
        protocol: Protocol | None = None,
        model: str | None = None,
        probability: float = 1.0,
        times: int | None = None,
        seconds: float | str | None = None,
        error: str | None = None,
        period: int = 1,
        retry_after: float | None = None,
        midway: bool = False,
    ) -> None:
        """Puts a fault in force (see `faults.Fault`).

        Example:
            simulation.add_fault("overloaded_error", times=2)
            simulation.add_fault("latency", seconds="lognormal:0.3:0.5", protocol="openai")
        """
        body = {
            "kind": kind,
            "key": key,
            "protocol": protocol,
            "model": model,
            "probability": probability,
            "times": times,
            "seconds": seconds,
            "error": error,
            "period": period,
            "retry_after": retry_after,
            "midway": midway,
        }
        self._call("POST", "/_sim/faults", body)

    def clear_faults(self) -> None:
        """Takes all faults out of force."""
        self._call("DELETE", "/_sim/faults")

    def revoke(self, key: str) -> None:
        """Makes a key, given by secret or name, invalid from now on."""
        self._call("POST", "/_sim/revoke", {"key": key})

    def reset(self) -> None:
        """Forgets all counts and empties all windows; settings and revocations stay."""
        self._call("POST", "/_sim/reset")

    def report(self, *, timestamps: bool = False) -> Report:
        """What each key did, by name; with `timestamps` also when each request was admitted."""
        path = "/_sim/report?timestamps=1" if timestamps else "/_sim/report"
        return cast(Report, self._call("GET", path))

    def health(self) -> dict[str, Any]:
        """`{"status": "ok", "faults": [...]}`."""
        return self._call("GET", "/_sim/health")

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        # No connection stays open, since it would count among those that a test looks for.
        try:
            with closing(
                http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=self._timeout)
            ) as connection:
                connection.request(
                    method,
                    path,
                    None if body is None else json.dumps(body),
                    {"Content-Type": "application/json", "Connection": "close"},
                )
                response = connection.getresponse()
                reply: dict[str, Any] = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            raise ConnectionError(
                f"the simulation at {self.url} does not answer: {error}"
            ) from error
        if response.status != 200:
            raise ValueError(reply.get("error", f"{method} {path} answered {response.status}"))
        return reply
