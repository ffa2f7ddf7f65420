"""The leaderboard's page as a reader meets it: in Chromium, with mouse, keyboard, a phone, a dark room."""

from __future__ import annotations

import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from made_up import metrics
from made_up import record as made_up_record
from tiny import case, harness, named, plugin

from harness.plugins import Plugins
from harness.records import Store
from harness.report.leaderboard import leaderboards
from harness.report.page import page
from harness.report.published import read_published

playwright = pytest.importorskip("playwright.sync_api", reason="needs uv run --group browser pytest")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs uv run --group browser pytest")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")

# Root may not use the sandbox; the rest keeps the browser itself off the network.
FLAGS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
MEAN = "self.mean = train.images.float().mean(0)"


@pytest.fixture(scope="module")
def address(run_here):
    """Three tables: of digits, with a method that fails and one that was not run; with averages, methods as rows; and
    of MNIST, for which the paper has numbers."""
    with run_here("browser") as here:
        bad = plugin("bad", fit=f"assert run.seed, 'no luck <today>'; {MEAN}")
        harness(
            "run", "--protocol", "test2", "--case", "1,2,3", "--seed", "0,1", "--method", f"{plugin()},{bad}", code=1
        )
        cases = {"a": case(["0", "1"], "6"), "b": case(["2"], "patches")}
        own = named(cases, table={"title": "Table 9", "average": True, "rows": "methods"})
        harness("run", "--protocol", own, "--method", f"{plugin()},{plugin('other')}")
        store = Store(Path("results"))
        gpu = {"device": "cuda:0", "precision": "bfloat16"}
        shown = [("test2", "mnist", "3", "ssl", {"KL": metrics(auroc)}) for auroc in (0.7, 0.72)]
        two = ("test2", "mnist", "3", "rotnet", {"MAX": metrics(0.6), "ODIN": metrics(0.9)})
        records = [*store.records(), made_up_record(*shown[0]), made_up_record(*shown[1], seed=1, numerics=gpu)]
        records.append(made_up_record(*two))
        pairs = {
            f"{kind}.{score}": np.arange(20.0) for kind in ("normal", "anomaly") for score in ("KL", "MAX", "ODIN")
        }

        def scores(record):
            return store.scores(record) if record.dataset == "digits" else pairs

        text = page(leaderboards(records, [str(own)]), scores, read_published(), Plugins(), here)
        (here / "index.html").write_text(text, encoding="utf-8")
        return (here / "index.html").as_uri()


@pytest.fixture(scope="module")
def visit(address):
    """Opens the page anew, as someone with these settings; in the end nothing may have gone wrong or been fetched."""
    with playwright.sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path=CHROMIUM, args=FLAGS)

        @contextmanager
        def enter(fragment: str = "", **settings):
            context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}} | settings)
            found, said, asked = context.new_page(), [], []
            found.set_default_timeout(60_000)
            found.on("console", lambda message: said.append(message.text))
            found.on("pageerror", lambda error: said.append(str(error)))
            found.on("request", lambda request: asked.append(request.url))
            found.goto(address + fragment)
            if settings.get("java_script_enabled", True):
                found.wait_for_selector("#filters")  # shown once the data are unpacked
            yield found
            context.close()
            assert said == []
            assert {url.partition("#")[0] for url in asked if not url.startswith("data:")} == {address}

        yield enter
        browser.close()


def violations(found) -> list[str]:
    # The library adds a script tag, which the page's own policy forbids; evaluated, it runs beside the page.
    source = Path(axe.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    found.evaluate(f"() => {{ {source}; window.axe = axe; }}")
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in found.evaluate("axe.run()")["violations"]]


def table(found, name: str):
    return found.locator(f"table[data-name={name}]")


def column(found, name: str, place: int) -> list[str]:
    cells = table(found, name).locator(f"tbody tr > :nth-child({place + 1})")
    return [text.split()[0] for text in cells.all_inner_texts()]


TEST2, OWN, MNIST = "test2-digits-small", "mine-digits-small", "test2-mnist-paper"


