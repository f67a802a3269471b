"""What can be asked of a running simulation, wherever it runs."""

from __future__ import annotations

from typing import Any, Literal, cast

import httpx

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
        # Plain HTTP: to read certificates would take 50 ms. No connection stays open, since it
        # would count among those that a test looks for.
        self._http = httpx.Client(
            timeout=timeout,
            trust_env=False,
            verify=False,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

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
        try:
            response = self._http.request(method, self.url + path, json=body)
        except httpx.TransportError as error:
            raise ConnectionError(
                f"the simulation at {self.url} does not answer: {error}"
            ) from error
        reply: dict[str, Any] = response.json()
        if response.status_code != 200:
            raise ValueError(reply.get("error", f"{method} {path} answered {response.status_code}"))
        return reply
