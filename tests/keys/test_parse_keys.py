from __future__ import annotations

import json
import string
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ConfigurationError
from keys.registry import parse_keys
from keys.spec import WRITE
from tests.keys.fakes import entry, fake_secret, text_of


def refusal(text: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        parse_keys(text, path="keys.json")
    assert caught.value.__context__ is None
    return str(caught.value)


def test_a_good_file_gives_its_keys_in_order() -> None:
    keys = parse_keys(
        text_of(
            entry("a", rpm=10, tpm=250_000, rpd=1500, active=True, tags={"tier": "free"}),
            entry("b", itpm=1, otpm=2, max_parallel=3, burst_window_seconds=1, priority=2),
            entry("c", quota_group="g", base_url="https://example.org/v1", active=False, rpm=None),
            **{"$schema": "./keys/keys.schema.json"},
        ),
        path="keys.json",
    )
    assert [key.key_id for key in keys] == ["a", "b", "c"]
    assert (keys[0].rpm, keys[0].tags) == (10, {"tier": "free"})
    assert (keys[1].burst_window_seconds, keys[1].priority) == (1.0, 2)
    assert (keys[2].group, keys[2].active, keys[2].rpm) == ("g", False, None)


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    text = "\ufeff" + text_of(entry()).replace("\n", "\r\n")
    assert len(parse_keys(text, path="keys.json")) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{,}", "keys.json:1:2: this is not JSON: write a field's name in double quotes here"),
        ('{"keys": [1,\n]}', "keys.json:1:12: this is not JSON: this comma before ] is one too"),
        ('{"keys": [{"a": 1,}]}', "keys.json:1:18: this is not JSON: this comma before }"),
        ('{"keys": [1 2]}', "keys.json:1:13: this is not JSON: a comma or ] is missing before"),
        ('{"keys" [1]}', "keys.json:1:9: this is not JSON: a colon is missing before this"),
        ('{"keys": }', "keys.json:1:10: this is not JSON: a value is missing here"),
        ('// mine\n{"keys": []}', "keys.json:1:1: this is not JSON: JSON knows no comments"),
        ('{\n  # mine\n"keys": []}', "keys.json:2:3: this is not JSON: JSON knows no comments"),
        ('{"keys": [] /* all */}', "keys.json:1:13: this is not JSON: JSON knows no comments"),
        ("{'keys': []}", 'keys.json:1:2: this is not JSON: write straight double quotes (")'),
        ("{\u201ckeys\u201d: []}", "keys.json:1:2: this is not JSON: write straight double quo"),
        ("{keys: []}", "keys.json:1:2: this is not JSON: put names and texts into double quotes"),
        ('{"keys": [NaN]}', "keys.json:1:11: this is not JSON: NaN and Infinity are no numbers"),
        ('{"keys": [-Infinity]}', "NaN and Infinity are no numbers of JSON; leave the field out"),
        ('{"keys": [True]}', "write true, false or null, in small letters"),
        ('{"keys": [None]}', "write true, false or null, in small letters"),
        ('{"keys": [007]}', "write a plain number, such as 10 or 0.5"),
        ('{"keys": [1_000]}', "write a plain number, such as 10 or 0.5"),
        ('{"keys": [+1]}', "write a plain number, such as 10 or 0.5"),
        ('{"keys": ["a\nb"]}', "keys.json:1:11: this is not JSON: this text has no closing quote"),
        ('{"keys": ["\\x41"]}', "or a backslash that JSON does not know"),
        ('{"keys": [1', "keys.json:1:12: this is not JSON: the file ends too early; close every"),
        ('{"keys": ["a', "this text has no closing quote on its line"),
        ('{"keys": []}\n}', "keys.json:2:1: this is not JSON: the file goes on after its last"),
        ('{"keys": [\x00]}', "this character has no meaning here"),
        ("[" * 5000, "keys.json:1:21: this is not JSON: this is nested too deeply"),
        ('{"a":' * 5000, "this is nested too deeply"),
    ],
)
def test_broken_json_is_refused_with_line_column_and_a_hint(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", 'keys.json:1: write {"keys": [...]} around the keys'),
        ("3", 'keys.json:1: write {"keys": [...]} around the keys'),
        ("{}", 'keys.json:1: "keys" is no list; write "keys": [...]'),
        ('{"keys": {}}', 'keys.json:1: "keys" is no list; write "keys": [...]'),
        ('{"kyes": []}', 'keys.json:1: unknown field "kyes"; did you mean keys?'),
        ('{"keys":\n[1]}', "keys.json:2: keys[0] is 1; write an object in braces"),
        ('{"keys": [[]]}', "keys.json:1: keys[0] is a list; write an object in braces"),
        ('{"keys": [],\n "keys": []}', 'keys.json:2: "keys" is written twice; keep one'),
    ],
)
def test_another_shape_is_refused(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize("text", ["", " \n", '{"keys": []}'])
def test_no_keys_at_all_names_both_ways_to_some(text: str) -> None:
    message = refusal(text)
    assert "python -m keys init" in message
    assert "OPENAI_API_KEY" in message
    assert "keys_example.json" in message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rpm": -5}, "rpm is -5; write a whole number of 1 or more, or leave it out"),
        ({"rpm": 0}, "rpm is 0; write a whole number of 1 or more, or leave it out"),
        ({"rpm": "10"}, 'rpm is "10"; write a whole number'),
        ({"rpm": 1.5}, "rpm is 1.5; write a whole number"),
        ({"rpm": 10.0}, "rpm is 10.0; write a whole number"),
        ({"rpm": True}, "rpm is true; write a whole number"),
        ({"rpm": 10**13}, "rpm is 10000000000000; write a whole number"),
        ({"rpm": [1]}, "rpm is a list; write a whole number"),
        ({"burst_window_seconds": 0}, "burst_window_seconds is 0; write a number above 0"),
        ({"burst_window_seconds": "1"}, 'burst_window_seconds is "1"; write a number above 0'),
        ({"burst_window_seconds": True}, "burst_window_seconds is true; write a number"),
        ({"burst_window_seconds": 61}, "burst_window_seconds is 61; write a number above 0"),
        ({"priority": -1}, "priority is -1; write a whole number from 0 to 100"),
        ({"priority": 101}, "priority is 101; write a whole number from 0 to 100"),
        ({"active": "yes"}, 'active is "yes"; write true or false, without quotes'),
        ({"active": 1}, "active is 1; write true or false, without quotes"),
        ({"tags": ["free"]}, 'tags is a list; write names with texts, such as {"tier": "free"}'),
        ({"tags": {"tier": 1}}, 'tags is {"tier": 1}; write names with texts'),
        ({"tags": {"": "x"}}, 'tags is {"": "x"}; write names with texts'),
        ({"tags": {"a": "\ud800"}}, 'tags is {"a": "\\ud800"}; write names with texts'),
        ({"base_url": "example.org"}, 'base_url is "example.org"; write an address that starts'),
        ({"base_url": "https://[::1/v1"}, 'base_url is "https://[::1/v1"; write an address'),
        ({"base_url": "https://h:abc/v1"}, 'base_url is "https://h:abc/v1"; write an address'),
        ({"base_url": "https://h:65536"}, 'base_url is "https://h:65536"; write an address'),
        ({"base_url": "https://:443/v1"}, 'base_url is "https://:443/v1"; write an address'),
        ({"provider": "OpenAI"}, 'provider is "OpenAI"; write openai, anthropic, gemini or'),
        ({"model_name": ""}, 'model_name is ""; write letters, digits and'),
        ({"model_name": "a b"}, 'model_name is "a b"; write letters, digits and'),
        ({"quota_group": "a{b}"}, 'quota_group is "a{b}"; write letters, digits and'),
        ({"model_name": "m" * 129}, "model_name is a text of 129 characters; write letters"),
        ({"rmp": 5}, 'unknown field "rmp"; did you mean rpm?'),
        ({"Model": "x"}, 'unknown field "Model"; did you mean model_name?'),
        ({"zzzz": 5}, 'unknown field "zzzz"; known are key_id, model_name, provider'),
    ],
)
def test_a_wrong_field_is_told_with_its_line_and_what_to_write(
    fields: dict[str, Any], message: str
) -> None:
    text = text_of(entry("first"), {**entry("gemini-flash-01"), **fields})
    name = next(iter(fields))
    line = max(n for n, row in enumerate(text.split("\n"), 1) if f'"{name}"' in row)
    told = refusal(text)
    assert told.startswith(f"keys.json:{line}: keys[1] 'gemini-flash-01': {message}")
    assert "\n" not in told