def test_a_column_is_sorted_by_mouse_and_by_keyboard(visit):
    with visit() as found:
        heads = table(found, TEST2).locator("thead th[data-column]")
        names = heads.all_inner_texts()
        place = max(i for i, name in enumerate(names) if name.startswith("L2"))
        head = heads.nth(place)
        before = column(found, TEST2, place)
        numbers = sorted((text for text in before if text[0].isdigit()), reverse=True)
        empty = [text for text in before if not text[0].isdigit()]
        assert len(numbers) == 3
        assert empty == ["not", "not"]
        head.get_by_role("button").click()
        assert column(found, TEST2, place) == [*numbers, *empty]
        assert head.get_attribute("aria-sort") == "descending"
        found.keyboard.press("Enter")
        assert column(found, TEST2, place) == [*reversed(numbers), *empty]
        assert head.get_attribute("aria-sort") == "ascending"
        found.keyboard.press("Space")
        assert column(found, TEST2, place) == before
        assert head.get_attribute("aria-sort") is None
        # Rows stay whole: each number keeps its heading.
        heads.first.get_by_role("button").click()
        found.keyboard.press("Enter")
        assert column(found, TEST2, 0) == [*"54321"]
        assert column(found, TEST2, place) == before[::-1]


def test_filters_leave_what_was_asked_for_and_are_kept_in_the_address(visit):
    with visit() as found:

        def shown() -> set[str]:
            tables = found.locator("table[data-name]").all()
            return {one.get_attribute("data-name") for one in tables if one.is_visible()}

        assert shown() == {TEST2, OWN, MNIST}
        contents = found.locator("nav")
        title = "Test 2: normal of multiple classes, anomaly of multiple classes"
        assert contents.inner_text().split("\n") == ["A title", "digits small", title, "mnist paper", "digits small"]
        part = found.locator("section", has=table(found, OWN)).locator(".part")
        assert part.inner_text() == ""
        found.get_by_label("Data set").select_option("mnist")
        assert shown() == {MNIST}
        assert contents.inner_text().split("\n") == [title, "mnist paper"]
        assert found.locator("output").inner_text() == "1 of 3 tables"
        found.get_by_label("Data set").select_option("")
        found.get_by_label("Protocol").select_option("mine")
        assert shown() == {OWN}
        found.get_by_role("button", name="Show everything").click()
        assert shown() == {TEST2, OWN, MNIST}
        found.locator("select[name=recipe]").select_option("small")
        assert shown() == {TEST2, OWN}
        found.get_by_label("other").check()
        assert shown() == {OWN}
        assert table(found, OWN).locator("tbody tr:visible").count() == 1
        assert part.inner_text() == "1 of 2 rows"
        found.get_by_label("other").uncheck()
        found.get_by_label("mean-image").check()
        heads = table(found, TEST2).locator("thead th:visible").all_inner_texts()
        assert [head.split()[0] for head in heads] == ["number", "mean-image", "L2"]
        part = found.locator("section", has=table(found, TEST2)).locator(".part")
        assert part.inner_text() == "1 of 7 columns"
        found.get_by_label("Find").fill("  3 TABLE ")
        assert table(found, TEST2).locator("tbody tr:visible th").all_inner_texts() == [
            "3",
            "4",
            "5",
        ]  # by their classes
        kept = found.url
        found.get_by_label("Find").fill("no such thing")
        assert shown() == set()
        assert found.get_by_text("Nothing matches").is_visible()
    with visit("#" + kept.partition("#")[2]) as found:
        assert table(found, TEST2).locator("tbody tr:visible").count() == 3
        assert found.get_by_label("mean-image").is_checked()


