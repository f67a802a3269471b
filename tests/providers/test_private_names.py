"""What is used of the SDKs although it has no public name: an upgrade that drops it shows here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from google.genai import Client
from google.genai._api_client import BaseApiClient, HttpResponse

REASON = "google-genai has no public way to a stream's response; see GeminiAdapter._open"


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("_build_request", ["http_method", "path", "request_dict", "http_options"]),
        ("_request_once", ["http_request", "stream"]),
        ("_async_request_once", ["http_request", "stream"]),
    ],
)
def test_google_genai_still_sends_a_stream_s_request_so(name: str, parameters: list[str]) -> None:
    method: Any = getattr(BaseApiClient, name, None)
    assert method is not None, f"BaseApiClient.{name} has gone; {REASON}"
    found = list(inspect.signature(method).parameters)[1:]
    assert found[: len(parameters)] == parameters, f"{name} takes {found} now; {REASON}"


def test_google_genai_still_keeps_the_response() -> None:
    client = Client(api_key="k" * 20, vertexai=False)
    assert isinstance(getattr(client, "_api_client", None), BaseApiClient), (
        f"Client._api_client has gone; {REASON}"
    )
    assert hasattr(HttpResponse({}, None), "response_stream"), (
        f"HttpResponse.response_stream has gone; {REASON}"
    )
    client.close()
