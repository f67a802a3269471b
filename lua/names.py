"""Every name of a Redis key, in one place.

What one script touches shares a hash tag in braces, so that on Redis Cluster it lies on one node:
a provider's limits on one, a conversation on another, the users' limits on a third. On a single
server the limits of all providers share a tag, so that one call can choose among all keys.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Names:
    """Builds key names under a prefix.

    Example:
        >>> Names("llm").group("pool", "openai", "team-a")
        'llm:{pool}:group:openai/team-a'
    """

    prefix: str = "llm"

    def shard(self, provider: str, *, clustered: bool) -> str:
        """The hash tag of a provider's limits: one for all, or on a cluster one each."""
        return provider if clustered else "pool"

    def group(self, shard: str, provider: str, group: str) -> str:
        """Hash: the ring of sub-buckets and running sums of one quota group."""
        return f"{self.prefix}:{{{shard}}}:group:{provider}/{group}"

    def leases(self, shard: str, provider: str, group: str) -> str:
        """Sorted set: reservations under way in a group, by the time their lease ends (ms)."""
        return f"{self.prefix}:{{{shard}}}:leases:{provider}/{group}"

    def queue(self, shard: str, provider: str, group: str) -> str:
        """Sorted set: requests that wait for room in a group, by priority, then arrival."""
        return f"{self.prefix}:{{{shard}}}:queue:{provider}/{group}"

    def health(self, shard: str) -> str:
        """Hash: why and until when keys, groups or providers are passed over."""
        return f"{self.prefix}:{{{shard}}}:health"

    def waiters(self, shard: str) -> str:
        """Hash: requests that wait, or were served while they did."""
        return f"{self.prefix}:{{{shard}}}:waiters"

    def deadlines(self, shard: str) -> str:
        """Sorted set: when (ms) what `waiters` holds can be forgotten."""
        return f"{self.prefix}:{{{shard}}}:deadlines"

    def routers(self, shard: str) -> str:
        """Sorted set: the routers that use a shard, by when (ms) they were heard last."""
        return f"{self.prefix}:{{{shard}}}:routers"

    def ratios(self, shard: str) -> str:
        """Hash by model: its real input tokens for 1,000 estimated ones."""
        return f"{self.prefix}:{{{shard}}}:ratios"

    def keys(self, shard: str) -> str:
        """Hash: keys that were registered at run time, versions of secrets, revoked keys."""
        return f"{self.prefix}:{{{shard}}}:keys"

    def log(self, shard: str, subject: str) -> str:
        """Stream: the changes of state of a key, a group or a service, "k:<key id>"."""
        return f"{self.prefix}:{{{shard}}}:log:{subject}"

    def providers(self) -> str:
        """Set: on a cluster, the providers of keys that were registered at run time."""
        return f"{self.prefix}:{{registered}}:providers"

    def reservation(self, shard: str, reservation_id: str) -> str:
        """String: what one reservation holds, or that it is settled."""
        return f"{self.prefix}:{{{shard}}}:reservation:{reservation_id}"

    def channel(self, shard: str, process_id: str) -> str:
        """Channel: on which the waiters of one process are told of their turn."""
        return f"{self.prefix}:{{{shard}}}:turns:{process_id}"

    def user_limits(self) -> str:
        """Hash: the limits of users who have one of their own, by user id."""
        return f"{self.prefix}:{{users}}:limits"

    def user_bucket(self, user_id: str | None = None) -> str:
        """String: the token bucket of all users together, or of one user.

        Example:
            >>> Names("llm").user_bucket("bo")
            'llm:{users}:bucket:user:bo'
        """
        owner = "all" if user_id is None else f"user:{user_id}"
        return f"{self.prefix}:{{users}}:bucket:{owner}"

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