def test_the_address_goes_back_and_leads_to_a_table(visit):
    with visit() as found:
        find, paper = found.get_by_label("Find"), found.get_by_label("the paper’s numbers")
        found.evaluate("location.hash = 'find=mean'")
        found.wait_for_function("document.querySelector('[name=find]').value === 'mean'")
        found.go_back()
        found.wait_for_function("document.querySelector('[name=find]').value === ''")
        paper.uncheck()
        found.get_by_role("button", name="Show everything").click()
        assert paper.is_checked()
        find.fill("mean")
        found.locator("nav a").last.click()
        found.wait_for_function(f"location.hash === '#find=mean&table={TEST2}'")
        kept = found.url
        find.fill("")
        assert "table" not in found.url
    with visit("#" + kept.partition("#")[2]) as found:
        assert found.get_by_label("Find").input_value() == "mean"
        assert found.evaluate("scrollY") > 0


def test_an_open_number_has_an_address(visit):
    with visit() as found:
        dialog = found.get_by_role("dialog")
        found.get_by_label("Find").fill("mean")
        before = found.url
        table(found, OWN).locator("td.number button:visible").last.click()
        kept = found.url
        assert kept != before
        said = dialog.locator(".head").inner_text()
        found.keyboard.press("Escape")
        found.wait_for_function(f"location.hash === '#find=mean&table={OWN}'")
    with visit("#" + kept.partition("#")[2]) as found:
        dialog = found.get_by_role("dialog")
        assert dialog.locator(".head").inner_text() == said
        assert found.url == kept
        # Back leads to what was there before, without what lies over it.
        found.evaluate("location.hash = 'find=other'")
        found.wait_for_function("!document.querySelector('dialog').open")
        found.go_back()
        found.wait_for_function("document.querySelector('dialog').open")
        assert dialog.locator(".head").inner_text() == said
        assert found.url == kept


def test_a_row_s_heading_ranks_its_numbers(visit):
    with visit() as found:
        row, dialog = table(found, MNIST).locator("tbody tr").nth(2), found.get_by_role("dialog")
        row.locator("th button").click()
        assert dialog.get_by_role("heading", level=2).inner_text() == "number 3"
        ranked = [text.split()[:3] for text in dialog.locator(".several li").all_inner_texts()]
        assert ranked == [["RotNet", "ODIN", "0.900"], ["SSL", "KL", "0.710"], ["RotNet", "MAX", "0.600"]]
        dialog.get_by_role("button", name="SSL KL").click()
        assert dialog.locator("path.curve").count() == 2
        dialog.get_by_role("button", name="back").click()
        assert dialog.get_by_role("heading", level=2).inner_text() == "number 3"
        assert violations(found) == []


def test_find_takes_words_as_they_are_meant(visit):
    with visit() as found:

        def rows(query: str) -> dict[str, int]:
            found.get_by_label("Find").fill(query)
            counts = {name: table(found, name).locator("tbody tr:visible").count() for name in (TEST2, OWN, MNIST)}
            return {name: n for name, n in counts.items() if n}

        assert rows("table 9") == {OWN: 2}  # neither "Table 8" nor the digit 9
        assert rows("mnist 3") == {MNIST: 3}  # of five that have this class among the normal ones
        assert rows("9") == rows("test2")  # a class, and no "Table 9"
        assert rows("patches") == {OWN: 2}  # the classes of a table whose rows are methods
        assert rows("other") == {OWN: 1}
        assert rows("mni") == {MNIST: 5}
        assert rows("nist") == {}
        assert rows("test-2") == rows("test2") == rows("mean-image test2") | {MNIST: 5}


def test_what_seeds_were_made_with_is_said_of_each(visit):
    with visit() as found:
        table(found, MNIST).locator("td.number button").first.click()
        said = found.get_by_role("dialog").locator("h3:text-is('Runs') ~ p.note").all_inner_texts()
        assert [text.partition(":")[0] for text in said[:2]] == ["seed 0", "seed 1"]
        assert ["cuda:0, bfloat16" in text for text in said[:2]] == [False, True]


