"""Settings: what each may be, where it comes from, and what is said when it is wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from core.errors import ConfigurationError
from core.settings import Settings, environment, get_settings, load_settings

DEFAULTS = {
    "redis_url": None,
    "redis_key_prefix": "llm",
    "keys_file": Path("keys.json"),
    "secret_store_type": "env",
    "rate_window_seconds": 60.0,
    "conversation_ttl_seconds": 86_400,
    "llm_max_retries": 3,
    "llm_base_backoff_ms": 500,
    "llm_multi_key_router_enabled": True,
    "prometheus_port": None,
}

WRONG = {
    "REDIS_URL": ["localhost:6379", "http://localhost", "redis://", 'redis:/host"'],
    "REDIS_KEY_PREFIX": ["a b", "a{b}", "x" * 41, "ä"],
    "REDIS_TIMEOUT_SECONDS": ["0", "-1", "61", "soon", "nan", "inf"],
    "SECRET_STORE_TYPE": ["gcp", "ENV "],
    "SECRET_CACHE_TTL_SECONDS": ["-1", "long", "nan"],
    "SECRET_STALE_SECONDS": ["-1", "long", "nan"],
    "SECRET_STORE_TIMEOUT_SECONDS": ["0", "61", "nan"],
    "VAULT_ADDR": ["vault:8200", "ftp://vault", "https://user:password@vault"],
    "VAULT_SECRET_PATH": ["a b", "//", "a?b"],
    "VAULT_NAMESPACE": ["a b"],
    "VAULT_KV_VERSION": ["3", "v2"],
    "VAULT_KUBERNETES_ROLE": ["a b"],
    "VAULT_AUTH_MOUNT": ["a b"],
    "AWS_REGION": ["Frankfurt", "eu central 1"],
    "AWS_SECRET_PREFIX": ["llm:", "a b"],
    "AZURE_VAULT_URL": ["http://v.vault.azure.net", "v.vault.azure.net", "https://v/x"],
    "AZURE_SECRET_PREFIX": ["llm/", "a_b"],
    "AZURE_TENANT_ID": ["a b"],
    "AZURE_CLIENT_ID": ["a b"],
    "RATE_WINDOW_SECONDS": ["0", "0.4", "3601", "minute", "nan"],
    "CONVERSATION_TTL_SECONDS": ["0", "-5", "1.5", "day", str(10**30)],
    "LLM_MAX_RETRIES": ["-1", "21", "1.5", "many"],
    "LLM_BASE_BACKOFF_MS": ["-1", "60001", "fast"],
    "LLM_REQUEST_TIMEOUT_SECONDS": ["0", "-1", "3601", "nan"],
    "LLM_MULTI_KEY_ROUTER_ENABLED": ["maybe", "2"],
    "PROMETHEUS_PORT": ["0", "65536", "http"],
    "PROMETHEUS_ADDRESS": ["localhost", "256.0.0.1", "0.0.0.0:80"],
    "LOG_LEVEL": ["LOUD", "10"],
    "LOG_FORMAT": ["xml"],
}

RIGHT = {
    "REDIS_URL": ["redis://h", "rediss://u:p@h:1/2", "unix:///run/redis.sock?db=1"],
    "REDIS_KEY_PREFIX": ["a", "team-1.prod_x"],
    "REDIS_TIMEOUT_SECONDS": ["0.001", "60"],
    "SECRET_STORE_TYPE": ["env", "vault", "aws", "azure", "file"],
    "SECRET_CACHE_TTL_SECONDS": ["0", "31536000"],
    "VAULT_ADDR": ["https://vault.example.com", "http://127.0.0.1:8200/"],
    "VAULT_SECRET_PATH": ["secret", "/secret/llm/", "team/kv/llm"],
    "VAULT_NAMESPACE": ["team-a", "team-a/prod/"],
    "VAULT_KV_VERSION": ["1", "2"],
    "AWS_REGION": ["eu-central-1", "us-gov-west-1", "ap-southeast-2"],
    "AWS_SECRET_PREFIX": ["prod/llm-", "a_b"],
    "AZURE_VAULT_URL": ["https://team-keys.vault.azure.net", "https://v.vault.azure.cn/"],
    "RATE_WINDOW_SECONDS": ["0.5", "3600"],
    "LLM_MAX_RETRIES": ["0", "20"],
    "LLM_MULTI_KEY_ROUTER_ENABLED": ["true", "false", "1", "0", "True", "no"],
    "PROMETHEUS_PORT": ["1", "65535"],
    "PROMETHEUS_ADDRESS": ["0.0.0.0", "127.0.0.1", "::1"],
    "LOG_LEVEL": ["DEBUG", "CRITICAL"],
    "LOG_FORMAT": ["json", "console"],
}


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def test_without_any_setting_everything_has_its_default() -> None:
    settings = load_settings()
    for name, value in DEFAULTS.items():
        assert getattr(settings, name) == value


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in WRONG.items() for v in values])
def test_a_wrong_value_is_refused_with_its_name_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    message = str(caught.value)
    assert name in message
    allowed = Settings.model_fields[name.lower()].description
    assert allowed
    assert f"allowed: {allowed}" in message


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in RIGHT.items() for v in values])
def test_the_bounds_of_what_is_allowed_are_allowed(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    load_settings()


def test_every_setting_says_what_is_allowed() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_all_wrong_values_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_MAX_RETRIES", "-1")
    monkeypatch.setenv("LOG_FORMAT", "xml")
    with pytest.raises(ConfigurationError, match=r"(?s)LLM_MAX_RETRIES.*LOG_FORMAT"):
        load_settings()


def test_a_wrong_redis_url_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", "http://:hunter2@localhost:6379")
    monkeypatch.setenv("VAULT_ADDR", "https://bo:hunter2@localhost:8200")
    with pytest.raises(ConfigurationError, match=r"REDIS_URL|VAULT_ADDR") as caught:
        load_settings()
    assert "hunter2" not in str(caught.value)


def test_the_password_of_redis_is_not_shown() -> None:
    settings = Settings(_env_file=None, redis_url="redis://:hunter2@localhost")  # type: ignore[call-arg]
    assert "hunter2" not in f"{settings!r}{settings}"


def test_the_env_file_is_read(env_file: Path) -> None:
    env_file.write_text("LLM_MAX_RETRIES=7\nOTHER=1\n# a comment\nexport LOG_FORMAT=json\n")
    settings = load_settings()
    assert (settings.llm_max_retries, settings.log_format) == (7, "json")


def test_a_wrong_value_in_the_env_file_is_refused(env_file: Path) -> None:
    env_file.write_text("LLM_MAX_RETRIES=many\n")
    with pytest.raises(ConfigurationError, match="LLM_MAX_RETRIES is 'many'; allowed: 0 to 20"):
        load_settings()


def test_the_environment_wins_over_the_env_file(
    monkeypatch: pytest.MonkeyPatch, env_file: Path
) -> None:
    env_file.write_text("LLM_MAX_RETRIES=7\nLLM_BASE_BACKOFF_MS=9\n")
    monkeypatch.setenv("LLM_MAX_RETRIES", "1")
    settings = load_settings()
    assert (settings.llm_max_retries, settings.llm_base_backoff_ms) == (1, 9)


def test_without_an_env_file_only_the_environment_counts(env_file: Path) -> None:
    env_file.write_text("LLM_MAX_RETRIES=7\n")
    assert load_settings(None).llm_max_retries == 3


def test_names_may_be_in_small_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("llm_max_retries", "5")
    assert load_settings().llm_max_retries == 5


@pytest.mark.parametrize("name", [*RIGHT, "KEYS_FILE", "LLM_DATA_DIR"])
def test_an_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    field = name.lower()
    assert getattr(load_settings(), field) == Settings.model_fields[field].default


def test_an_empty_value_leaves_that_of_the_env_file_in_force(
    monkeypatch: pytest.MonkeyPatch, env_file: Path
) -> None:
    env_file.write_text("LLM_MAX_RETRIES=7\nAPI_KEY_A=from-the-file\n")
    monkeypatch.setenv("LLM_MAX_RETRIES", "")
    monkeypatch.setenv("API_KEY_A", "")
    assert load_settings().llm_max_retries == 7
    assert environment()["API_KEY_A"] == "from-the-file"


def test_the_variables_of_secrets_come_from_both_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, env_file: Path
) -> None:
    env_file.write_text("API_KEY_A=file\nAPI_KEY_B=file\nAPI_KEY_C=\nBARE\n")
    monkeypatch.setenv("API_KEY_B", "environment")
    found = environment()
    assert (found["API_KEY_A"], found["API_KEY_B"]) == ("file", "environment")
    assert "API_KEY_C" not in found
    assert "BARE" not in found
    assert "API_KEY_A" not in environment(None)


def test_a_missing_env_file_is_no_mistake(tmp_path: Path) -> None:
    assert load_settings(tmp_path / "no.env").llm_max_retries == 3


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load_settings().llm_max_retries = 5


def test_the_settings_of_the_process_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    get_settings.cache_clear()
    before = get_settings()
    monkeypatch.setenv("LLM_MAX_RETRIES", "5")
    assert get_settings() is before
    get_settings.cache_clear()


def test_an_env_file_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"\xff\xfeA\x00")
    for read in (load_settings, environment):
        with pytest.raises(ConfigurationError, match="not in UTF-8"):
            read(path)


SECRET = [name for name, field in Settings.model_fields.items() if not field.repr]


@pytest.mark.parametrize("name", SECRET)
def test_settings_that_hold_secrets_are_never_shown(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    value = "redis://:hunter2@localhost" if name == "redis_url" else "hunter2"
    monkeypatch.setenv(name.upper(), value)
    settings = load_settings()
    assert getattr(settings, name)
    assert "hunter2" not in f"{settings!r}{settings}"


def test_every_secret_among_the_settings_is_known_as_one() -> None:
    assert set(SECRET) == {
        "redis_url",
        "llm_encryption_key",
        "vault_token",
        "vault_role_id",
        "vault_secret_id",
        "azure_client_secret",
    }


def test_the_example_names_every_setting_and_no_other() -> None:
    lines = (Path(__file__).parents[2] / ".env.example").read_text().splitlines()
    named = {
        line.lstrip("# ").partition("=")[0] for line in lines if re.match(r"#? ?[A-Z_]+=", line)
    }
    others = {"API_KEY_GEMINI_FLASH_01"}
    assert named - others == {name.upper() for name in Settings.model_fields}
