"""`python -m llm chat`: a talk that can be left and resumed."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import sys
import time
from typing import Any

import pytest

from core.content import ImagePart, TextPart, ToolCall
from core.neutral import message_as_dict
from core.types import Message
from llm.talk import shown
from tests.cli.conftest import Place

CALL = ToolCall("1", "weather", '{"place": "Oslo"}')


def test_a_talk_has_a_history(place: Place) -> None:
    result = place.run("chat", "talk-1", typed="My name is Bo\nWhat is my name?\n/quit\nnever\n")
    assert result.stdout.splitlines() == [
        'You sent 1 message(s); the last one begins: "My name is Bo"',
        'You sent 3 message(s); the last one begins: "What is my name?"',
    ]
    assert "Go on within 24 h with: python -m llm chat talk-1" in result.stderr
    named = place.run("chat", "to Bo", "--user", "bo & ann", typed="Hello\n")
    assert "python -m llm chat 'to Bo' --user 'bo & ann'" in named.stderr


def test_a_talk_is_resumed_with_its_last_turns(place: Place) -> None:
    turns = [f"turn {number}" for number in range(5)]
    place.run("chat", "talk-1", "--user", "bo", typed="\n".join(turns))
    result = place.run("chat", "talk-1", "--user", "bo", typed="And now?\n")
    assert "You sent 11 message(s)" in result.stdout
    assert "user: turn 4" in result.stderr
    assert "user: turn 1" not in result.stderr
    assert "python -m llm chat talk-1 --user bo" in result.stderr


def test_a_new_talk_gets_a_name_to_resume_it_by(place: Place) -> None:
    result = place.run("chat", typed="Hello\n")
    (name,) = re.findall(r"python -m llm chat ([a-z]+-[a-z]+-\d+)\n", result.stderr)
    assert "You sent 3 message(s)" in place.run("chat", name, typed="Again\n").stdout


def test_a_talk_in_which_nothing_was_said_leaves_nothing(place: Place) -> None:
    assert "nothing is kept" in place.run("chat", "talk-1", typed="").stderr
    assert "No conversations" in place.run("conversations").stdout


def test_commands_within_a_talk(place: Place) -> None:
    result = place.run("chat", "talk-1", "-s", "Be kind.", typed="Hi\n/history\n/help\n/what\n\n")
    assert "system: Be kind." in result.stderr
    assert "user: Hi" in result.stderr
    assert result.stderr.count("/quit leaves it") == 2
    assert result.stdout.count("You sent") == 1


@pytest.mark.parametrize(
    ("message", "line"),
    [
        (Message("user", "Hi"), "user: Hi"),
        (Message("assistant", "", (CALL,)), "assistant: [called tool weather]"),
        (
            Message("assistant", "I look.", (CALL, CALL)),
            "assistant: I look. [called tool weather] [called tool weather]",
        ),
        (Message("tool", '{"celsius": 3}', tool_call_id="1"), "tool: [14 characters of a result]"),
        (
            Message(
                "user", (TextPart("What is it?"), ImagePart(data="YQ==", media_type="image/png"))
            ),
            "user: What is it? [an image]",
        ),
    ],
)
def test_a_turn_that_is_shown_again_is_one_short_line(message: Message, line: str) -> None:
    shown_again: Any = message_as_dict(message)
    assert shown(shown_again) == line


def test_a_failed_turn_leaves_the_history_as_it_was(place: Place) -> None:
    place.run("chat", "talk-1", typed="Hello\n")
    result = place.run("chat", "talk-1", "--model", "none", typed="Lost\n/history\n", code=1)
    assert "no_keys: " in result.stderr
    assert "not part of the history" in result.stderr
    assert "user: Lost" not in result.stderr
    assert "You sent 3 message(s)" in place.run("chat", "talk-1", typed="Found\n").stdout


def test_another_users_talk_is_not_shown(place: Place) -> None:
    place.run("chat", "talk-1", "--user", "alice", typed="My diary\n")
    result = place.run("chat", "talk-1", "--user", "bob", code=2)
    assert "belongs to another user" in result.stderr
    assert "diary" not in result.output


def test_a_name_that_cannot_be_one_is_refused(place: Place) -> None:
    assert "conv_id" in place.run("chat", "not a name\n", code=2).stderr
    assert "conv_id must be a non-empty str" in place.run("chat", "", code=2).stderr


def test_talks_are_listed(place: Place) -> None:
    place.run("chat", "talk-1", "--user", "alice", typed="Hello\n")
    place.run("chat", "talk-2", typed="Hello\n")
    everybody = place.run("conversations").stdout
    assert everybody.index("talk-2") < everybody.index("talk-1")
    assert "talk-2" not in place.run("conversations", "--user", "alice").stdout
    assert '"message_count": 2' in place.run("conversations", "--json").stdout


def test_on_a_terminal_an_interrupt_leaves_politely(place: Place) -> None:
    screen = b""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(place.folder)
        command = [sys.executable, "-m", "llm", "chat", "t-1"]
        os.execve(command[0], command, place.process_environment())

    def read_until(text: bytes, *, pressing: bytes = b"") -> None:
        nonlocal screen
        deadline = time.monotonic() + 60
        while text not in screen:
            assert time.monotonic() < deadline, screen
            if select.select([terminal], [], [], 2.0)[0]:
                screen += os.read(terminal, 4096)
            elif pressing:
                os.write(terminal, pressing)  # before the prompt reads, a terminal may drop it

    try:
        read_until(b"you> ")
        os.write(terminal, b"Hello\n")
        read_until(b"tokens")
        read_until(b"you> ")
        os.write(terminal, b"\x03")
        read_until(b"python -m llm chat t-1", pressing=b"\x03")
        _, status = os.waitpid(pid, 0)
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b'the last one begins: "Hello"' in screen
    place.check(screen.decode())
