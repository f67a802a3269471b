"""Finds credentials in tables, where the name stands in a header and the value in a row."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from .findings import Match
from .judgement import judge
from .names import GENERIC, Meaning, meaning, provider
from .words import words

_NEUTRAL = words("""
    value val content data setting text v setting_value config_value option_value
""")
_NO_COLUMNS = words("primary key unique constraint index foreign check fulltext spatial exclude")
_LONGEST_LIST = 4200
_INTO, _FROM = b"insert i", b"from stdin"
LITERALS = (_INTO, _FROM)
_LONGEST_ROW = 65_536
_CELL = re.compile(rb"[ \t]*[\"'`\[]?([A-Za-z][\w .\-]{0,60})[\"'`\]]?[ \t]*")
_DELIMITERS = (b",", b"\t", b";", b"|")

_INSERT = re.compile(
    rb"insert\s{1,20}(?:ignore\s{1,9})?into\s{1,20}([\w.\"`\[\]]{1,128})\s{0,20}"
    rb"(?:\(([^()]{1,4000})\)\s{0,20})?(?:overriding \w+ value\s{1,9})?values\s{0,20}",
    re.I,
)
_CREATE = re.compile(
    rb"create\s{1,20}table\s{1,20}(?:if\s+not\s+exists\s{1,9})?([\w.\"`\[\]]{1,128})\s{0,20}\(",
    re.I,
)
_COPY = re.compile(
    rb"copy\s{1,20}[\w.\"]{1,128}\s{0,20}\(([^()]{1,4000})\)\s{1,20}from\s{1,20}stdin", re.I
)
_COLUMN = re.compile(rb"(?:\A|,)\s*[\"`\[]?(\w{1,64})[\"`\]]?\s+\w")
_SQL_TOKEN = re.compile(
    rb"[nNEeBbXx]?'((?:[^'\\]|\\.|''){0,4000})'|\"((?:[^\"\\]|\\.){0,4000})\"|([(),;])|([^\s'\"(),;]+)"
)


@dataclass(frozen=True, slots=True)
class Columns:
    """The names over a table, and what each says of the values below it."""

    names: tuple[str, ...]
    delimiter: bytes = b","

    def tell(self) -> bool:
        return any(meaning(name).kind or name.lower() in _NEUTRAL for name in self.names)


def csv_header(data: bytes) -> tuple[Columns, int] | None:
    """The header of delimited text and where its rows begin, if it names a credential."""
    begin = len(data) - len(data.lstrip(b"\xef\xbb\xbf\r\n#"))
    end = data.find(b"\n", begin, begin + 4000)
    if end < 0:
        return None
    line = data[begin:end].rstrip(b"\r")
    for delimiter in _DELIMITERS:
        if delimiter not in line:
            continue
        names = _header(line.strip(b"|").split(delimiter))
        columns = Columns(names, delimiter)
        if len(names) > 1 and columns.tell():
            return columns, end + 1
    return None


def _header(cells: list[bytes]) -> tuple[str, ...]:
    """What stands in `cells`, if each holds a name; nothing otherwise."""
    names = []
    for cell in cells:
        found = _CELL.fullmatch(cell)
        if not found:
            return ()
        names.append(found[1].decode("latin-1").strip())
    return tuple(names)


def csv_rows(data: bytes, columns: Columns, start: int, stop: int | None = None) -> Iterator[Match]:
    """Credentials in the rows of `data` from `start` to `stop` or its end."""
    size = len(data) if stop is None else stop
    while start < size:
        end = data.find(b"\n", start, size)
        end = end if end >= 0 else size
        if end - start <= _LONGEST_ROW and columns.delimiter in data[start:end]:
            yield from _row(data, start, end, columns)
        start = end + 1


def _row(data: bytes, start: int, end: int, columns: Columns) -> Iterator[Match]:
    line = data[start:end].rstrip(b"\r")
    if columns.delimiter == b"|":
        inner = line.strip().strip(b"|")
        texts = [cell.strip(b" \t`") for cell in inner.split(b"|")]
    elif b'"' in line:
        import csv

        reader = csv.reader([line.decode("latin-1")], delimiter=columns.delimiter.decode())
        try:
            texts = [cell.encode("latin-1") for cell in next(reader, [])]
        except csv.Error:
            return
    else:
        texts = line.split(columns.delimiter)
    cells, at = [], start
    for text in texts:
        found = data.find(text, at, end) if text else at
        at = found if found >= 0 else at
        cells.append((at, text))
        at += len(text)
    if len(cells) == len(columns.names):
        yield from row_matches(cells, columns.names)


def row_matches(cells: Sequence[tuple[int, bytes]], names: Sequence[str]) -> Iterator[Match]:
    """Credentials in one row, each cell judged by its column, or by the name beside it."""
    for (at, text), column in zip(cells, names, strict=False):
        bare = text.strip(b" \t\"'")
        if not 6 <= len(bare) <= 512:
            continue
        name, means = column, meaning(column)
        others = [
            cell.decode("latin-1") for _, cell in cells if cell is not text and len(cell) < 80
        ]
        if not means.kind and column.lower() in _NEUTRAL:
            name, means = next(
                ((other, m) for other in others if (m := meaning(other)).kind), (name, Meaning(""))
            )
        if not means.kind:
            continue
        rule = means.rule
        if rule is GENERIC:
            rule = provider(" ".join(others)) or rule
            if means.kind == "key" and rule is not GENERIC:
                means = Meaning("secret", rule)
        confidence = judge(bare.decode("latin-1"), Meaning(means.kind, rule), True)
        if confidence:
            begin = at + text.find(bare)
            yield Match(rule, begin, begin + len(bare), bare, confidence, name=name)


def sql_rows(data: bytes, lower: bytes, present: Collection[bytes]) -> Iterator[Match]:
    """Credentials in INSERT and COPY statements."""
    if _INTO in present:
        yield from _inserted(data, lower)
    if _FROM in present:
        yield from _copied(data, lower)


def _inserted(data: bytes, lower: bytes) -> Iterator[Match]:
    created: dict[bytes, tuple[str, ...]] | None = None
    at = lower.find(_INTO)
    while at >= 0:
        reached = at + len(_INTO)
        found = _INSERT.match(data, at)
        if found:
            if created is None:
                created = dict(_created(data, lower))
            names = _names(found[2]) if found[2] else created.get(_bare(found[1]))
            if names and Columns(names).tell():
                for until, match in _tuples(data, found.end(), names):
                    reached = until
                    if match:
                        yield match
        at = lower.find(_INTO, reached)


def _copied(data: bytes, lower: bytes) -> Iterator[Match]:
    at = lower.find(_FROM)
    while at >= 0:
        reached = at + len(_FROM)
        found = _COPY.match(data, max(0, lower.rfind(b"copy", max(0, at - _LONGEST_LIST), at)))
        if found:
            columns = Columns(_names(found[1]), b"\t")
            begin = data.find(b"\n", found.end()) + 1
            if begin and columns.tell():
                end = data.find(b"\n\\.", begin)
                reached = max(reached, end if end >= 0 else len(data))
                yield from csv_rows(data, columns, begin, reached)
        at = lower.find(_FROM, reached)


def _bare(table: bytes) -> bytes:
    return table.rpartition(b".")[2].strip(b'"`[]').lower()


def _names(listed: bytes) -> tuple[str, ...]:
    return tuple(name.strip(b' \t\r\n"`[]').decode("latin-1") for name in listed.split(b","))


def _created(data: bytes, lower: bytes) -> Iterator[tuple[bytes, tuple[str, ...]]]:
    at = lower.find(b"create table")
    while at >= 0:
        found = _CREATE.match(data, at)
        if found:
            body = re.sub(rb"\([^()]{0,200}\)", b"", data[found.end() : found.end() + 8000])
            columns = _COLUMN.findall(body.partition(b")")[0])
            names = (name.decode("latin-1") for name in columns)
            yield _bare(found[1]), tuple(n for n in names if n.lower() not in _NO_COLUMNS)
        at = lower.find(b"create table", at + 12)


def _tuples(data: bytes, start: int, names: tuple[str, ...]) -> Iterator[tuple[int, Match | None]]:
    """How far the statement was read, with each credential in its rows."""
    cells: list[tuple[int, bytes]] = []
    depth, end = 0, start
    for found in _SQL_TOKEN.finditer(data, start):
        sign, end = found[3], found.end()
        if sign == b"(":
            depth += 1
            if depth == 1:
                cells = []
        elif sign == b")":
            depth -= 1
            if depth == 0 and len(cells) == len(names):
                for match in row_matches(cells, names):
                    yield end, match
            if depth < 0:
                break
        elif sign == b";" or (depth == 0 and sign is None):
            break
        elif sign is None and len(cells) <= len(names):
            group = next(g for g in (1, 2, 4) if found[g] is not None)
            cells.append((found.start(group), found[group]))
    yield end, None
