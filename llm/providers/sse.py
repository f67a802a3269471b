"""Reads a `text/event-stream` as it arrives. It does no input or output: bytes in, events out."""

from __future__ import annotations

from core.errors import ProviderUnavailable

LARGEST_EVENT = 16 * 1024 * 1024
"""Bytes. Whoever sends more without ending the event is not answering."""


class EventReader:
    """Splits bytes into events, however the network cut them, one at a time: the first of a large
    packet does not wait for the others.

    Lines end with LF or CRLF, as all providers send them.

    Args:
        provider: is named where the stream is no stream.

    Example:
        >>> reader = EventReader("openai")
        >>> reader.feed(b"event: ping\\ndata: {}\\n\\nda")
        >>> reader.next_event(), reader.next_event()
        (('ping', '{}'), None)
    """

    __slots__ = ("_at", "_buffer", "_data", "_event", "_provider", "_size")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._buffer = b""
        self._at = 0
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take bytes as they arrived."""
        self._buffer = self._buffer[self._at :] + data
        self._at = 0

    def end(self) -> None:
        """The stream has ended: some servers leave the last blank line out."""
        self.feed(b"\n\n")

    def next_event(self) -> tuple[str, str] | None:
        """The next whole event, with its name ("" if it has none); None until more has arrived.

        Raises:
            ProviderUnavailable: an event is larger than 16 MiB.
        """
        while (end := self._buffer.find(b"\n", self._at)) >= 0:
            line = self._buffer[self._at : end].rstrip(b"\r")
            self._at = end + 1
            if line.startswith(b"data:"):
                text = line[6:] if line[5:6] == b" " else line[5:]
                self._data.append(text.decode("utf-8", "replace"))
                self._size += len(line)
            elif not line:
                event, data = self._event, self._data
                self._event, self._data, self._size = "", [], 0
                if data:
                    return event, "\n".join(data)
            elif line.startswith(b"event:"):
                self._event = line[6:].strip().decode("utf-8", "replace")
        if self._size + len(self._buffer) - self._at > LARGEST_EVENT:
            raise ProviderUnavailable(
                f"{self._provider}: an event of the stream does not end within 16 MiB",
                provider=self._provider,
            )
        return None
