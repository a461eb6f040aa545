"""The page in a real browser.

The pictures of the README are made here: LONGTRAIL_SCREENSHOTS=1 keeps them in service/page/screenshots.
"""

from urllib.parse import urlsplit

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from store.behaviour_tree import BehaviourTree
from store.connection import connect
from store.types import Behaviours
from tests.service import browser as chromium
from tests.service.serving import served
from tests.service.shown import BESIDE, HEAVY
from tests.world import DATA

pytestmark = pytest.mark.skipif(bool(chromium.missing()), reason=f"not installed: {chromium.missing()} (Debian's packages do)")


def test_a_heavy_user_by_two_models_side_by_side(page, url, keep):
    for _ in range(3):  # the first answers of a process are its slowest, and its times are part of the picture
        page.open(f"{url}{BESIDE}")
        assert page.answered().startswith("40 candidates")
    assert "2,540 behaviours" in page.text("#tree-summary")
    assert page.texts(".reason h2")[0].startswith("eta ")
    assert page.texts(".reason h2")[1].startswith("twin ")
    assert page.count("#ranking tbody tr") == 40
    assert page.count("#map .dot.a") > 5
    assert page.count("#map .dot.b") > 5
    assert page.count(".stages tbody tr") == 2
    scores = [float(text.split()[0]) for text in page.texts("#ranking td.a")]
    assert scores == sorted(scores, reverse=True)
    keep("heavy_user")


def test_a_user_without_behaviours_is_said_to_have_none(page, url, keep):
    page.open(f"{url}ui?user=nobody&a=eta&b=twin")
    page.answered()
    assert "This user has none" in page.text("#tree-summary")
    assert "It looks at no behaviours" in page.text(".reason.a")
    assert page.count("#ranking tbody tr") == 40
    assert page.count("#map td") == page.count(".common") == 0
    keep("no_behaviours")


def test_as_of_a_day_in_between_the_map_greys_out_what_came_later(page, url):
    at = 1_505_000_000
    page.open(f"{url}{BESIDE}&at={at}")
    page.answered()
    assert "are later than what was asked" in page.text("#tree-summary")
    later, cells = page.count("#map tbody tr:first-child td.later"), page.count("#map tbody tr:first-child td.cell")
    assert 0 < later < cells == 36
    assert page.count("#map td.later .dot") == 0  # nothing that was attended to came later
    assert page.count("#map .dot") > 5


def test_dots_lie_where_the_server_counts(page, url):
    """A behaviour at the very first second of a bin is in that bin, whatever rounding made of the edges."""
    moments, edges = [100, 133, 134, 166, 167, 199, 200, 99], [100, 133, 167, 200]
    shown = f"import('/ui/files/map.js').then(({{ binOf }}) => {moments}.map((ts) => binOf({edges}, ts)))"
    page.open(f"{url}ui")
    assert page.run(shown) == [0, 1, 1, 1, 2, 2, 2, 0]


def test_a_model_of_a_link_that_is_not_served_is_said(page, url):
    page.open(f"{url}ui?user={HEAVY}&a=gone&b=lost:1")
    assert page.answered().startswith("gone is not served, twin is shown. lost:1 is not served. 40 candidates")
    assert [text.split()[0] for text in page.texts(".reason h2")] == ["twin"]


