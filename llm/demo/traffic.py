"""Requests from several threads, and what came of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from random import Random

from core.events import CapacityWaited, Event, subscribe
from core.types import Reply
from llm.demo.cast import EXPECTED_TOKENS, MAX_OUTPUT_TOKENS, MODELS
from llm.router import RequestRouter

_TIMEOUT_SECONDS = 60.0
_PATIENCE_SECONDS = 50.0
_STOP_SECONDS = 1.0
_WITHOUT_PREFERENCE = 0.6
_QUESTIONS = (
    "What is a token bucket?",
    "Say hello in three languages.",
    "Why is the sky blue?",
    "Name a prime number above 100.",
    "What does a sliding window count?",
    "How far away is the moon?",
)


class Traffic:
    """A context manager that sends `requests` requests from `threads` threads.

    Most allow any key; the others prefer a model and allow the rest as fallbacks. All wait for
    room rather than be refused.

    Attributes:
        replies: of the requests that are finished.
        waited: ids of the requests that found every key full at least once.
        began: when the first was sent, by `time.monotonic()`.
    """

    def __init__(self, router: RequestRouter, requests: int, threads: int, seed: int = 0) -> None:
        self.requests = requests
        self.replies: list[Reply] = []
        self.waited: set[str] = set()
        self.began = 0.0
        self._router = router
        self._left = requests
        self._lock = threading.Lock()
        self._failure: BaseException | None = None
        self._random = Random(seed)
        self._threads = [
            threading.Thread(target=self._work, name=f"demo-{n}", daemon=True)
            for n in range(threads)
        ]

    def __enter__(self) -> Traffic:
        self._unsubscribe = subscribe(self._note)
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._left = 0
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._unsubscribe()

    @property
    def running(self) -> bool:
        """Whether a thread is still at work.

        Raises:
            BaseException: what a thread broke on, which is a fault of the demo or the router.
        """
        if self._failure is not None:
            raise self._failure
        return any(thread.is_alive() for thread in self._threads)

    @property
    def answered(self) -> int:
        """Requests that were answered so far."""
        return sum(reply["success"] for reply in self.replies)

    @property
    def retries(self) -> int:
        """Attempts beyond each request's first, so far."""
        return retries_in(self.replies)

    def _work(self) -> None:
        try:
            while (task := self._next()) is not None:
                question, models = task
                reply = self._router.send_one_shot(
                    question,
                    models[0] if models else None,
                    fallback_models=models[1:],
                    expected_completion_tokens=EXPECTED_TOKENS,
                    max_output_tokens=MAX_OUTPUT_TOKENS,
                    timeout=_TIMEOUT_SECONDS,
                    max_wait=_PATIENCE_SECONDS,
                )
                self.replies.append(reply)
        except BaseException as error:  # noqa: BLE001 - raised again by `running`
            self._failure = error

    def _next(self) -> tuple[str, list[str]] | None:
        """The next question, with the models in the order of preference; none allows every key."""
        with self._lock:
            if self._left == 0:
                return None
            self._left -= 1
            question = self._random.choice(_QUESTIONS)
            if self._random.random() < _WITHOUT_PREFERENCE:
                return question, []
            return question, self._random.sample(MODELS, len(MODELS))

    def _note(self, event: Event) -> None:
        if isinstance(event, CapacityWaited):
            self.waited.add(event.request_id)


def retries_in(replies: Sequence[Reply]) -> int:
    """Attempts beyond the first of each request."""
    return sum(max(0, len(reply["attempts"]) - 1) for reply in tuple(replies))
