"""Which keys can do what a request asks for; a request that none can do is refused. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.errors import InvalidRequest
from keys.selection import Selection
from llm.providers.abilities import Ability

if TYPE_CHECKING:
    from keys.spec import KeySpec

Abilities = Callable[["KeySpec"], frozenset[Ability]]


@dataclass(frozen=True)
class Able:
    """A rule for a selection: a key may serve if its provider and model do all of this."""

    needs: frozenset[Ability]
    abilities_of: Abilities

    def allows(self, key: KeySpec) -> bool:
        """Whether a key may serve."""
        return self.needs <= self.abilities_of(key)


def able(
    selection: Selection,
    needs: frozenset[Ability],
    abilities_of: Abilities,
    models_of: Callable[[Selection], Sequence[str]],
) -> Selection:
    """The selection without the keys that cannot do what is needed.

    Raises:
        InvalidRequest: none can; the message names what, and which models cannot.
    """
    if not needs:
        return selection
    narrowed = replace(selection, rule=Able(needs, abilities_of))
    models = models_of(selection)
    if not models or models_of(narrowed):
        return narrowed
    lacking = sorted(
        need.value
        for need in needs
        if not models_of(replace(selection, rule=Able(frozenset({need}), abilities_of)))
    )
    which = "no allowed model can do " + (
        " or ".join(lacking)
        if lacking
        else "all of this together: " + ", ".join(sorted(need.value for need in needs))
    )
    raise InvalidRequest(
        f"{which} ({', '.join(models[:10])}); leave it out, or allow a model that can"
    )
