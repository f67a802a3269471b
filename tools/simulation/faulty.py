"""A request that a provider refuses for its form."""

from __future__ import annotations


class InvalidRequest(Exception):
    """The body of a request is not what the provider's API takes.

    Args:
        row: the named error that says so; by default the dialect's usual one.
    """

    def __init__(self, detail: str, param: str | None = None, row: str | None = None) -> None:
        super().__init__(detail)
        self.param = param
        self.row = row
