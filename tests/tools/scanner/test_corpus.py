"""The scanner over the corpus: what it must find, and what it must not."""

from __future__ import annotations

import pytest

from tests.tools.scanner.contexts import CONTEXTS
from tests.tools.scanner.corpus import (
    LEAST_LLM_RECALL,
    LEAST_OF_EACH,
    LEAST_PRECISION,
    LEAST_RECALL,
    corpus,
    score,
)
from tests.tools.scanner.credentials import KINDS
from tools.scanner.engine import LITERALS, Engine
from tools.scanner.prefilter import InTime, best, without
from tools.scanner.scanner import Scanner

SEED = 20_261


def test_nearly_every_secret_is_found_and_nearly_nothing_else() -> None:
    files = list(corpus(SEED))[::2]
    scanner = Scanner()
    findings = {f.path: len(scanner.scan_bytes(f.content, f.path).findings) for f in files}
    scores = score(files, findings)
    assert scores.recall >= LEAST_RECALL
    assert scores.llm_recall >= LEAST_LLM_RECALL
    assert scores.precision >= LEAST_PRECISION
    assert {c.name for c in CONTEXTS} < set(scores.contexts)
    assert {k.name for k in KINDS} < set(scores.found)
    weak = {
        name: f"{hits}/{total}"
        for table in (scores.found, scores.contexts)
        for name, (hits, total) in table.items()
        if hits < LEAST_OF_EACH * total
    }
    assert weak == {}


def test_hyperscan_changes_no_finding() -> None:
    pytest.importorskip("hyperscan")
    scanners = [
        Scanner(Engine(prefilter=prefilter(LITERALS))) for prefilter in (without, best, InTime)
    ]
    files = list(corpus(SEED + 1))[::15]
    scanners[-1].scan_bytes(b"\n" * (2**21 - 2**18), "so that it changes in the midst of them")
    for file in files:
        plain, *others = (s.scan_bytes(file.content, file.path).findings for s in scanners)
        assert all(findings == plain for findings in others), file.path


def test_short_and_long_texts_are_searched_alike() -> None:
    """The standard library asks for all literals at once in short texts only."""
    scanner = Scanner()
    for file in list(corpus(SEED + 2))[::40]:
        if b"\n" in file.content[-1:] and b"\0" not in file.content and len(file.content) < 400:
            alone = scanner.scan_bytes(file.content, file.path).findings
            amid = scanner.scan_bytes(file.content + b"\n" * 2000, file.path).findings
            assert amid == alone, file.path