def test_times_are_of_one_model_after_the_other_on_a_scale_that_stays(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    calls = page.run("performance.getEntriesByType('resource').filter((one) => one.name.endsWith('/ui/score'))"
                     ".map((one) => [one.startTime, one.responseEnd])")  # fmt: skip
    assert len(calls) == 2
    assert calls[1][0] >= calls[0][1]
    assert page.count(".stages td.scale") == 2
    totals = [float(text.removesuffix(" ms")) for text in page.texts(".stages td.ms")]
    scale = max(60, *totals)
    shares = page.run("[...document.querySelectorAll('.bar')].map((one) => Number(one.style.getPropertyValue('--share')))")
    assert shares == pytest.approx([total / scale for total in totals], abs=0.01)


def test_a_store_that_is_down_is_said_and_scores_come(page, without_store, keep):
    page.open(f"{without_store}{BESIDE}&items=1082185+995242+1029743")
    page.answered()
    assert "They could not be read: store" in page.text("#tree-summary")
    assert page.texts(".reason .warning") == ["degraded: store_down"] * 2
    assert page.texts(".reason > .faint") == ["It looks at no behaviours: none could be read."] * 2
    assert page.count("#ranking tbody tr") == 3
    keep("store_down")
    (complaint,) = page.complaints()  # the browser's own, of the one call that failed
    assert "503" in complaint
    assert "/ui/users/" in complaint


def test_without_a_store_it_asks_for_candidates(page, without_store):
    page.open(f"{without_store}{BESIDE}")
    assert "name some" in page.answered()
    assert page.run("document.getElementById('answers').hidden")
    page.complaints()


def test_what_is_wrong_is_said_where_it_belongs(page, url):
    page.open(f"{url}{BESIDE}&at=99999999999")
    page.answered()
    assert page.texts(".reason .warning")[0].startswith("at: ")
    assert len(page.complaints()) == 2  # the browser's own, of two answers of 422


LONG = "W" * 128
LONGEST_TASK_MS = 1_000
TASKS_MS = (
    "new Promise((done) => { new PerformanceObserver((list) => done(list.getEntries().map((one) => one.duration)))"
    ".observe({ type: 'longtask', buffered: true }); setTimeout(() => done([0]), 500); })"
)  # tasks of the browser that took more than 50 ms


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("asked", [BESIDE, f"ui?user={LONG}&a=eta&b=twin&items={LONG}+{LONG}1", f"{BESIDE}&at=99999999999",
                                   f"ui?user={HEAVY}&a={LONG}"])  # fmt: skip
def test_nothing_stands_out_of_the_window(page, url, width, dark, asked):
    page.open(f"{url}{asked}", width=width, dark=dark)
    page.answered()
    fits(page, width)
    page.complaints()  # the browser's own, of models that failed


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_stands_out_of_the_window_while_the_store_is_down(page, without_store, width):
    page.open(f"{without_store}ui?user={LONG}&a=eta&b=twin&items={LONG}+1082185", width=width)
    page.answered()
    fits(page, width)
    page.complaints()


def fits(page, width):
    assert page.run("document.documentElement.scrollWidth") == width
    seen = "[...document.querySelectorAll('main *')].filter((one) => !one.closest('.scroll-x'))"
    out = f"{seen}.filter((one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.outerHTML.slice(0, 80))"
    assert page.run(out) == []


def test_it_loads_nothing_from_other_hosts(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    assert page.hosts() == {urlsplit(url).netloc}
    assert page.run("performance.getEntriesByType('resource').length") >= 7


def test_it_works_by_keyboard_alone(page, url):
    page.open(f"{url}ui")
    page.wait(lambda page: page.count("#model-a option") == 2)
    for name in ("user", "model-a", "model-b", "at", "items"):
        page.press(Keys.TAB)
        assert page.focus() == name
        if name == "user":
            page.press(HEAVY)
    page.press(Keys.ENTER)
    page.answered()
    for _ in range(60):
        if page.focus() == "candidate":
            break
        page.press(Keys.TAB)
    assert "is number 1 of" in page.text(".reason .verdict")
    page.press(Keys.ARROW_DOWN)
    page.wait(lambda page: "is number 2 of" in page.text(".reason .verdict"))
    outline = "getComputedStyle(document.activeElement.closest('tr')).outlineStyle"
    assert page.run(outline) == "solid"  # one sees where one is


def test_everything_that_can_be_filled_in_has_a_name(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    assert (
        page.run(
            "[...document.querySelectorAll('input, select, button')].filter((one) => !one.labels?.length && !one.textContent)"
        )
        == []
    )


def test_a_link_keeps_what_was_asked(page, url):
    page.open(f"{url}ui")
    page.wait(lambda page: page.count("#users button") > 2)
    page.driver.find_elements("css selector", "#users button")[0].click()
    page.answered()
    link, shown = page.driver.current_url, page.text("#tree-summary")
    page.open(link)
    page.answered()
    assert page.text("#tree-summary") == shown


def test_an_answer_that_comes_after_a_newer_one_is_not_shown(page, url):
    page.open(f"{url}ui")
    page.wait(lambda page: page.count("#users button") > 2)
    page.run("(() => { const real = window.fetch; window.fetch = async (path, ...rest) => {"
             f" if (path === 'ui/users/{HEAVY}') await new Promise((go) => {{ window.go = go; }});"
             " const answer = await real(path, ...rest); window.last = path; return answer; }; })()")  # fmt: skip
    for user in (HEAVY, "nobody"):
        page.run(
            f"(() => {{ document.getElementById('user').value = '{user}'; document.getElementById('ask').requestSubmit(); }})()"
        )
    page.wait(lambda page: page.run("window.go") is not None and "This user has none" in page.text("#tree-summary"))
    page.run("(() => { window.last = ''; window.go(); })()")
    page.wait(lambda page: page.run("window.last") == "ui/score")
    page.run("new Promise((done) => setTimeout(done, 200))")
    assert "This user has none" in page.text("#tree-summary")


def test_a_key_is_asked_for_and_then_used(page, two_models, store_url):
    with served(two_models, store_url, api_key="scoring") as (client, _):
        page.open(f"{client.base_url}/{BESIDE}")
        page.wait(lambda page: not page.run("document.getElementById('key-label').hidden"))
        assert "bearer key" in page.text("#message")
        assert "401" in page.complaints()[0]
        page.driver.find_element("id", "user").send_keys(HEAVY)
        page.driver.find_element("id", "key").send_keys("scoring", Keys.ENTER)
        page.wait(lambda page: page.count("#ranking tbody tr"))
        assert "scoring" not in page.driver.current_url


def test_100_000_behaviours_are_a_page_like_any_other(page, url, world, store_url):
    random, count, registry = np.random.default_rng(7), 100_000, world.dataset.registry
    row = random.integers(2, registry.item_rows, count).astype(np.int32)
    ts = random.integers(1_400_000_000, 1_500_000_000, count)
    cross = np.ones((count, len(world.dataset.schema.cross_features)), np.uint8)
    redis = connect(store_url)
    BehaviourTree(redis, DATA, cross.shape[1]).write("long", Behaviours.in_order(row, registry.category[row], ts, cross))
    try:
        page.open(f"{url}ui?user=long&a=eta&b=twin")
        page.answered()
    finally:
        BehaviourTree(redis, DATA, cross.shape[1]).delete("long")
        redis.close()
    assert page.text("#tree-summary").startswith("100,000 behaviours")
    assert page.run("document.querySelectorAll('*').length") < 4_000
    sizes = page.run("performance.getEntriesByType('resource').map((one) => one.decodedBodySize)")
    assert sum(sizes) < 2_000_000
    for candidate in (5, 0, 39):
        page.run(f"document.querySelectorAll('#ranking input')[{candidate}].click()")
        page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
    assert max(page.run(TASKS_MS)) < LONGEST_TASK_MS
