"""What a value looks like by itself: drawn at random, written by a person, or something known."""

from __future__ import annotations

import math
import re
from collections import Counter

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
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I)
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_REPEATS = re.compile(r"(.)\1{5,}|(..)\2{3,}|(...)\3{2,}|(.{4,8})\4{2,}")
_RUNS = ("abcdefghijklmnopqrstuvwxyz", "0123456789012345", "qwertyuiop", "asdfghjkl", "zxcvbnm")


def _walks(length: int) -> tuple[str, ...]:
    rows = [*_RUNS, *(run[::-1] for run in _RUNS)]
    return tuple({row[i : i + length] for row in rows for i in range(len(row) - length + 1)})


_WALKS, _LONG_WALKS = _walks(6), _walks(8)
_HASH_LENGTHS = {32, 40, 48, 56, 64, 96, 128}


def entropy(text: str) -> float:
    """Bits a character, by how often each occurs in `text`."""
    total = len(text)
    return -sum(n / total * math.log2(n / total) for n in Counter(text).values()) if total else 0.0


def wordiness(text: str) -> float:
    """The share of neighbouring letters that are common in words: 0.2 if random, 0.75 if words."""
    pairs = _pairs(text)
    return sum(pair in _PAIRS for pair in pairs) / len(pairs) if pairs else 0.0


def wordy(text: str) -> bool:
    """Made of words. The fewer pairs of letters there are to judge by, the clearer it must be."""
    rows = [word for word in _LETTERS.findall(text) if len(word) >= 3]
    letters = sum(map(len, rows))
    if letters < max(4, len(text) * 0.4) or digit_borders(text) >= max(5, len(text) / 6):
        return False
    pairs = len(_pairs(text))
    return wordiness(text) >= (0.5 if pairs >= 20 else 0.55 if pairs >= 12 else 0.66)


def digit_borders(text: str) -> int:
    """How often letters and digits meet: seldom in a name with a number, often by chance."""
    return len(_DIGIT_MEETS_LETTER.findall(text))


def _pairs(text: str) -> list[str]:
    return [
        word[i : i + 2].lower()
        for word in _LETTERS.findall(_CAMEL.sub(" ", text))
        for i in range(len(word) - 1)
    ]


def is_uuid(text: str) -> bool:
    return bool(_UUID.fullmatch(text))


def is_hex(text: str) -> bool:
    return bool(_HEX.fullmatch(text))


def is_hash(text: str) -> bool:
    return len(text) in _HASH_LENGTHS and is_hex(text)


def has_pattern(text: str) -> bool:
    """Repeats itself or walks along the alphabet or the keyboard, as no drawn value does."""
    if _REPEATS.search(text):
        return True
    lower = text.lower()
    return any(walk in lower for walk in (_WALKS if len(text) < 60 else _LONG_WALKS))


def classes(text: str) -> int:
    """How many of lower case, upper case, digits and other signs occur."""
    return (
        any(c.islower() for c in text)
        + any(c.isupper() for c in text)
        + any(c.isdigit() for c in text)
        + any(not c.isalnum() for c in text)
    )


def looks_random(text: str) -> bool:
    """Drawn at random rather than written: entropy by alphabet, no pattern, no words."""
    length = len(text)
    if length < 8 or has_pattern(text):
        return False
    if is_hex(text):
        if length < 16:
            return classes(text) >= 2 and entropy(text) >= 2.2
        return entropy(text) >= (2.5 if length < 24 else 2.9) and classes(text) >= 2
    if text.isdigit() or entropy(text) < _least_entropy(length):
        return False
    letters = sum(c.isalpha() for c in text)
    digits = sum(c.isdigit() for c in text)
    if not letters:
        return False
    if not digits and (length < 16 or text.islower() or text.isupper()):
        return False
    return not wordy(text)


def _least_entropy(length: int) -> float:
    # A random string of n characters stays some way below log2(n), more so as n nears 62.
    return min(3.9, 0.78 * math.log2(length))
