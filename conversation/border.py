"""Where Redis meets the conversations: scripts are run, and their errors become ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from redis.exceptions import RedisError

from conversation.records import another_users
from core.errors import ConversationUnavailable
from core.redis_calls import Calls
from lua.conversation_calls import Outcome
from lua.loader import ScriptCall, run_pipeline


def run(redis: Calls, what: str, call: ScriptCall) -> Any:
    """Run a script; `what` begins the message of the error.

    Raises:
        ConversationUnavailable: Redis is out of reach, refuses, or answers what cannot be read.
    """
    with _border(what):
        return call.run(redis)


def run_all(redis: Calls, what: str, commands: Sequence[ScriptCall]) -> list[Any]:
    """Run scripts in one round trip; hand each result to `answer`.

    Raises:
        ConversationUnavailable: as for `run`; a script that fails alone does not raise here.
    """
    with _border(what):
        return run_pipeline(redis, commands)


def answer(what: str, result: Any) -> Any:
    """The result of one script of a pipeline.

    Raises:
        ConversationUnavailable: the result is an exception.
    """
    with _border(what):
        if isinstance(result, Exception):
            raise result
        return result


def named(conv_id: str) -> str:
    """How messages call a conversation."""
    return f"conversation {conv_id!r}"


def done(conv_id: str, outcome: int) -> bool:
    """Whether a script did something; False if that was done before.

    Raises:
        InvalidRequest: the script refused, since the conversation is another user's.
    """
    if outcome == Outcome.ANOTHER_USERS:
        raise another_users(conv_id)
    return outcome == Outcome.DONE


@contextmanager
def _border(what: str) -> Iterator[None]:
    # A reply that is not UTF-8 fails in redis-py as UnicodeDecodeError, outside its own tree.
    try:
        yield
    except (RedisError, UnicodeDecodeError) as error:
        raise ConversationUnavailable(f"{what}: {error}") from error
