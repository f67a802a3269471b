"""What is a secret and what only stands in the place of one."""

from __future__ import annotations

import hashlib

import pytest

from tests.tools.scanner.conftest import Found
from tests.tools.scanner.credentials import Fake, github, password
from tools.scanner import checks
from tools.scanner.judgement import judge
from tools.scanner.names import meaning
from tools.scanner.shapes import looks_random, wordy


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("OPENAI_API_KEY", "secret"),
        ("openaiApiKey", "secret"),
        ("x-api-key", "secret"),
        ("DB_PASSWORD", "password"),
        ("spring.datasource.password", "password"),
        ("mistral_key", "secret"),
        ("key", "key"),
        ("max_tokens", ""),
        ("api_key_hash", ""),
        ("PUBLIC_KEY", ""),
        ("next_page_token", ""),
        ("keyboard", ""),
        ("idempotency_key", ""),
        ("password_hint", ""),
    ],
)
def test_names_tell_what_they_hold(name: str, kind: str) -> None:
    assert meaning(name).kind == kind


def test_a_number_in_a_name_makes_no_provider_of_what_stands_around_it(
    found: Found, fake: Fake
) -> None:
    value = fake.alnum(32)
    assert [f.rule.id for f in found(f"co_api_key_2 = '{value}'")] == ["cohere-api-key"]
    assert [f.rule.id for f in found(f"co2api_key = '{value}'")] == ["generic-secret"]


@pytest.mark.parametrize(
    "text", ["getTokenFromRequest", "my-kubernetes-cluster-name", "user_password_hash_v2"]
)
def test_words_are_not_random(text: str) -> None:
    assert wordy(text)
    assert not looks_random(text)


def test_drawn_text_is_random(fake: Fake) -> None:
    drawn = [fake.alnum(32) for _ in range(500)]
    assert sum(map(looks_random, drawn)) >= 0.98 * len(drawn)


def test_a_real_key_beside_the_word_example_is_found(found: Found, secret: str) -> None:
    (finding,) = found(f"# example, not a placeholder: KEY={secret}  # changeme\n")
    assert finding.rule.id == "anthropic-api-key"


def test_a_wrong_checksum_is_no_token(found: Found, fake: Fake) -> None:
    token = github(fake)
    wrong = token[:-1] + ("x" if token[-1] != "x" else "y")
    assert [f.rule.id for f in found(f"token = '{token}'")] == ["github-token"]
    assert found(f"token = '{wrong}'") == []


def test_code_that_names_passwords_holds_none(found: Found) -> None:
    code = (
        "password = get_password(user1)\n"
        "token = tokens[index + 1]\n"
        "secret = self._secret2\n"
        'parser.add_argument("--password", help="at least 8 characters")\n'
        "def f(api_key: str = DEFAULT_KEY_V2, password: str | None = None): ...\n"
        'TOKEN = re.compile(r"gh[pousr]_[A-Za-z0-9]{36}")\n'
    )
    assert found(code, "code.py") == []


def test_a_hash_is_no_password(found: Found, fake: Fake) -> None:
    assert found(f"password: {fake.hex(40)}\nmd5: {fake.hex(32)}\n") == []


def test_a_secret_is_told_once(found: Found, secret: str) -> None:
    assert len(found(f'{{"api_key": "{secret}", "authorization": "Bearer {secret}"}}')) == 1
    assert len(found(f"API_KEY={secret}\nAPI_KEY={secret}\n")) == 2


@pytest.mark.parametrize(
    "line",
    [
        'requests.get(u, auth=("deploy", "{}"))',
        "machine api.acme.io login deploy password {}",
        "sshpass -p '{}' ssh host",
        "curl -u deploy:{} https://host/",
        "CREATE USER app IDENTIFIED BY '{}';",
        'db, err := sql.Open("mysql", "app:{}@tcp(db:3306)/main")',
        '{{"outputs": {{"db_password": {{"type": "string", "value": "{}"}}}}}}',
        '[{{"value": "{}", "name": "DB_PASSWORD"}}]',
        "password = <<EOF\n{}\nEOF",
        "&lt;password&gt;{}&lt;/password&gt;",
        "| DB_PASSWORD | `{}` |",
        "The admin password is `{}`, keep it.",
        "level=info msg=start db_password={} port=1",
        '<add name="x" connectionString="User Id=a;Password={};Encrypt=True" />',
        "export PW=1; helm upgrade x --set auth.password={}",
        'config.put("password", "{}");',
    ],
)
def test_passwords_are_found_where_people_leave_them(found: Found, fake: Fake, line: str) -> None:
    assert found(line.format(password(fake)))


def test_a_documented_example_is_known_by_its_hash(
    found: Found, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = "AIza" + fake.alnum(35)
    text = f'GOOGLE_API_KEY = "{example}"\nplain {example}\n'
    assert len(found(text)) == 2
    monkeypatch.setattr(checks, "_DOCUMENTED", {hashlib.sha256(example.encode()).hexdigest()[:16]})
    again = f'GOOGLE_API_KEY = "{example}"\nplain {example}\nother_api_key = "{example}"\n'
    judge.cache_clear()
    assert found(again) == []
