"""A corpus of planted credentials and of what only looks like one, and the scores over it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.tools.scanner.contexts import CONTEXTS, Context, basic_auth
from tests.tools.scanner.credentials import KINDS, Fake, Kind, password
from tests.tools.scanner.negatives import NEGATIVES, certificate, minified, negative

LEAST_RECALL, LEAST_LLM_RECALL, LEAST_PRECISION, LEAST_OF_EACH = 0.95, 0.97, 0.95, 0.8


@dataclass(frozen=True)
class Planted:
    """A file of the corpus; `kind` is "" where nothing in it may be found."""

    path: str
    content: bytes
    context: str
    kind: str = ""
    llm: bool = False
    negative: str = ""


def _bytes(content: str | bytes) -> bytes:
    return content if isinstance(content, bytes) else content.encode()


def corpus(seed: int, rounds: int = 1) -> Iterator[Planted]:
    """Every kind in every context that takes it, and every negative in the contexts of text."""
    fake = Fake(seed)
    for turn in range(rounds):
        for context in CONTEXTS:
            for kind in KINDS:
                if context.takes(kind):
                    yield _planted(fake, turn, context, kind)
        for number in range(40):
            content = basic_auth(fake, password(fake)).encode()
            yield Planted(f"p/{turn}/basic-{number}.txt", content, "basic-auth", "basic-auth")
        yield from _negatives(fake, turn)


def _planted(fake: Fake, turn: int, context: Context, kind: Kind) -> Planted:
    content = _bytes(context.write(fake, kind.variable, kind.make(fake)))
    path = f"p/{turn}/{context.name}-{kind.name}{context.ending}"
    return Planted(path, content, context.name, kind.name, kind.llm)


def _negatives(fake: Fake, turn: int) -> Iterator[Planted]:
    places = [c for c in CONTEXTS if "token" in c.shapes and c.name not in ("http-dump", "curl")]
    for context in places:
        # A manifest says that everything in it is secret.
        if context.name.startswith("k8s-secret"):
            continue
        for name in NEGATIVES:
            variable, value = negative(fake, name)
            if context.name.startswith("utf") or context.ending in (".gz", ".zip", ".xz", ".bz2"):
                value = value.encode("ascii", "replace").decode()
            path = f"n/{turn}/{context.name}-{name}{context.ending}"
            content = _bytes(
                context.write(
                    fake, variable, value.replace("'", "''") if "sql" in context.name else value
                )
            )
            yield Planted(path, content, context.name, negative=name)
    for number in range(20):
        yield Planted(
            f"n/{turn}/cert-{number}.pem",
            certificate(fake).encode(),
            "pem-file",
            negative="certificate",
        )
        yield Planted(
            f"n/{turn}/app-{number}.min.js",
            minified(fake).encode(),
            "minified",
            negative="minified",
        )
        yield Planted(
            f"n/{turn}/noise-{number}.bin", fake.randbytes(20_000), "binary", negative="noise"
        )


def write(files: Sequence[Planted], folder: Path) -> None:
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)


@dataclass
class Scores:
    """How many of each kind and context were found, and what was reported without reason."""

    found: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    contexts: dict[str, list[int]] = field(default_factory=lambda: defaultdict(lambda: [0, 0]))
    false: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    total: list[int] = field(default_factory=lambda: [0, 0])
    llm: list[int] = field(default_factory=lambda: [0, 0])
    missed: list[Planted] = field(default_factory=list)
    wrong: list[Planted] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.total[0] / self.total[1]

    @property
    def llm_recall(self) -> float:
        return self.llm[0] / self.llm[1]

    @property
    def precision(self) -> float:
        return self.total[0] / (self.total[0] + sum(self.false.values()))


def score(files: Sequence[Planted], findings: Mapping[str, int]) -> Scores:
    """Scores `findings`, the number of findings in each file by its path."""
    scores = Scores()
    for file in files:
        number = findings.get(file.path, 0)
        if not file.kind:
            scores.false[file.negative] += number
            if number:
                scores.wrong.append(file)
            continue
        hit = bool(number)
        for counter in (
            scores.total,
            scores.found[file.kind],
            scores.contexts[file.context],
            *([scores.llm] if file.llm else []),
        ):
            counter[0] += hit
            counter[1] += 1
        if not hit:
            scores.missed.append(file)
    return scores
