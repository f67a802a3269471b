"""A client library is quiet while it fetches a secret, and nobody else is."""

from __future__ import annotations

import logging

import pytest

from keys.secrets.quiet import quiet
from tests.keys.secrets.stores import in_thread


def test_it_is_quiet_below_warning_on_this_thread_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    parsers = logging.getLogger("chatty.parsers")
    with quiet("chatty"):
        parsers.debug("the reply is s3cr3t")
        logging.getLogger("chatty").info("the header is s3cr3t")
        parsers.warning("it is slow")
        thread, _ = in_thread(lambda: parsers.debug("another call"))
        thread.join()
        logging.getLogger("chattyother").debug("another package")
        with quiet("chatty"):
            pass
        parsers.debug("the reply is s3cr3t")
    parsers.debug("afterwards")
    assert caplog.messages == ["it is slow", "another call", "another package", "afterwards"]
