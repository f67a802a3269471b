"""Every name of a Redis key, in one place.

What one script touches shares a hash tag in braces, so that on Redis Cluster it lies on one node:
a provider's limits on one, a conversation on another.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Names:
    """Builds key names under a prefix.

    Example:
        >>> Names("llm").group("openai", "team-a")
        'llm:{openai}:group:team-a'
    """

    prefix: str = "llm"

    def group(self, provider: str, group: str) -> str:
        """Hash: the ring of sub-buckets and running sums of one quota group."""
        return f"{self.prefix}:{{{provider}}}:group:{group}"

    def leases(self, provider: str, group: str) -> str:
        """Sorted set: reservations under way in a group, by the time their lease ends (ms)."""
        return f"{self.prefix}:{{{provider}}}:leases:{group}"

    def health(self, provider: str) -> str:
        """Hash: why and until when keys, groups or the provider are passed over."""
        return f"{self.prefix}:{{{provider}}}:health"

    def reservation(self, provider: str, reservation_id: str) -> str:
        """String: what one reservation holds, or that it is settled."""
        return f"{self.prefix}:{{{provider}}}:reservation:{reservation_id}"

    def conversation(self, conv_id: str) -> str:
        """Hash: a conversation's metadata.

        Example:
            >>> Names("llm").conversation("a{b}")
            'llm:{conv:a%7Bb%7D}:meta'
        """
        return f"{self.prefix}:{_conversation_tag(conv_id)}:meta"

    def messages(self, conv_id: str) -> str:
        """List: a conversation's messages as JSON, oldest first."""
        return f"{self.prefix}:{_conversation_tag(conv_id)}:messages"

    def turn(self, conv_id: str, request_id: str) -> str:
        """String: that a request's turn was appended, kept for a short time."""
        return f"{self.prefix}:{_conversation_tag(conv_id)}:turn:{request_id}"

    def conversations(self, user_id: str | None = None) -> str:
        """Sorted set: ids of all conversations, or of one user's, by when they expire (ms)."""
        owner = "all" if user_id is None else f"user:{user_id}"
        return f"{self.prefix}:{{conversations}}:{owner}"


def _conversation_tag(conv_id: str) -> str:
    # A brace inside would end the hash tag early; the percent sign keeps the encoding one to one.
    escaped = conv_id.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return f"{{conv:{escaped}}}"