def test_numbers_beyond_all_bounds_are_refused_like_others() -> None:
    for number in ("1e999", "1" * 5000, "-0", "0.0"):
        text = text_of(entry(rpm="RPM")).replace('"RPM"', number)
        assert "rpm is " in refusal(text)


def test_missing_fields_stand_at_the_entrys_line() -> None:
    told = refusal('{"keys": [\n  {"key_id": "a"},\n  {}\n]}')
    assert told.split("\n") == [
        f"keys.json:2: keys[0] 'a': model_name is missing; write {WRITE['model_name']}",
        f"keys.json:2: keys[0] 'a': provider is missing; write {WRITE['provider']}",
        f"keys.json:3: keys[1]: key_id is missing; write {WRITE['key_id']}",
        f"keys.json:3: keys[1]: model_name is missing; write {WRITE['model_name']}",
        f"keys.json:3: keys[1]: provider is missing; write {WRITE['provider']}",
    ]


def test_a_field_that_stands_twice_is_refused() -> None:
    text = text_of(entry("a", rpm=1)).replace('"rpm": 1', '"rpm": 1,\n      "rpm": 2')
    assert refusal(text) == "keys.json:8: keys[0] 'a': \"rpm\" is written twice; keep one"


def test_an_id_that_stands_twice_is_refused() -> None:
    told = refusal(text_of(entry("a"), entry("b"), entry("a")))
    assert told == (
        "keys.json:14: keys[2] 'a': key_id is already taken; write another (see keys[0] 'a')"
    )


