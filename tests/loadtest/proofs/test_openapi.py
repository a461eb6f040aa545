"""What is concluded from calls that were made from the description."""

from loadtest.proofs.openapi import ANSWERED, aimed, openapi_rows

REPORT = {"test_cases": {"generated": 500, "errored": 0}, "operations": {"total": 20, "tested": 20}, "running_time": 6.0}


def met(answers, **changes):
    report = REPORT | {part: REPORT[part] | changes[part] for part in changes}
    return [row.met for row in openapi_rows(report, answers)]


def test_answers_that_the_contract_names_are_met_and_other_5xx_are_not():
    assert met({200: 100, 422: 300, 503: 3, 504: 1, 500: 0}) == [True] * 4
    assert met({200: 100, 500: 1}) == [False, True, True, True]
    assert met({200: 100, 501: 1}) == [False, True, True, True]


def test_calls_without_an_answer_and_operations_left_out_are_missed():
    assert met({200: 1}, test_cases={"errored": 1}) == [True, True, False, True]
    assert met({200: 1}, operations={"tested": 19}) == [True, True, True, False]


def test_too_few_cases_are_missed():
    assert [row.met for row in openapi_rows(REPORT, {200: 1}, 501)] == [True, False, True, True]
    assert openapi_rows(REPORT, {200: 1}, 500)[1].met


def test_the_scorers_counters_are_read_by_status():
    text = 'ctr_requests_total{code="404",model="",route="/v2/models/{model}"} 7.0\nctr_requests_created{code="200"} 1.0\n'
    assert ANSWERED.findall(text) == [("404", "7.0")]


def test_paths_are_aimed_at_a_model():
    parameter = {"in": "path", "name": "model", "schema": {"type": "string"}}
    other = {"in": "query", "name": "model", "schema": {"type": "string"}}
    description = {"paths": {"/v2/models/{model}": {"get": {"parameters": [parameter, other]}}, "/v2": {"get": {}}}}
    aimed(description, "twin")
    assert parameter["schema"] == {"type": "string", "enum": ["twin"]}
    assert other["schema"] == {"type": "string"}
