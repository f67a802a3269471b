"""Word lists, as they stand in the source."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of `text`.

    >>> sorted(words("one two"))
    ['one', 'two']
    """
    return frozenset(text.split())
