"""Where credentials stand that only their place gives away, and how they are told."""

from __future__ import annotations

import base64
import string
from typing import Any

import pytest

from tests.tools.scanner.conftest import Found
from tests.tools.scanner.credentials import Fake, password
from tools.scanner.addresses import addresses


def letters(fake: Fake) -> str:
    """Upper and lower case without a digit."""
    return "qK" + fake.text("bcdfghjkmnpqrstvwxzBCDFGHJKMNPQRSTVWXZ", 9)


@pytest.mark.parametrize("opening", ["(\n    ", "(", "str(\n    ", "( "])
def test_a_value_in_parentheses(found: Found, fake: Fake, opening: str) -> None:
    secret = fake.alnum(32)
    (finding,) = found(f'SERVICE_TOKEN = {opening}"{secret}"\n)\n')
    assert (finding.secret, finding.name) == (secret, "SERVICE_TOKEN")


@pytest.mark.parametrize(
    "command",
    [
        "curl -u admin:{} https://host/",
        "curl -sS https://host/ --user 'admin:{}'",
        "curl -X POST \\\n  -H 'Accept: text/plain' \\\n  --user admin:{} \\\n  https://host/",
    ],
)
def test_passwords_of_commands(found: Found, fake: Fake, command: str) -> None:
    drawn = fake.text(string.ascii_lowercase + string.digits, 12) + "4k"
    for secret in (drawn, "s3cr" + "3t" + drawn, letters(fake)):
        (finding,) = found(command.format(secret))
        assert finding.secret == secret


@pytest.mark.parametrize(
    "command",
    [
        "curl -u admin:password https://host/",
        "curl -u admin:s3cr3t https://host/",
        'curl -u "$USER:$PASSWORD" https://host/',
        "curl -u user:<password> https://host/",
        "curl --user 1000:100000 https://host/",
        "curl -u name:your-password-2 https://host/",
    ],
)
def test_commands_without_a_password(found: Found, command: str) -> None:
    assert found(command) == []


@pytest.mark.parametrize(
    "line",
    [
        "jdbc:mysql://db/main?user=app&password={}&useSSL=true",
        "jdbc:sqlserver://db:1433;user=sa;password={};encrypt=true",
        "Server=db;User Id=sa;Password={};",
        "machine api.acme.io login deploy password {}",
        "machine api.acme.io\n  login deploy\n  password {}\n",
    ],
)
def test_passwords_of_letters_alone_in_addresses(found: Found, fake: Fake, line: str) -> None:
    secret = letters(fake)
    assert [f.secret for f in found(line.format(secret))] == [secret]
    for none in ("changeMe", "MyPassword", "userPassword", "${DB_PASSWORD}", "passwordField"):
        assert found(line.format(none)) == []


def test_code_with_such_parameters_holds_none(found: Found) -> None:
    assert found("f(a);password=readPasswordFrom(console);\nx&password=newPassWord&y\n") == []


@pytest.mark.parametrize("name", ["DB_PASSWORD", "APP_SECRET_KEY", "MISTRAL_API_KEY"])
def test_data_of_kubernetes_are_told_in_the_clear(found: Found, fake: Fake, name: str) -> None:
    secret = password(fake) if name == "DB_PASSWORD" else fake.alnum(32)
    packed = base64.b64encode(secret.encode()).decode()
    (finding,) = found(f"apiVersion: v1\nkind: Secret\ndata:\n  {name}: {packed}\n")
    assert (finding.secret, finding.layers) == (secret, ("base64",))
    assert packed[-4:] not in finding.shown


@pytest.mark.parametrize(
    "text",
    [
        "https://host/?q=%7B%22api_key%22%3A%20%22{}%22%7D",
        "%22api_key%22%3A%20%22{}%22%7D",
        "form=api_key%3D{}%26page%3D1",
        "api_key=%27{}%27",
        "x=1&api_key={}%7D",
    ],
)
def test_signs_that_a_url_encodes_are_no_part_of_a_value(
    found: Found, fake: Fake, text: str
) -> None:
    secret = fake.alnum(32)
    (finding,) = found(text.format(secret))
    assert (finding.secret, finding.name) == (secret, "api_key")


@pytest.mark.parametrize(
    "line",
    [
        "authenticity_token={}",
        '<input name="__RequestVerificationToken" type="hidden" value="{}" />',
        '"csrfToken": "{}"',
    ],
)
def test_tokens_against_forgery_are_no_secrets(found: Found, fake: Fake, line: str) -> None:
    assert found(line.format(fake.alnum(44))) == []


@pytest.mark.parametrize(
    "line",
    [
        "DB_PASSWORD={};{}",
        "export DB_PASSWORD={}){}",
        "password: {},{}",
        "API_KEY: {}]{}",
        'api_key = "{}\'{}"',
        "API_KEY='{}\"{}'",
    ],
)
def test_a_value_that_begins_with_a_word_goes_on_behind_a_sign(
    found: Found, fake: Fake, line: str
) -> None:
    """A word alone is no secret; what looks like its end may be drawn as well."""
    line = line.format(letters(fake)[:5], fake.alnum(20))
    (finding,) = found(line)
    assert finding.secret in line
    assert len(finding.secret) == 26


@pytest.mark.parametrize(
    "line",
    [
        "token: str | None = '{}'",
        'let accessToken: string | undefined = "{}";',
        'API_KEY: Optional[str] = "{}"',
        'apiKey string = "{}"',
        'api_key: str = Field(default="{}")',
        "password = forms.CharField(initial='{}')",
    ],
)
def test_a_type_may_stand_before_a_value(found: Found, fake: Fake, line: str) -> None:
    secret = fake.alnum(32)
    assert [f.secret for f in found(line.format(secret))] == [secret]


def test_an_old_vault_token_is_no_other_providers_key(found: Found, fake: Fake) -> None:
    secret = "s." + fake.alnum(24)
    assert [f.rule.id for f in found(f"the vault at azure\nread('{secret}')")] == []
    assert [f.rule.id for f in found(f"the vault here\nread('{secret}')")] == ["vault-token"]


@pytest.mark.parametrize("before", ["@", "@@ -1 +1 @@\n+", "https://acme.io/ ", "me@acme.io " * 40])
def test_an_address_is_found_whatever_stands_before_it(
    found: Found, fake: Fake, before: str
) -> None:
    secret = password(fake)
    for address in ("redis://app:{}@cache/0", "app:{}@tcp(db:3306)/main"):
        text = before + " " * 400 + address.format(secret)
        assert [f.secret for f in found(text)] == [secret]


@pytest.mark.parametrize("unit", [b"://", b"@"])
def test_half_an_address_costs_nothing_however_often_it_stands_there(unit: bytes) -> None:
    searches = 0

    class Text(bytes):
        def find(self, *where: Any) -> int:
            nonlocal searches
            searches += 1
            return super().find(*where)

    text = Text(b"x " + unit * 1000)
    assert list(addresses(text, text, (b"://",))) == []
    assert searches < 10


@pytest.mark.parametrize(
    "text",
    [
        "- name: token prod\n  value: '{}'\n",
        "label: password staging\nvalue: '{}'\n",
        "name: secret foo; value: '{}'\n",
        "{{name: token foo, value: '{}'}}\n",
    ],
)
def test_a_label_may_hold_more_words_than_the_telling_one(
    found: Found, fake: Fake, text: str
) -> None:
    secret = fake.alnum(32)
    assert [f.secret for f in found(text.format(secret))] == [secret]
