import inspect

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from store import keys

USER_ID = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=40)
TAG_PIECE = st.sampled_from(["{", "}", "%", "%7B", "%7D", "%25", "7", "D", "u"])
USER_KEYS = [
    function
    for name, function in inspect.getmembers(keys, inspect.isfunction)
    if not name.startswith("_") and function.__module__ == keys.__name__ and "user_id" in inspect.signature(function).parameters
]


@given(st.one_of(USER_ID, st.lists(TAG_PIECE, min_size=1).map("".join)))
@example("{}")
@example("%7D")
@example("%257D")
@example("}{")
def test_a_user_id_comes_back_out_of_its_key(user_id):
    assert keys.user_id_of(keys.tree("data", user_id)) == user_id


@given(USER_ID, USER_ID)
@example("%7B", "{")
@example("%", "%25")
def test_two_users_never_share_a_key(one, other):
    assert (keys.tree("data", one) == keys.tree("data", other)) == (one == other)


@given(st.one_of(USER_ID, st.lists(TAG_PIECE, min_size=1).map("".join)))
@example("}")
@example("{}")
def test_the_hash_tag_of_a_tree_is_the_whole_user(user_id):
    key = keys.tree("data", user_id)
    assert key.count("{") == key.count("}") == 1
    assert key.endswith("}")
    assert key.index("}") - key.index("{") > 1  # an empty tag would hash the whole key


@given(USER_ID)
def test_all_keys_of_a_user_are_on_one_node_of_a_cluster(user_id):
    assert USER_KEYS
    slots = {key_slot(function("data", user_id).encode()) for function in USER_KEYS}
    assert len(slots) == 1


def test_the_keys_of_the_registry_script_are_on_one_node_of_a_cluster():
    script_keys = [keys.item_rows("data"), keys.item_ids("data"), keys.categories("data"), keys.registry_meta("data")]
    assert len({key_slot(key.encode()) for key in script_keys}) == 1


def test_all_keys_of_two_data_sets_differ():
    functions = (keys.registry_meta, keys.item_rows, keys.item_ids, keys.categories, keys.schema)
    made = [function(data) for function in functions for data in ("a", "b")] + [keys.tree("a", "u"), keys.tree("b", "u")]
    assert len(set(made)) == len(made)


def test_the_newest_field_is_no_category():
    assert not keys.NEWEST_FIELD.isdigit()


@pytest.mark.parametrize("name", ["complete_journey", "a", "7", "a.b-c_d", "x" * 64])
def test_a_plain_data_name_is_accepted(name):
    assert keys.check_data_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "a b", "a:b", "{a}", "*", "../a", ".a", "-a", "a/b", "a\n", "é"])
def test_a_data_name_that_could_leave_its_key_or_folder_is_refused(name):
    with pytest.raises(ValueError, match="data set name"):
        keys.check_data_name(name)