def test_on_paper_tables_are_whole_and_dark_on_white(visit):
    with visit(color_scheme="dark", viewport={"width": 360, "height": 740}) as found:
        found.emulate_media(media="print")
        scroll = found.locator("section > .scroll").first
        assert scroll.evaluate("(one) => getComputedStyle(one).overflowX") == "visible"
        assert sum(map(int, scroll.evaluate("(one) => getComputedStyle(one).color").strip("rgb()").split(", "))) < 200
        assert not found.locator("#filters").is_visible()
        found.evaluate("dispatchEvent(new Event('beforeprint'))")
        fits = "(one) => one.getBoundingClientRect().width < 1000"  # a page of A4 has some 1040 pixels across
        assert all(one.evaluate(fits) for one in found.locator("table[data-name]").all())
        foot = table(found, OWN).evaluate("(one) => getComputedStyle(one.createTFoot()).display")
        assert foot == "table-row-group"  # else it would stand below each page's part of the table


def test_the_paper_s_numbers_on_and_off(visit):
    with visit() as found:
        paper = found.get_by_text("paper 0.86")
        assert paper.first.is_visible()
        found.get_by_label("the paper’s numbers").uncheck()
        assert not paper.first.is_visible()
        found.reload()
        assert not paper.first.is_visible()
        found.get_by_label("the paper’s numbers").check()
        assert paper.first.is_visible()


def test_a_cell_opens_its_evidence(visit):
    with visit() as found:
        cell = table(found, TEST2).locator("td.number button").last
        shown = cell.inner_text().split()[0]
        cell.click()
        dialog = found.get_by_role("dialog")
        assert dialog.get_by_role("heading", level=2).inner_text() == "mean-image L2"
        assert dialog.locator(".main b").inner_text() == shown
        assert dialog.locator("path.curve").count() == 2
        assert len(dialog.locator("path.curve").first.get_attribute("d").split("L")) > 10
        assert len(dialog.locator("path.bars").get_attribute("d").split("L")) > 10
        assert [row.split()[0] for row in dialog.locator("table.seeds tbody tr").all_inner_texts()] == ["0", "1"]
        strips = dialog.locator(".strips figure")
        assert strips.count() == 4
        found.wait_for_function(  # drawn, and not alike
            "new Set([...document.querySelectorAll('canvas')].map((one) => one.toDataURL())).size > 20"
        )
        record = dialog.get_by_text("Record of seed 1")
        record.click()
        assert dialog.get_by_text("digests").last.is_visible()
        dialog.get_by_role("button", name="Close").click()
        assert not dialog.is_visible()


def test_cells_open_and_close_by_keyboard_alone(visit):
    with visit() as found:
        for _ in range(200):
            found.keyboard.press("Tab")
            if found.evaluate("document.activeElement.matches('td button')"):
                break
        place = "[document.activeElement.closest('tr').rowIndex, document.activeElement.closest('td').cellIndex]"
        head = "document.activeElement.closest('th')?.dataset.column"
        start = found.evaluate(place)
        found.keyboard.press("ArrowRight")
        found.keyboard.press("ArrowDown")
        assert found.evaluate(place) == [start[0] + 1, start[1] + 1]
        found.keyboard.press("ArrowUp")
        found.keyboard.press("ArrowUp")
        assert found.evaluate(head) == str(start[1] + 1)
        found.keyboard.press("ArrowUp")  # there is nothing above the heads
        found.keyboard.press("ArrowLeft")
        assert found.evaluate(head) == str(start[1])
        found.keyboard.press("Tab")  # the heads are no stops of their own
        assert found.evaluate("document.activeElement.closest('table')") is None
        found.keyboard.press("Shift+Tab")
        found.keyboard.press("ArrowDown")
        assert found.evaluate(place) == start
        found.keyboard.press("Enter")
        dialog = found.get_by_role("dialog")
        assert dialog.is_visible()
        assert found.evaluate("document.activeElement.closest('dialog') !== null")
        found.keyboard.press("Escape")
        assert not dialog.is_visible()
        assert found.evaluate(place) == start
        found.keyboard.press("Tab")  # leaves the table, and comes back to where it was
        assert found.evaluate("document.activeElement.closest('td')") is None
        found.keyboard.press("Shift+Tab")
        assert found.evaluate(place) == start


