"""Users whose states should be made again, named to the keepers by whoever changes their trees.

A name that is lost costs time, never a behaviour: the states' clock tells that they are behind.
"""

import logging
from collections.abc import Sequence

from redis import Redis
from redis.exceptions import RedisError

from store import keys

log = logging.getLogger("longtrail")

EVERY = 32  # events of a user after which the states are due; a late one makes them due at once
KEPT = 100_000  # names in the stream, about


def name_due(redis: Redis, data: str, users: Sequence[str]) -> None:
    """Name users. Cost: one round trip, none for nobody; a store that fails is logged."""
    if not users:
        return
    pipeline = redis.pipeline(transaction=False)
    for user_id in users:
        pipeline.xadd(keys.states_due(data), {"user_id": user_id}, maxlen=KEPT, approximate=True)
    try:
        pipeline.execute()
    except RedisError as error:
        log.warning("%d users are not named to the keepers of states: %s", len(users), error)
