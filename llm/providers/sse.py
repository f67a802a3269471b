"""Reads a `text/event-stream` as it arrives. It does no input or output: bytes in, events out."""

from __future__ import annotations

from core.errors import ProviderUnavailable

LARGEST_EVENT = 16 * 1024 * 1024
"""Bytes. Whoever sends more without ending the event is not answering."""


class EventReader:
    """Splits bytes into events, however the network cut them.

    Lines end with LF or CRLF, as all providers send them.

    Args:
        provider: is named where the stream is no stream.

    Example:
        >>> reader = EventReader("openai")
        >>> reader.feed(b"event: ping\\ndata: {}\\n\\nda"), reader.feed(b"ta: 1\\n\\n")
        ([('ping', '{}')], [('', '1')])
    """

    __slots__ = ("_data", "_event", "_provider", "_rest", "_size")

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._rest = b""
        self._event = ""
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[tuple[str, str]]:
        """The events that these bytes complete, each with its name ("" if it has none).

        Raises:
            ProviderUnavailable: an event is larger than 16 MiB.
        """
        *lines, self._rest = (self._rest + data).split(b"\n")
        events: list[tuple[str, str]] = []
        for line in lines:
            self._take(line.rstrip(b"\r"), events)
        if self._size + len(self._rest) > LARGEST_EVENT:
            raise ProviderUnavailable(
                f"{self._provider}: an event of the stream does not end within 16 MiB",
                provider=self._provider,
            )
        return events

    def end(self) -> list[tuple[str, str]]:
        """What the end of the stream completes: some servers leave the last blank line out."""
        events = self.feed(b"\n\n")
        self._rest = b""
        return events

    def _take(self, line: bytes, events: list[tuple[str, str]]) -> None:
        if line.startswith(b"data:"):
            text = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(text.decode("utf-8", "replace"))
            self._size += len(line)
        elif not line:
            if self._data:
                events.append((self._event, "\n".join(self._data)))
            self._event, self._data, self._size = "", [], 0
        elif line.startswith(b"event:"):
            self._event = line[6:].strip().decode("utf-8", "replace")