def test_only_a_press_beside_the_evidence_closes_it(visit):
    with visit() as found:
        table(found, TEST2).locator("td.number button").last.click()
        dialog = found.get_by_role("dialog")
        box = dialog.bounding_box()
        inside, outside = (box["x"] + 5, box["y"] + box["height"] / 2), (box["x"] - 20, box["y"] + 50)
        found.mouse.click(*inside)  # its own margin
        assert dialog.is_visible()
        found.mouse.move(*inside)  # text is marked, as far as beyond its edge
        found.mouse.down()
        found.mouse.move(*outside)
        found.mouse.up()
        assert dialog.is_visible()
        found.mouse.click(*outside)
        assert not dialog.is_visible()


def test_what_is_not_there_says_why(visit):
    with visit() as found:
        dialog = found.get_by_role("dialog")
        failed = table(found, TEST2).locator("td.failed button").first
        assert "failed" in failed.inner_text()
        failed.click()
        assert dialog.get_by_text("AssertionError: no luck <today>").first.is_visible()
        found.keyboard.press("Escape")
        table(found, TEST2).locator("td.unrun button").first.click()
        assert "harness run --protocol test2 --dataset digits --method ssl --case 1" in dialog.inner_text()
        found.keyboard.press("Escape")
        table(found, OWN).locator("td button").nth(2).click()
        assert "mean of 2 cases" in dialog.inner_text()
        assert dialog.locator(".main b").inner_text() == table(found, OWN).locator("td button").nth(2).inner_text()[:5]
        assert "for other images, not other seeds" in dialog.inner_text()
        dialog.get_by_role("button", name="b").first.click()
        assert dialog.locator("path.curve").count() == 1
        assert "patches" in dialog.inner_text()
        dialog.get_by_role("button", name="back").click()
        assert "mean of 2 cases" in dialog.inner_text()


def test_light_and_dark_by_the_system_and_by_the_switch(visit):
    background = "getComputedStyle(document.documentElement).backgroundColor.match(/[0-9]+/g).map(Number)"
    light = f"{background}.reduce((sum, part) => sum + part)"
    for scheme, other in (("light", "dark"), ("dark", "light")):
        with visit(color_scheme=scheme) as found:
            assert (found.evaluate(light) > 384) == (scheme == "light")
            found.get_by_label("Theme").select_option(other)
            assert (found.evaluate(light) > 384) == (other == "light")
            found.reload()
            assert (found.evaluate(light) > 384) == (other == "light")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])
def test_it_is_accessible_and_fits_the_screen(visit, width, scheme):
    with visit(color_scheme=scheme, viewport={"width": width, "height": 740}) as found:
        fits = f"document.documentElement.scrollWidth <= {width}"
        assert found.evaluate(fits)
        assert violations(found) == []
        for kind in ("number",) if width == 360 else ("number", "failed"):
            table(found, TEST2).locator(f"td.{kind} button").last.click()
            dialog = found.get_by_role("dialog")
            assert found.evaluate(fits)
            assert dialog.evaluate("(one) => one.scrollWidth <= one.clientWidth")
            assert violations(found) == []
            found.keyboard.press("Escape")


def test_a_browser_without_light_dark_has_colours(visit, address):
    """As it was before 2024: the function is unknown, which a misspelt one is to this browser."""
    text = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    older = re.sub(r"sha256-[^']+", "unsafe-inline", text.replace("light-dark(", "light-drak("))
    with visit(color_scheme="dark") as found:
        found.route("**/index.html", lambda route: route.fulfill(body=older, content_type="text/html"))
        found.reload()
        found.wait_for_selector("#filters")
        table(found, TEST2).locator("td.number button").last.click()
        shown = "(one) => [getComputedStyle(one).backgroundColor, getComputedStyle(one).color]"
        assert found.get_by_role("dialog").evaluate(shown) == ["rgb(255, 255, 255)", "rgb(28, 30, 33)"]


def test_without_javascript_the_tables_are_there(visit):
    with visit(java_script_enabled=False) as found:
        assert table(found, TEST2).locator("tbody tr").count() == 5
        assert not found.get_by_label("Find").is_visible()
        assert found.get_by_text("Without JavaScript").is_visible()
