"""Long categories, which a tree keeps as two values, and ways to look at them and to damage them."""

from store import keys
from store.append import Arrived, Caps
from store.behaviour_tree import encode_tree
from store.checked_values import CHUNK
from store.codec import encode
from tests.store.events import behaviours_of

NO_CAPS = Caps(per_user=0)
OLDER = 4 * CHUNK
LONG = OLDER + CHUNK + 40  # 168 in the own field


def events(length, category=4, row=4, start=0):
    """So many behaviours of one item, one every ten seconds."""
    return [(row, category, start + 10 * i, i % 251) for i in range(length)]


def in_order(*lives):
    return sorted((event for life in lives for event in life), key=lambda event: (event[2], event[0]))


def arrived(*events):
    return [Arrived("u", row, category, ts, bytes([bucket])) for row, category, ts, bucket in events]


def fields(redis, key):
    """The leaves and the newest list."""
    return {name: value for name, value in redis.hgetall(key).items() if name not in (keys.TOTAL_FIELD, keys.ARRIVED_FIELD)}


def encoded(*lives):
    return encode_tree(behaviours_of(*in_order(*lives)))


def damaged(redis, key, field, at=-1):
    """With one byte of a record altered, as no header tells."""
    value = bytearray(redis.hget(key, field))
    value[at] ^= 1
    redis.hset(key, field, bytes(value))


def old_form(redis, key, tree, length=LONG):
    """A tree as it was written before there were two."""
    life = behaviours_of(*events(length))
    tree.write("u", life)
    redis.hdel(key, *(name for name in redis.hkeys(key) if b"." in name))
    redis.hset(key, "4", encode(life.row, life.ts, life.cross))