@pytest.mark.parametrize("twin", ["a_b", "A-B", "a.b", "API_KEY_A_B"])
def test_two_keys_that_would_read_one_secret_are_refused(twin: str) -> None:
    told = refusal(text_of(entry("a-b"), entry(twin)))
    assert f"keys[1] '{twin}': key_id leads to the same secret, API_KEY_A_B; write" in told


def test_a_key_named_like_the_usual_variable_clashes_with_the_default_key() -> None:
    told = refusal(text_of(entry("openai-default"), entry("OPENAI_API_KEY")))
    assert "leads to the same secret, OPENAI_API_KEY" in told


def test_a_group_belongs_to_one_provider() -> None:
    told = refusal(
        text_of(entry("a", quota_group="g"), entry("b", quota_group="g", provider="gemini"))
    )
    assert told == (
        "keys.json:13: keys[1] 'b': quota_group 'g' belongs to openai, and this key to gemini; "
        "write a group of its own (see keys[0] 'a')"
    )
    parse_keys(text_of(entry("a", quota_group="g"), entry("b", quota_group="g")), path="k")


def test_a_registered_provider_is_allowed() -> None:
    assert parse_keys(text_of(entry(provider="my-own_1")), path="k")[0].provider == "my-own_1"


def test_all_problems_are_told_in_the_order_of_their_lines() -> None:
    told = refusal(text_of(entry("a", rpm=0), entry("b", tmp=3), entry("a"), top=1)).split("\n")
    assert [line.split(": ")[0] for line in told] == sorted(
        (line.split(": ")[0] for line in told), key=lambda place: int(place.split(":")[1])
    )
    assert len(told) == 3


def test_very_many_problems_are_cut_off() -> None:
    told = refusal(text_of(*(entry(f"k{n}", rpm=0) for n in range(500)))).split("\n")
    assert len(told) == 51
    assert told[-1] == "keys.json: and 450 more problems"


