import numpy as np

from store.between import BETWEEN, Between, operands_in, run_between


def test_the_graphs_around_a_kernel_get_what_they_ask_for():
    twice = Between("before.onnx", "after.onnx", ("number",), ("same", "twice"), lambda number: (number, number * 2))
    inputs = {"context": np.zeros(1)}
    (seen,) = run_between(twice, lambda asked: [np.ones(1)] if asked is inputs else [], lambda asked: [asked], inputs)
    assert {name: value.item() for name, value in seen.items()} == {"context": 0, "same": 1, "twice": 2}


def test_operands_may_be_tables_or_stand_in_the_request():
    added = Between(None, "after.onnx", ("table", "state"), ("sum",), lambda table, state: (table + state,))
    assert added.files == {"after.onnx"}
    inputs, tables = {"state": np.ones(1)}, {"table": np.full(1, 2), "other": np.zeros(1)}
    (seen,) = run_between(added, operands_in(added, tables), lambda asked: [asked], inputs)
    assert {name: value.item() for name, value in seen.items()} == {"state": 1, "sum": 3}


def test_no_two_kernels_share_a_file():
    files = [name for between in BETWEEN for name in between.files]
    assert len(set(files)) == len(files)
