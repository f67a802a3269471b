"""What a value looks like by itself: drawn at random, written by a person, or something known."""

from __future__ import annotations

import math
import re
from functools import lru_cache

# The pairs of letters that make up most of English words and of identifiers.
_PAIRS = frozenset(
    re.findall(
        "..",
        "inreerteatstonestienlearsemmetdecontoraledratalianngritrismegeroitmaecloioca"
        "nendelaceaastodinslactsiicprpeuncefichpaveilllnassexnoadolabouncamrsrttsimth"
        "omurpoemmpopscdablhautheodidapplmiosmospshnisosuefttusocotagckkeigvaeptculfo"
        "clhoircriarrrclstybaffptiermumeecigraisadolybeowooltevlubihivmnvegslmvvi",
    )
)
_LETTERS = re.compile("[A-Za-z]+")
_CAMEL = re.compile("(?<=[a-z])(?=[A-Z])")
_DIGIT_MEETS_LETTER = re.compile(r"(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])")
_DIGIT = re.compile(r"\d")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I)
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_REPEATS = re.compile(r"(.)\1{5,}|(..)\2{3,}|(...)\3{2,}|(.{4,8})\4{2,}")
_RUNS = ("abcdefghijklmnopqrstuvwxyz", "0123456789012345", "qwertyuiop", "asdfghjkl", "zxcvbnm")


def _walks(length: int) -> tuple[str, ...]:
    rows = [*_RUNS, *(run[::-1] for run in _RUNS)]
    return tuple({row[i : i + length] for row in rows for i in range(len(row) - length + 1)})


_PART = 5
_WALKS, _LONG_WALKS, _STEPS = _walks(6), _walks(8), frozenset(_walks(_PART))
_HASH_LENGTHS = {32, 40, 48, 56, 64, 96, 128}


def entropy(text: str) -> float:
    """Bits a character, by how often each occurs in `text`."""
    total, repeated = len(text), 0.0
    for sign in set(text):
        times = text.count(sign)
        if times > 1:
            repeated += times * math.log2(times)
    return math.log2(total) - repeated / total if total else 0.0


def wordiness(text: str) -> float:
    """The share of neighbouring letters that are common in words: 0.2 if random, 0.75 if words."""
    pairs, common = _pairs(text)
    return common / pairs if pairs else 0.0


def wordy(text: str) -> bool:
    """Made of words. The fewer pairs of letters there are to judge by, the clearer it must be."""
    rows = [word for word in _LETTERS.findall(text) if len(word) >= 3]
    letters = sum(map(len, rows))
    if letters < max(4, len(text) * 0.4) or digit_borders(text) >= max(5, len(text) / 6):
        return False
    pairs, common = _pairs(text)
    return bool(pairs) and common / pairs >= (0.5 if pairs >= 20 else 0.55 if pairs >= 12 else 0.66)


def digit_borders(text: str) -> int:
    """How often letters and digits meet: seldom in a name with a number, often by chance."""
    return len(_DIGIT_MEETS_LETTER.findall(text))


@lru_cache(1024)
def _pairs(text: str) -> tuple[int, int]:
    """How many letters have a neighbour, and how many of these pairs are common."""
    pairs = common = 0
    for word in _LETTERS.findall(_CAMEL.sub(" ", text)):
        lower = word.lower()
        pairs += len(lower) - 1
        common += sum([lower[i : i + 2] in _PAIRS for i in range(len(lower) - 1)])
    return pairs, common


def is_uuid(text: str) -> bool:
    return len(text) == 36 and bool(_UUID.fullmatch(text))


def is_hex(text: str) -> bool:
    return bool(_HEX.fullmatch(text))


def is_hash(text: str) -> bool:
    return len(text) in _HASH_LENGTHS and is_hex(text)


@lru_cache(1024)
def has_pattern(text: str) -> bool:
    """Repeats itself or walks along the alphabet or the keyboard, as no drawn value does."""
    lower = text.lower()
    # Every repetition has a part that occurs twice, and every walk one of a walk.
    parts = {lower[i : i + _PART] for i in range(len(lower) - _PART + 1)}
    if len(parts) <= len(lower) - _PART and _REPEATS.search(text):
        return True
    if parts.isdisjoint(_STEPS):
        return False
    return any(walk in lower for walk in (_WALKS if len(text) < 60 else _LONG_WALKS))


def classes(text: str) -> int:
    """How many of lower case, upper case, digits and other signs occur."""
    return (
        (text != text.upper())
        + (text != text.lower())
        + has_digit(text)
        + (not text.isalnum() and bool(text))
    )


def has_digit(text: str) -> bool:
    return _DIGIT.search(text) is not None


def looks_random(text: str) -> bool:
    """Drawn at random rather than written: entropy by alphabet, no pattern, no words."""
    length = len(text)
    if length < 8:
        return False
    # By cost: most values are words, or too plain.
    if is_hex(text):
        if length < 16:
            drawn = classes(text) >= 2 and entropy(text) >= 2.2
        else:
            drawn = classes(text) >= 2 and entropy(text) >= (2.5 if length < 24 else 2.9)
        return drawn and not has_pattern(text)
    if text.lower() == text.upper():
        return False  # no letters
    if not has_digit(text) and (length < 16 or text.islower() or text.isupper()):
        return False
    if wordy(text) or entropy(text) < _least_entropy(length):
        return False
    return not has_pattern(text)


def _least_entropy(length: int) -> float:
    # A random string of n characters stays some way below log2(n), more so as n nears 62.
    return min(3.9, 0.78 * math.log2(length))
