"""What the adapters of the three SDKs share: clients, the deadline, and one way for errors out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from core.errors import ProviderError
from core.types import ProviderReply
from llm.providers.base import ProviderCall
from llm.providers.clients import ClientCache, ClientT
from llm.providers.translate import Answer, Refusal, Rule, failure

if TYPE_CHECKING:
    import httpx2


CallT = TypeVar("CallT", bound=ProviderCall)


class SdkAdapter(ABC, Generic[ClientT]):
    """A provider that is called through its own SDK, which is imported at the first send.

    An SDK's exception holds the request with its key, and so do the frames of its traceback. None
    leaves `send`, not even as the context of ours: errors are made from the plain answer.
    """

    rules: ClassVar[Sequence[Rule]]

    def __init__(self) -> None:
        self._clients = ClientCache(self._connect)

    def send(self, call: ProviderCall) -> ProviderReply:
        """Call the provider once: no retry, no redirect, no second request for a long answer.

        Raises:
            core.errors.ProviderError: the most specific one that fits.
        """
        return self._read(call, self._answer(call, self._ask))

    def close(self) -> None:
        """Take no more calls, and close the connections after the last one that is under way."""
        self._clients.close()

    def _answer(self, call: CallT, ask: Callable[[ClientT, CallT], Answer]) -> Answer:
        """The answer of a success; raises what else came."""
        answer = self._exchange(call, ask)
        if isinstance(answer, ProviderError):
            raise answer
        if not 200 <= answer.status < 300:
            raise failure(call, self._refusal(answer), self.rules)
        return answer

    def _exchange(
        self, call: CallT, ask: Callable[[ClientT, CallT], Answer]
    ) -> Answer | ProviderError:
        from llm.providers.transport import Deadline, failure_of

        try:
            with self._clients.lease(call) as client, Deadline(call.timeout):
                return ask(client, call)
        except ProviderError as error:
            return error.with_traceback(None)
        except Exception as error:
            broken = failure_of(error, call) or (
                failure_of(error.__cause__, call) if error.__cause__ is not None else None
            )
            if broken is None:
                raise
            return broken

    @abstractmethod
    def _connect(self, call: ProviderCall, http: httpx2.Client) -> ClientT:
        """A client for the call's key and address over `http`, deaf to the environment."""

    @abstractmethod
    def _ask(self, client: ClientT, call: ProviderCall) -> Answer:
        """The provider's answer, whatever its status; network errors are raised."""

    @abstractmethod
    def _refusal(self, answer: Answer) -> Refusal:
        """What an answer that is no success says."""

    @abstractmethod
    def _read(self, call: ProviderCall, answer: Answer) -> ProviderReply:
        """The reply in a success. Raises ContentBlocked or ProviderUnavailable."""
