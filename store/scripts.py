"""Scripts that run in the server, each by its digest: the text travels only to a server that does not know it yet.

A server forgets its scripts when it restarts, a failed-over or newly added node of a cluster never had them. The client
library loads a script before its pipeline runs, on one server only; here a call that a node does not know is
sent again with the text, on one server and on a cluster alike.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import NoScriptError

Argument = bytes | str | int


@dataclass(frozen=True, slots=True)
class Call:
    """One run of a script; all its keys share a hash tag."""

    keys: Sequence[str]
    arguments: Sequence[Argument]


class Script:
    """A script's text, and its digest."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode()).hexdigest()  # the server's name for it

    def run(self, redis: Redis, call: Call) -> Any:
        """Run it once; its reply.

        Raises:
            redis.exceptions.RedisError: the store did not answer, or answered an error.
        """
        (reply,) = self.run_all(redis, [call])
        return reply

    def run_all(self, redis: Redis, calls: Sequence[Call], raise_on_error: bool = True) -> list[Any]:
        """Run it for many keys in one round trip (a second one for what a server did not know).

        Returns:
            for each call its reply, or the error that stands in its place.

        Raises:
            redis.exceptions.RedisError: the store could not be reached; or, if asked for, the first call's error after
                all were tried.
        """
        replies = self._sent(redis, "EVALSHA", self._digest, calls)
        unknown = [i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        again = self._sent(redis, "EVAL", self._text, [calls[i] for i in unknown])
        for i, reply in zip(unknown, again, strict=True):
            replies[i] = reply
        if raise_on_error:
            raise_first(replies)
        return replies

    @staticmethod
    def _sent(redis: Redis, command: str, script: str, calls: Sequence[Call]) -> list[Any]:
        if not calls:
            return []
        pipeline = redis.pipeline(transaction=False)
        for call in calls:
            pipeline.execute_command(command, script, len(call.keys), *call.keys, *call.arguments)  # type: ignore[no-untyped-call]
        return list(pipeline.execute(raise_on_error=False))


def raise_first(replies: Sequence[Any]) -> None:
    """Raise the first error that stands among replies, if there is one."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
