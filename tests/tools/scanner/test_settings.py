"""Baselines, configurations in gitleaks' form, and SARIF against its schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic_sarif.model import StaticAnalysisResultsFormatSarifVersion210JsonSchema as Sarif

from tests.tools.scanner.credentials import Fake
from tools.scanner.configuration import BadConfiguration, go_regex, load

Run = Callable[..., int]


@pytest.fixture
def findings(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[dict[str, object]]]:
    def scan(*arguments: str) -> list[dict[str, object]]:
        capsys.readouterr()
        run(".", "-f", "json", *arguments)
        found: list[dict[str, object]] = json.loads(capsys.readouterr().out)["findings"]
        return found

    return scan


def test_a_baseline_outlives_moved_lines_and_hides_no_new_secret(
    run: Run, tmp_path: Path, secret: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.env"
    file.write_text(f"KEY={secret}\n")
    assert run("a.env", "-b", "base.json", "--write-baseline") == 0
    written = (tmp_path / "base.json").read_text()
    assert secret not in written
    assert "line" not in written
    file.write_text(f"\n\n# moved\nKEY={secret}\n")
    assert run("a.env", "-b", "base.json", "--fail-on-found") == 0
    file.write_text(f"KEY={secret[:-3]}zAA\n")
    capsys.readouterr()
    assert run("a.env", "-b", "base.json", "--fail-on-found", "-f", "json") == 1
    report = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in report["stale_baseline"]] == ["a.env"]


def test_baselines_of_two_folders_share_no_hash(run: Run, tmp_path: Path, secret: str) -> None:
    (tmp_path / "a.env").write_text(f"KEY={secret}\n")
    hashes = set()
    for name in ("1.json", "2.json"):
        run("a.env", "-b", name, "--write-baseline")
        hashes.add(json.loads((tmp_path / name).read_text())["entries"][0]["hash"])
    assert len(hashes) == 2


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"version": 9, "salt": "", "entries": []}'])
def test_a_baseline_that_is_none_is_refused(
    run: Run, tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.json").write_text(content)
    assert run(".", "-b", "base.json") == 2
    assert "base.json" in capsys.readouterr().err


def test_rules_and_allowlists_of_gitleaks_form(
    tmp_path: Path, fake: Fake, secret: str, findings: Callable[..., list[dict[str, object]]]
) -> None:
    acme = "acme-" + fake.hex(20)
    (tmp_path / "a.txt").write_text(f"KEY={secret}\nx = {acme}\n")
    (tmp_path / "legacy.txt").write_text(f"KEY={secret}\n")
    (tmp_path / "c.toml").write_text(
        'title = "ours"\n[extend]\nuseDefault = true\n'
        '[[rules]]\nid = "acme"\ndescription = "Acme"\n'
        "regex = '''acme-((?i)[0-9a-f]{20})'''\nkeywords = [\"acme-\"]\nentropy = 2\n"
        "[[allowlists]]\npaths = ['''^legacy''']\n"
    )
    found = findings("-c", "c.toml")
    assert sorted((f["rule"], f["path"]) for f in found) == [
        ("acme", "a.txt"), ("anthropic-api-key", "a.txt"),
    ]  # fmt: skip
    (tmp_path / "c.toml").write_text(
        f"[[allowlists]]\ntargetRules = ['anthropic-api-key']\nregexes = ['{secret[-9:]}$']\n"
    )
    assert findings("-c", "c.toml") == []
    (tmp_path / "c.toml").write_text(
        "[[rules]]\nid = 'acme'\nregex = 'acme-[0-9a-f]{20}'\npath = '[.]env$'\n"
    )
    assert "acme" not in {f["rule"] for f in findings("-c", "c.toml")}
    (tmp_path / "c.toml").write_text("[extend]\ndisabledRules = ['anthropic-api-key']\n")
    assert findings("-c", "c.toml") == []
    (tmp_path / "c.toml").write_text(
        "[extend]\nuseDefault = false\n[[rules]]\nid = 'acme'\nregex = 'acme-[0-9a-f]{20}'\n"
    )
    assert [f["rule"] for f in findings("-c", "c.toml")] == ["acme"]


def test_allowlists_look_at_the_secret_unless_told_to_look_at_the_line(
    tmp_path: Path, secret: str, findings: Callable[..., list[dict[str, object]]]
) -> None:
    (tmp_path / "a.txt").write_text(f"KEY={secret}  # of the example\n")
    (tmp_path / "c.toml").write_text("[allowlist]\nregexes = ['example']\n")
    assert len(findings("-c", "c.toml")) == 1
    (tmp_path / "c.toml").write_text("[allowlist]\nregexTarget = 'line'\nregexes = ['example']\n")
    assert findings("-c", "c.toml") == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("rules = 3", "rules must be tables"),
        ("[[rules]]\nregex = 'a'", "has no id"),
        ("[[rules]]\nid = 'a'", "neither regex"),
        ("[[rules]]\nid = 'a'\nregex = '('", "cannot be used"),
        ("[[rules]]\nid = 'a'\nregex = 'a'\nsecretGroup = 2", "no group 2"),
        ("[allowlist]\ncondition = 'XOR'", "OR or AND"),
        ("not toml", "is no TOML"),
    ],
)
def test_a_wrong_configuration_says_where(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "c.toml").write_text(content)
    with pytest.raises(BadConfiguration, match=reason):
        load(str(tmp_path / "c.toml"))


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("a(?i)b", "aB", True),
        ("a(?i)b", "AB", False),
        ("(a(?i)b)c", "aBC", False),
        ("(?i:a)b(?-i)c", "Abc", True),
        (r"[[:alnum:]]{3}\z", "ab1", True),
    ],
)
def test_regexes_of_go(pattern: str, text: str, matches: bool) -> None:
    assert bool(go_regex(pattern, "here").search(text)) is matches


def test_sarif_fits_its_schema(run: Run, tmp_path: Path, secret: str) -> None:
    (tmp_path / "a b.env").write_text(f"KEY={secret}\nDB={secret[:-4]}zzAA\n")
    assert run("a b.env", "missing", "-o", "r.sarif") == 2
    text = (tmp_path / "r.sarif").read_text()
    model = Sarif.model_validate_json(text)
    results = model.runs[0].results or []
    assert len(results) == 2
    place = results[0].locations[0].physicalLocation  # type: ignore[index]
    assert place.artifactLocation.uri == "a%20b.env"  # type: ignore[union-attr]
    # What code-scanning services ask beyond the schema: the same in each run, another for each.
    prints = [json.dumps(r["partialFingerprints"]) for r in json.loads(text)["runs"][0]["results"]]
    assert run("a b.env", "missing", "-o", "again.sarif") == 2
    again = json.loads((tmp_path / "again.sarif").read_text())["runs"][0]["results"]
    assert prints == [json.dumps(r["partialFingerprints"]) for r in again]
    assert len(set(prints)) == 2
