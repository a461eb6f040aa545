"""What searches picked, and the map of it, in a real browser: by mouse, by keyboard, and for those who hear it."""

import re

import numpy as np
import pytest
from selenium.webdriver.common.keys import Keys

from tests.service import browser as chromium
from tests.service.serving import served
from tests.service.shown import BESIDE, HEAVY, MODELS

pytestmark = pytest.mark.skipif(bool(chromium.missing()), reason=f"not installed: {chromium.missing()} (Debian's packages do)")

DOTS = "[...document.querySelectorAll('#map .dot')].map((dot) => [dot.parentNode.ariaLabel, dot.className, dot.style.cssText])"
LABELS = "[...document.querySelectorAll('#map td.cell')].map((cell) => cell.ariaLabel).join('\\n')"
ASK = (
    "((model) => fetch('ui/score', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({"
    f" user_id: '{HEAVY}', model, item_ids: [document.querySelector('#ranking label span').firstChild.data.trim()]"
    " })}).then((answer) => answer.json()))"
)  # the first candidate by a model


def test_what_a_candidate_attends_to_is_shown_when_it_is_chosen(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    before, dots = page.text(".reason.a .verdict"), page.run(DOTS)
    page.run("document.querySelectorAll('#ranking input')[9].click()")
    assert "is number 10 of 40" in page.text(".reason.a .verdict")
    assert page.text(".reason.a .verdict") != before
    assert page.run(DOTS) != dots != []
    shares = [float(text.rstrip(" %")) for text in page.texts(".reason.a .items b")]
    assert shares == sorted(shares, reverse=True) != []


def test_behaviours_of_an_item_are_one_line_that_opens(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    items = page.texts(".reason.a .items summary > span")
    assert len(set(items)) == len(items) == 10
    picked = page.run(f"{ASK}('eta')")["picked"]
    own = [(picked["behaviours"]["item_id"][at], picked["behaviours"]["ts"][at], weight)
           for at, weight in zip(picked["lists"][picked["list_of"][0]], picked["weights"][0], strict=True)]  # fmt: skip
    first = items[0].split()[0]
    of_first = [(ts, weight) for item_id, ts, weight in own if item_id == first]
    days = [str(np.datetime64(ts, "s"))[:10] for ts in (min(of_first)[0], max(of_first)[0])]
    times, share = f"{len(of_first)} times", sum(weight for _, weight in of_first) / sum(weight for *_, weight in own)
    assert len(of_first) > 1
    assert page.text(".reason.a .items .when").removeprefix("▸ ") == f"{times}, {days[0]} to {days[1]}"
    assert float(page.text(".reason.a .items b").rstrip(" %")) == pytest.approx(share * 100, abs=0.6)
    assert page.count(".reason.a .items details[open]") == 0
    page.run("document.querySelector('.reason.a .items summary').focus()")
    page.press(Keys.ENTER)
    assert len(page.texts(".reason.a .items details[open] li")) == len(of_first)


def test_what_two_models_picked_in_common_is_said(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    answers = [page.run(f"{ASK}('{model}')")["picked"] for model in MODELS]
    sets = [list(zip(picked["behaviours"]["item_id"], picked["behaviours"]["ts"], strict=True)) for picked in answers]
    common = len(set(sets[0]) & set(sets[1]))
    assert (len(sets[0]), len(sets[1])) == (100, 100)
    assert 0 < common < 100
    assert page.text(".common") == f"Overlap of what they picked: {common} of 100 in common."
    page.open(f"{url}ui?user={HEAVY}&a=eta")
    page.answered()
    assert page.count(".common") == 0


def test_who_hears_the_page_is_told_ranks_and_overlap_of_the_chosen_one(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    page.run("document.querySelectorAll('#ranking input')[1].click()")
    said = page.driver.find_element("id", "chosen")
    ranks = [text.split()[-1].rstrip(".") for text in page.texts("#ranking tr:nth-child(2) td.score")]
    item, words = page.texts("#ranking label")[1].split()[0], page.text(".common").removeprefix("Overlap of what they picked: ")
    assert said.get_attribute("textContent") == f"{item}: number {ranks[0]} by eta, number {ranks[1]} by twin. {words}"
    assert said.aria_role == "status"


PICKED = {  # words of each search, for a user of 2,540 behaviours
    "mean_pool": "It reads the newest 50 behaviours. It has no weight",
    "din": "It attends to the newest 50 behaviours.",
    "dien": "It attends to the newest 50 behaviours.",
    "bst": "It attends to the newest 50 behaviours.",
    "dsin": "those of the newest 5 sessions. It has no weight",
    "dmin": "It attends to the newest 20 behaviours.",
    "mind": "It reads the newest 50 behaviours. It has no weight",
    "mimn": "Its state is of all 2,540 behaviours: 2,540 folded for this request, none in a snapshot. It has no weight",
    "sim_hard": "behaviours that were searched",
    "sim_soft": "It attends to 100 of the 2,540 behaviours that were searched.",
    "eta": "It attends to 100 of the 2,540 behaviours that were searched.",
    "sdim": "Its state is of all 2,540 behaviours: 2,540 folded for this request, none in a snapshot. It has no weight",
    "twin": "It attends to 100 of the 2,540 behaviours that were searched.",
    "twin_v2": "clusters among them",
}


def test_every_model_shows_what_it_picked_in_the_same_place_and_form(page, world, store_url):
    assert set(PICKED) == {folder.name for folder in world.bundles.iterdir()}
    with served(world.bundles, store_url) as (client, _):
        for model, words in PICKED.items():
            page.open(f"{client.base_url}/ui?user={HEAVY}&a={model}&b=eta")
            page.answered()
            assert words in page.text(".reason.a > .faint"), model
            assert page.count(".reason.a .items > li") > 0, model
            assert page.count("#map .dot.a") > 0, model
            assert re.search(r"\d+ of 100 in common|\d+ in common, of|is in the state of", page.text(".common")), model
            if model == "mean_pool":
                marked = sum(int(number) for number in re.findall(r"mean_pool picked (\d+)", page.run(LABELS)))
                assert marked == 50
            if model == "sdim":
                marked = re.findall(r": ([\d,]+); sdim picked ([\d,]+)", page.run(LABELS))
                assert all(count == of_state for count, of_state in marked)
                assert sum(int(count.replace(",", "")) for count, _ in marked) == 2_540


def test_cells_of_the_map_are_walked_through_by_arrow_keys(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    assert page.run("[...document.querySelectorAll('#map .cell')].filter((one) => one.tabIndex === 0).length") == 1
    page.run("document.querySelector('#users button:last-child').focus()")
    page.press(Keys.TAB)
    where = "(() => { const at = document.activeElement; return [at.parentNode.rowIndex, at.cellIndex - 2]; })()"
    assert page.run(where) == [1, 0]
    for key, place in ((Keys.ARROW_RIGHT, [1, 1]), (Keys.ARROW_DOWN, [2, 1]), (Keys.ARROW_DOWN, [3, 1]), (Keys.ARROW_UP, [2, 1]),
                       (Keys.ARROW_LEFT, [2, 0]), (Keys.ARROW_LEFT, [2, 0]), (Keys.END, [2, 35]), (Keys.ARROW_RIGHT, [2, 35]),
                       (Keys.HOME, [2, 0])):  # fmt: skip
        page.press(key)
        assert page.run(where) == place, key
    page.press_with(Keys.CONTROL, Keys.END)
    assert page.run(where) == [page.count("#map tbody tr"), 35]
    page.press_with(Keys.CONTROL, Keys.HOME)
    assert page.run(where) == [1, 0]
    assert page.run("[...document.querySelectorAll('#map .cell')].filter((one) => one.tabIndex === 0).length") == 1
    ring = "((of) => [of.outlineStyle, of.outlineWidth, of.opacity])(getComputedStyle(document.activeElement))"
    assert page.run(ring) == ["solid", "3px", "1"]
    page.press(Keys.ARROW_RIGHT)
    page.press(Keys.TAB)
    assert page.focus() == "more"
    page.press(Keys.ENTER)  # all categories: the table is another one, the place in it is not
    page.press_with(Keys.SHIFT, Keys.TAB)
    assert page.run(where) == [1, 1]


def test_a_cell_says_category_period_number_and_who_picked(page, url):
    page.open(f"{url}{BESIDE}")
    page.answered()
    page.run("document.querySelector('#map td.cell .dot.a').parentNode.focus()")
    cell = page.driver.switch_to.active_element
    assert cell.aria_role == "gridcell"
    row = page.run("document.activeElement.parentNode.cells[0].textContent")
    words = rf"{re.escape(row)}, \d{{4}}-\d\d-\d\d to \d{{4}}-\d\d-\d\d: [\d,]+; eta picked [\d,]+(; twin picked [\d,]+)?"
    assert re.fullmatch(words, cell.accessible_name)
    assert page.text("#cell") == cell.accessible_name  # for those who see
    grid = page.driver.find_element("css selector", "#map table")
    assert (grid.aria_role, "arrow keys" in grid.accessible_name) == ("grid", True)
    picked = re.findall(r"(eta|twin) picked (\d+)", page.run(LABELS))
    assert [sum(int(number) for one, number in picked if one == model) for model in MODELS] == [100, 100]