@pytest.mark.parametrize(
    "field", [*WRITE, "api_key", "secret", "apiKey", "password", "auth_token", "note"]
)
def test_a_secret_in_any_field_is_refused_and_never_shown(field: str) -> None:
    secret = fake_secret()
    told = refusal(text_of({**entry("gemini-flash-01"), field: secret}))
    assert f'"{field}" seems to hold a secret, and secrets never live in keys.json' in told
    assert secret not in told
    if field != "key_id":
        assert "put it into the environment as API_KEY_GEMINI_FLASH_01" in told


@pytest.mark.parametrize(
    "shape",
    [
        lambda secret: text_of({**entry(), secret: 1}),
        lambda secret: text_of(entry(tags={"a": secret})),
        lambda secret: text_of(entry(tags={secret: "a"})),
        lambda secret: text_of(entry(deep=[{"a": [secret]}])),
        lambda secret: text_of(entry(base_url=f"https://u:{secret}@example.org")),
        lambda secret: text_of(secret),
        lambda secret: text_of(entry(), api_key=secret),
        lambda secret: text_of(entry(), **{"$schema": secret}),
        lambda secret: text_of(entry(), **{secret: 1}),
        lambda secret: json.dumps(secret),
        lambda secret: f'{{"keys": [{{"api_key": "{secret}"',
        lambda secret: f'{{"keys": [{secret}]}}',
        lambda secret: f'{{"keys": ["{secret}" "{secret}"]}}',
    ],
)
def test_a_secret_anywhere_in_the_file_is_never_shown(shape: Any) -> None:
    for prefix in ("s" + "k-", "AI" + "za", ""):
        secret = fake_secret(prefix)
        assert secret not in refusal(shape(secret))


def test_a_short_value_in_a_secretly_named_field_is_not_shown_either() -> None:
    assert "hunter2" not in refusal(text_of(entry(password="hunter2")))


def test_five_thousand_keys_are_read_within_a_second() -> None:
    text = text_of(
        *(
            entry(
                f"openai-key-{n:05}", rpm=500, tpm=200_000, rpd=10_000, quota_group=f"group-{n}",
                base_url="https://example.org/v1beta/models", tags={"tier": "tier1"}, active=True,
            )
            for n in range(5000)
        )
    )  # fmt: skip

    def seconds() -> float:
        started = time.process_time()
        assert len(parse_keys(text, path="keys.json")) == 5000
        return time.process_time() - started

    assert min(seconds() for _ in range(3)) < 1.0


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
_fields = st.dictionaries(st.sampled_from([*WRITE, "api_key", "zz"]), _json, max_size=8)


def parse_or_refuse(text: str) -> None:
    try:
        assert parse_keys(text, path="keys.json")
    except ConfigurationError as error:
        str(error).encode("ascii" if text.isascii() else "utf-8")


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=string.printable + '{}[]":,é\ud800', max_size=80))
def test_no_text_makes_it_fail_in_another_way(text: str) -> None:
    parse_or_refuse(text)
    parse_or_refuse('{"keys": [' + text + "]}")


@settings(max_examples=100, deadline=None)
@given(_json)
def test_no_json_makes_it_fail_in_another_way(value: Any) -> None:
    parse_or_refuse(json.dumps(value))
    parse_or_refuse(json.dumps({"keys": value}))


@settings(max_examples=60, deadline=None)
@given(st.lists(_fields, min_size=1, max_size=3))
def test_no_entry_makes_it_fail_in_another_way(entries: list[dict[str, Any]]) -> None:
    parse_or_refuse(json.dumps({"keys": entries}))


@settings(max_examples=100, deadline=None)
@given(_json.filter(lambda value: isinstance(value, (dict, list))))
def test_what_the_standard_library_reads_is_read_the_same(value: Any) -> None:
    from keys.schema import _Broken, _Reader

    text = json.dumps(value)
    try:
        read = _Reader(text).document()
    except _Broken:
        with pytest.raises(ValueError, match="Out of range"):
            json.dumps(value, allow_nan=False)
    else:
        assert read == json.loads(text)


def test_the_path_in_messages_is_the_one_that_was_given() -> None:
    with pytest.raises(ConfigurationError, match=r"^/etc/router/my keys\.json:1:"):
        parse_keys("[]", path=str(Path("/etc/router/my keys.json")))
