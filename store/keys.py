"""Every key of the store is made here. The table is in store/README.md, checked by a test.

The data set's name comes first. All keys of one user share one hash tag, and so do the registry's,
which one script writes: a cluster keeps each of the two on one node.
"""

import re

_DATA_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

LEAF_FIELD = b"%d"  # fields of a behaviour tree: of a category row, its behaviours, where they are many the newest
OLDER_FIELD = LEAF_FIELD + b".older"  # the others of such a category (store/codec.py)
NEWEST_FIELD = b"n"  # beside the categories
TOTAL_FIELD = b"t"  # behaviours in all, in decimal
ARRIVED_FIELD = b"a"  # the arrivals clock: microseconds of the tree's making, plus one for every behaviour put in since
OTHER_FIELDS = (NEWEST_FIELD, TOTAL_FIELD, ARRIVED_FIELD)


def check_data_name(name: str) -> str:
    """The name itself if it can stand in a key, a folder and a metric label.

    Raises:
        ValueError: otherwise.
    """
    if not is_data_name(name):
        raise ValueError(f"data set name {name!r}: letters, digits, '_', '.' and '-' only, at most 64")
    return name


def is_data_name(name: str) -> bool:
    """Whether it can stand in a key, a folder and a metric label."""
    return _DATA_NAME.fullmatch(name) is not None


def tree(data: str, user_id: str) -> str:
    """HASH: category, category.older -> packed behaviours, `n` -> the newest ones, `t` -> how many, `a` -> the arrivals clock."""
    return f"{data}:tree:{{{_tag(user_id)}}}"


def states(data: str, user_id: str) -> str:
    """HASH: snapshot_id (16 hex digits) -> snapshot of the user made with those parameters."""
    return f"{data}:states:{{{_tag(user_id)}}}"


def states_due(data: str) -> str:
    """STREAM: users whose states should be made again."""
    return f"{data}:states_due"


def registry_meta(data: str) -> str:
    """HASH: registry_id, schema_version, rows, categories."""
    return f"{data}:{{registry}}"


def item_rows(data: str) -> str:
    """HASH: item id -> "row category"."""
    return f"{data}:{{registry}}:items"


def item_ids(data: str) -> str:
    """HASH: row -> item id, the way back."""
    return f"{data}:{{registry}}:item_ids"


def categories(data: str) -> str:
    """HASH: category name -> category row."""
    return f"{data}:{{registry}}:categories"


def schema(data: str) -> str:
    """STRING: schema.json."""
    return f"{data}:schema"


def events(data: str) -> str:
    """STREAM: events on their way into the trees; field `data` of an entry is one as JSON."""
    return f"{data}:events"


def dead_letters(stream: str) -> str:
    """STREAM: what could not be taken from another stream, with the reason."""
    return f"{stream}:dead"


def tables(data: str) -> str:
    """HASH: model:graph -> pointer to the current version of its item tables."""
    return f"{data}:{{tables}}"


def unfinished_tables(data: str) -> str:
    """HASH: model:graph -> pointer that a publish is about to make current."""
    return f"{data}:{{tables}}:unfinished"


def table_value(data: str, model: str, name: str, digest: str) -> str:
    """STRING: a block of an item table, or a file of a version; spread over the nodes of a cluster."""
    return f"{data}:table:{model}:{name}:{digest}"


def _tag(user_id: str) -> str:
    """Braces inside an id would end the hash tag early: they and the escape sign are percent-coded."""
    return user_id.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")


def user_id_of(tree_key: str) -> str:
    """The user id inside a key made by `tree`."""
    tag = tree_key[tree_key.index("{") + 1 : -1]
    return tag.replace("%7D", "}").replace("%7B", "{").replace("%25", "%")
