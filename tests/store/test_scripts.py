import pytest
from redis.exceptions import ResponseError

from store.scripts import Call, Script

ADD = Script("return redis.call('INCRBY', KEYS[1], ARGV[1])")


def test_a_script_runs_on_its_keys(redis, data_name):
    assert ADD.run(redis, Call([data_name], [3])) == 3
    redis.delete(data_name)


def test_many_calls_are_one_round_trip_and_answered_in_order(redis, data_name):
    ADD.run(redis, Call([data_name], [0]))
    assert ADD.run_all(redis, [Call([data_name], [i]) for i in (1, 10, 100)]) == [1, 11, 111]
    redis.delete(data_name)


def test_no_call_asks_nothing(redis):
    assert ADD.run_all(redis, []) == []


def test_a_server_that_does_not_know_the_script_runs_each_call_once(redis, data_name):
    redis.script_flush()
    assert ADD.run_all(redis, [Call([data_name], [1])] * 3) == [1, 2, 3]
    redis.delete(data_name)


def test_the_text_travels_only_when_it_is_not_known(redis, data_name):
    redis.script_flush()
    ADD.run(redis, Call([data_name], [1]))
    redis.config_resetstat()
    ADD.run(redis, Call([data_name], [1]))
    stats = redis.info("commandstats")
    assert ("cmdstat_evalsha" in stats, "cmdstat_eval" in stats) == (True, False)
    redis.delete(data_name)


def test_a_failed_call_does_not_hide_the_others(redis, data_name):
    redis.set(f"{data_name}:text", "x")
    calls = [Call([data_name], [1]), Call([f"{data_name}:text"], [1]), Call([data_name], [1])]
    replies = ADD.run_all(redis, calls, raise_on_error=False)
    assert (replies[0], replies[2]) == (1, 2)
    assert isinstance(replies[1], ResponseError)
    with pytest.raises(ResponseError, match="integer"):
        ADD.run_all(redis, calls)
    assert redis.get(data_name) == b"4"
    redis.delete(data_name, f"{data_name}:text")
