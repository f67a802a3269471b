"""The one place that reads the environment and `.env`.

What the environment holds wins over `.env`; an empty value counts as not set.
"""

from __future__ import annotations

import os
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, ValidationError
from pydantic_settings import SettingsConfigDict

from core.errors import ConfigurationError
from core.secret_settings import SecretSettings

ENV_FILE = ".env"

LARGEST_RATE = 1_000_000_000
"""Requests a minute that a limit of users may allow: the scripts' numbers stay whole up to it."""


class Settings(SecretSettings):
    """Every setting, named as in the environment but in lower case; frozen.

    Example:
        >>> Settings(_env_file=None, rate_window_seconds=2).rate_window_seconds
        2.0
    """

    model_config = SettingsConfigDict(
        env_file=ENV_FILE, env_ignore_empty=True, extra="ignore", frozen=True, case_sensitive=False
    )

    redis_url: str | None = Field(
        None,
        repr=False,  # it may hold a password
        pattern=r"^(unix|rediss?(\+cluster|\+sentinel)?)://.+",
        description="redis://host:6379/0, redis+cluster://host:6379,host:6379, "
        "redis+sentinel://host:26379,host:26379/service/0, rediss in their place for TLS, or "
        "unix:///path; empty for the embedded server",
    )
    redis_key_prefix: str = Field(
        "llm", pattern=r"^[A-Za-z0-9_.-]{1,40}$", description="1 to 40 letters, digits, _ . or -"
    )
    redis_timeout_seconds: float = Field(5.0, gt=0, le=60, description="more than 0, at most 60")
    llm_on_redis_down: Literal["local", "fail"] = Field("local", description="local or fail")
    llm_data_dir: Path | None = Field(
        None, description="a folder of yours for the embedded server's data"
    )
    keys_file: Path = Field(Path("keys.json"), description="the path of a keys.json")
    rate_window_seconds: float = Field(
        60.0, ge=0.5, le=3600, description="0.5 to 3600; 60 but in demos and tests"
    )
    user_rpm_default: int | None = Field(
        None, ge=1, le=LARGEST_RATE, description=f"1 to {LARGEST_RATE}, or empty for no limit"
    )
    user_burst_default: int | None = Field(
        None, ge=1, le=LARGEST_RATE, description=f"1 to {LARGEST_RATE}, or empty for the rate"
    )
    global_rpm_max: int | None = Field(
        None, ge=1, le=LARGEST_RATE, description=f"1 to {LARGEST_RATE}, or empty for no limit"
    )
    global_burst_max: int | None = Field(
        None, ge=1, le=LARGEST_RATE, description=f"1 to {LARGEST_RATE}, or empty for the rate"
    )
    conversation_ttl_seconds: int = Field(
        86_400, ge=1, le=315_360_000, description="1 to 315360000 (ten years)"
    )
    llm_max_retries: int = Field(3, ge=0, le=20, description="0 to 20")
    llm_base_backoff_ms: int = Field(500, ge=0, le=60_000, description="0 to 60000")
    llm_retry_budget: float = Field(
        0.2, ge=0, le=1, description="0 to 1: retries for each request, beside a small allowance"
    )
    llm_circuit_failures: int = Field(5, ge=0, le=1000, description="0 (never) to 1000")
    llm_circuit_seconds: float = Field(10.0, gt=0, le=3600, description="more than 0, at most 3600")
    llm_request_timeout_seconds: float = Field(
        120.0, gt=0, le=3600, description="more than 0, at most 3600"
    )
    llm_stream_idle_seconds: float = Field(
        60.0, gt=0, le=3600, description="more than 0, at most 3600"
    )
    llm_multi_key_router_enabled: bool = Field(True, description="true or false")
    prometheus_port: int | None = Field(None, ge=1, le=65_535, description="1 to 65535, or empty")
    prometheus_address: IPv4Address | IPv6Address = Field(
        IPv4Address("0.0.0.0"), description="an IP address: 0.0.0.0 for all, 127.0.0.1"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "WARNING", description="DEBUG, INFO, WARNING, ERROR or CRITICAL"
    )
    log_format: Literal["console", "json"] = Field("console", description="console or json")


def load_settings(env_file: str | Path | None = ENV_FILE) -> Settings:
    """Read the settings afresh.

    Args:
        env_file: the file beside the environment, or None for the environment alone.

    Raises:
        ConfigurationError: a value is wrong; the message names each and what is allowed.
    """
    try:
        return Settings(_env_file=env_file)  # type: ignore[call-arg]
    except ValidationError as error:
        raise ConfigurationError(_explain(error)) from None
    except UnicodeDecodeError:
        raise _not_text(env_file) from None


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def environment(env_file: str | Path | None = ENV_FILE) -> dict[str, str]:
    """All variables of `.env` and of the environment, which wins; for the secrets' names."""
    try:
        merged = dict(dotenv_values(env_file)) if env_file is not None else {}
    except UnicodeDecodeError:
        raise _not_text(env_file) from None
    merged.update((name, value) for name, value in os.environ.items() if value)
    return {name: value for name, value in merged.items() if value}


def _not_text(env_file: str | Path | None) -> ConfigurationError:
    return ConfigurationError(f"{env_file} is not in UTF-8; save it as UTF-8")


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        name = str(problem["loc"][0])
        field = Settings.model_fields[name]
        hidden = not field.repr or "@" in str(problem["input"])  # a URL may hold a password
        found = "not understood" if hidden else repr(problem["input"])
        lines.append(f"{name.upper()} is {found}; allowed: {field.description}")
    return "wrong setting: " + "; ".join(lines)
