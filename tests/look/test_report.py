"""The page of a plan or a store: what it holds, and what a real browser shows of it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selenium.common.exceptions import NoAlertPresentException

from bridge import instantiate
from bridge.formats import nix32
from bridge.look.ground import Ground
from bridge.look.references import named
from bridge.look.report.detail import Room, detail_of, details_of
from bridge.look.report.gather import page_of_plan, page_of_store
from bridge.look.report.layout import layered
from bridge.look.report.page import Page, difference, plain
from bridge.look.report.render import html_of, json_text
from bridge.look.report.running import running, stamp
from bridge.realize.engine import Options, realize
from bridge.store.catalogue import entries
from bridge.store.layout import Store, open_store
from bridge.store.locks import try_lock
from bridge.store.notes import write_note
from bridge.store.objects import remove_tree
from bridge.store.trace import Realization
from tests.realize.running import load, run

from .browsing import Browser, browsing, needs_browser

EVIL = "<script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"

STAGES = f"""
words = source("words.txt")
clean = shell("sort -u $words > $out/sorted.txt", words=words, builder="local")

@stage(realizations=3, match=best("score"))
def train(run, data=clean / "sorted.txt", rate=0.1, title="</script><script>window.ran = 1</script>",
          model=out("model.txt")):
    print("epoch", run.index, "\\x1b[31mred\\x1b[0m", {EVIL!r})
    model.write_text({EVIL!r} + "x" * 100_000)
    (run.out / "<img src=x onerror=alert(1)>.txt").write_text("a name")
    (run.out / "\\u202egnp.exe").write_text("another")
    (run.out / "weights.bin").write_bytes(bytes(range(256)) * 40)
    (run.out / "dot.png").write_bytes(bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360f8cf5000000381018072e7fd5b0000000049454e44ae426082"))
    (run.out / "plot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="80" height="40">'
        '<script>window.ran = 1; parent.ran = 1</script><circle r="20" onload="window.ran = 1"/></svg>')
    (run.out / "run.txt").write_text(f"{{run.index}} at {{rate}}")
    (run.out / "link").symlink_to("model.txt")
    run.log(score=run.index + rate, **{{"<b>bold</b>": 1, "</script>": "<!--<script>"}})

sweep = [train(rate=rate) for rate in (0.2, 0.4)]

@stage
def report(model=train.model, others=[one.model for one in sweep], page=out("page.txt")):
    page.write_text("a report")

@stage
def broken(model=train.model, page=out("page.txt")):
    raise ValueError({EVIL!r})

@stage
def later(first=broken.page, page=out("page.txt")):
    page.write_text("never")
"""


@dataclasses.dataclass
class Made:
    """Stages that were realized."""

    store: Store
    stages: ModuleType

    def page(self) -> tuple[Ground, Page]:
        plan = instantiate([self.stages.report, self.stages.later])
        outcome = realize(plan, self.store, options=Options(dry_run=True))
        ground = Ground(self.store)
        return ground, page_of_plan(ground, plan, outcome, "stages.py")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("report")
    (folder / "words.txt").write_text("two\none\ntwo\n")
    store = open_store(folder / "store")
    modules = dict(sys.modules)
    stages = load(folder, STAGES)
    assert run(store, stages.report).error is None
    assert run(store, stages.later).error is not None
    write_note(store, chosen_of(store).id, EVIL)
    yield Made(store, stages)
    for name in set(sys.modules) - set(modules):
        if name.startswith("stages_"):
            del sys.modules[name]
    remove_tree(store.root)


def chosen_of(store: Store) -> Any:
    return max((one for one in entries(store, stage="train")), key=lambda one: one.metrics["score"])


def written(ground: Ground, page: Page, folder: Path) -> Path:
    file = folder / "report.html"
    file.write_text(html_of(dataclasses.replace(page, details=details_of(ground, page.rows)).to_json()))
    return file


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browsing() as found:
        yield found


@pytest.fixture
def browser(chromium: Browser) -> Browser:
    chromium.driver.get("about:blank")
    chromium.prefers("light")
    chromium.said()
    chromium.asked()
    return chromium


@pytest.fixture
def shown(made: Made, browser: Browser, tmp_path: Path) -> Browser:
    """The report of all stages, open."""
    browser.open(written(*made.page(), tmp_path))
    return browser


# ---------------------------------------------------------------------------------------- browser


@needs_browser
def test_the_graph_has_a_node_for_each_stage_with_its_state(shown: Browser) -> None:
    labels = [text.split(":")[0] for text in shown.js(NODES)]
    assert sorted(labels) == sorted(
        ["words.txt", "clean", "train(rate=0.1)", "train(rate=0.2)", "train(rate=0.4)", "report", "broken", "later"]
    )
    states = {label: shown.state(label) for label in labels}
    assert states == {
        **dict.fromkeys(labels, "done"),
        "words.txt": "source",
        "broken": "failed",
        "later": "missing",
    }
    assert len(shown.all(".edge")) == 1 + 3 + 3 + 1 + 1
    lefts = shown.js("return [...document.querySelectorAll('.node')].map(one => one.getBoundingClientRect().x)")
    place = dict(zip(labels, lefts, strict=True))
    assert place["words.txt"] < place["clean"] < place["train(rate=0.2)"] < place["report"]
    assert [text.split()[-1] for text in shown.texts("#counts [data-state]")] == ["done", "failed", "missing"]


NODES = "return [...document.querySelectorAll('.node')].map(one => one.getAttribute('aria-label'))"


@needs_browser
def test_a_click_on_a_heading_sorts_the_table(shown: Browser) -> None:
    shown.select("train(rate=0.1)")
    for titles, reverse in ((["score"], False), (["score"], True)):
        shown.sort(titles[0])
        scores = [float(text) for text in shown.column("score")]
        assert len(scores) == 9
        assert scores == sorted(scores, reverse=reverse)
        sorted_by = shown.js("return document.querySelector('th[data-key=\"metric.score\"]').ariaSort")
        assert sorted_by == ("descending" if reverse else "ascending")


@needs_browser
def test_a_realization_opens_with_what_went_in_and_what_came_out(shown: Browser, made: Made) -> None:
    best = chosen_of(made.store)
    shown.select("train(rate=0.4)")
    shown.one(f'tr[data-id="{best.id}"]').click()
    text = shown.opened(best.id)
    for piece in ("score", "2.4", "rate", "clean", best.outputs["out"], "sorted.txt", "epoch 2 red"):
        assert piece in text, piece
    assert hashlib.sha256(bytes(range(256)) * 40).hexdigest() in text
    assert "link → model.txt" in text
    assert f"and {(100_000 + len(EVIL) - 65536) / 1024:.1f} KiB more" in text
    assert [one.get_attribute("src")[:22] for one in shown.all("#detail img")] == [
        "data:image/png;base64,",
        "data:image/svg+xml;bas",
    ]
    assert all(shown.js("return [...document.querySelectorAll('#detail img')].map(one => one.naturalWidth > 0)"))
    # What made its input is a step away.
    next(one for one in shown.all("#detail button.link") if one.text.startswith("clean")).click()
    shown.wait(lambda: shown.text("#detail h2").startswith("clean"))
    assert shown.text("#stage-name") == "clean"
    assert shown.said() == []


@needs_browser
def test_everything_is_reached_by_keys(shown: Browser) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.js("document.querySelector('.node[tabindex=\"0\"]').focus()")
    focused = "return document.activeElement.getAttribute('aria-label')"
    before = shown.js(focused)
    shown.press(Keys.ARROW_RIGHT)
    assert shown.js(focused) != before
    shown.press(Keys.ENTER)
    assert shown.js("return document.activeElement.ariaSelected") == "true"
    shown.select("train(rate=0.1)")
    shown.js("document.querySelector('#table tr[tabindex=\"0\"]').focus()")
    first, second = shown.column("id")[:2]
    shown.press(Keys.ARROW_DOWN)
    shown.press(Keys.ENTER)
    assert shown.opened(second)
    assert second != first
    shown.press(Keys.ESCAPE)
    assert not shown.one("#detail").is_displayed()
    assert shown.js("return document.activeElement.dataset.id") == second


@needs_browser
def test_nothing_that_a_stage_wrote_runs(shown: Browser, made: Made) -> None:
    for label in ("train(rate=0.1)", "report", "clean"):
        shown.select(label)
        for identity in shown.column("id"):
            shown.one(f'tr[data-id="{identity}"]').click()
            shown.opened(identity)
    shown.select("train(rate=0.4)")
    shown.one(f'tr[data-id="{chosen_of(made.store).id}"]').click()
    shown.wait(lambda: len(shown.all("#detail img")) == 2)
    time.sleep(0.3)
    with pytest.raises(NoAlertPresentException):
        _ = shown.driver.switch_to.alert.text
    assert shown.js("return window.ran") is None
    assert len(shown.all("script")) == 2
    assert shown.all("#detail script, #detail svg, #detail iframe, #detail b, #table b") == []
    # It is all there, as text.
    text = shown.opened(chosen_of(made.store).id)
    assert "<img src=x onerror=alert(1)>.txt" in text
    assert "\\u{202e}gnp.exe" in text
    assert EVIL in text
    assert "</script><script>window.ran = 1</script>" in text
    assert any(head.endswith("<b>bold</b>") for head in shown.texts("#table th"))
    assert shown.said() == []


@needs_browser
def test_a_script_that_got_into_the_page_would_not_run(shown: Browser) -> None:
    shown.js(
        "const one = document.createElement('script'); one.textContent = 'window.ran = 1'; document.body.append(one);"
        "const two = document.createElement('img'); two.src = 'http://127.0.0.1:9/x.png'; document.body.append(two);"
    )
    time.sleep(0.2)
    assert shown.js("return window.ran") is None
    assert sum("Content Security Policy" in line for line in shown.said()) == 2


@needs_browser
def test_a_report_asks_the_network_for_nothing(shown: Browser) -> None:
    shown.select("train(rate=0.1)")
    shown.one("#table tbody tr[data-id]").click()
    shown.wait(lambda: shown.all("#detail img"))
    asked = shown.asked()
    assert [address for address in asked if not address.startswith("data:")] == [shown.driver.current_url.split("#")[0]]


@needs_browser
def test_the_page_is_light_or_dark_as_its_reader_prefers(shown: Browser) -> None:
    colours = "const style = getComputedStyle(document.body); return [style.backgroundColor, style.color]"

    def brightness() -> list[int]:
        return [sum(map(int, one[4:-1].split(","))) for one in shown.js(colours)]

    back, text = brightness()
    assert back > text
    shown.prefers("dark")
    back, text = brightness()
    assert back < text


@needs_browser
def test_variants_are_plotted_together_by_their_config(shown: Browser) -> None:
    shown.select("train(rate=0.2)")
    assert len(shown.column("id")) == 9
    assert shown.text("#parallel svg").count("rate") == 1
    dots = sum(path.get_attribute("d").count("M") for path in shown.all("#scatter .points"))
    assert dots == 9
    assert shown.one("#scatter svg").get_attribute("aria-label").endswith("over rate, 9 realizations")
    shown.one("#variants").click()
    assert len(shown.column("id")) == 3
    shown.one("#search").send_keys(shown.column("id")[1][:6])
    shown.wait(lambda: len(shown.column("id")) == 1)
    assert shown.text("#shown") == "1 of 3"


def big_store(folder: Path, count: int, stages: int) -> Store:
    """Records of so many realizations; written without syncing, which is not what is measured."""
    store = open_store(folder)
    for number in range(count):
        digest = nix32.encode(hashlib.sha256(b"%d" % (number % stages)).digest()[:20])
        drv = f"{digest}-stage{number % stages}.drv"
        made = Realization(
            f"/nix/store/{drv}",
            {"out": f"/nix/store/{nix32.encode(hashlib.sha256(b'out%d' % number).digest()[:20])}-out"},
            f"stage{number % stages}",
            f"/nix/store/{drv}",
            "python",
            1.7e9 + number,
            1.7e9 + number + 2.5,
            {"accuracy": (number * 7919 % 10007) / 10007},
            index=number,
        )
        place = store.trace / drv
        place.mkdir(exist_ok=True)
        identity = nix32.encode(hashlib.sha256(b"id%d" % number).digest()[:10])
        (place / f"{identity}.json").write_text(json.dumps(made.to_json()))
    return store


@needs_browser
def test_ten_thousand_realizations_open_at_once(
    browser: Browser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = big_store(tmp_path / "big", 10_000, 1)
    entries(store, sizes=True)
    began = time.perf_counter()
    ground = Ground(store)
    page = page_of_store(ground, "big")
    (tmp_path / "big.html").write_text(html_of(page.to_json()))
    gathered = time.perf_counter()
    browser.open(tmp_path / "big.html")
    opened = time.perf_counter()
    with capsys.disabled():
        print(f"\n10,000 realizations: gathered in {gathered - began:.2f} s, open in {opened - gathered:.2f} s")
    # Ten times what it takes where nothing else runs.
    assert opened - began < 20
    assert browser.text("#shown") == "10000"
    assert len(browser.all("#table tbody tr")) < 200
    browser.sort("accuracy")
    browser.js("document.querySelector('#table').scrollTop = 1e9")
    browser.wait(lambda: browser.column("accuracy")[-1] == "0.9999")
    assert [float(text) for text in browser.column("accuracy")] == sorted(map(float, browser.column("accuracy")))


@needs_browser
def test_a_thousand_stages_are_drawn_and_can_be_zoomed(browser: Browser, tmp_path: Path) -> None:
    store = big_store(tmp_path / "wide", 1000, 1000)
    (tmp_path / "wide.html").write_text(html_of(page_of_store(Ground(store), "wide").to_json()))
    browser.open(tmp_path / "wide.html")
    assert len(browser.all(".node")) == 1000
    before = browser.one("#canvas svg").size["height"]
    browser.one("#zoom-fit").click()
    assert browser.one("#canvas svg").size["height"] < before
    assert browser.js("const one = document.querySelector('#canvas'); return one.scrollWidth <= one.clientWidth + 1")


@needs_browser
def test_an_empty_store_says_so(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "empty.html").write_text(html_of(page_of_store(Ground(open_store(tmp_path / "store")), "x").to_json()))
    browser.open(tmp_path / "empty.html")
    assert "There are no realizations yet." in browser.text("#table")
    assert browser.said() == []


# ------------------------------------------------------------------------------------------- data


def test_a_store_tells_of_its_stages_without_their_file(made: Made) -> None:
    page = page_of_store(Ground(made.store), "store")
    shown = {one.name: one for one in page.stages}
    assert set(shown) == {"words.txt", "clean", "train", "report", "broken"}
    assert (shown["broken"].state, shown["train"].state) == ("failed", "done")
    uses = {one.name: {page.stages[used].name for used in one.uses} for one in page.stages}
    assert uses == {
        "words.txt": set(),
        "clean": {"words.txt"},
        "train": {"clean"},
        "report": {"train"},
        "broken": {"train"},
    }
    assert len(page.rows) == 1 + 9 + 1
    assert {row.entry.id for row in page.rows if row.chosen and row.entry.stage == "train"} == {
        row.entry.id for row in page.rows if row.entry.stage == "train" and row.entry.index == 2
    }


def test_a_store_below_is_looked_at_as_well(made: Made, tmp_path: Path) -> None:
    upper = open_store(tmp_path / "upper", [made.store.root])
    page = page_of_store(Ground(upper), "upper")
    assert len(page.rows) == 1 + 9 + 1
    one = next(row.entry for row in page.rows if row.entry.stage == "train")
    told = detail_of(Ground(upper), one, Room())
    assert told["log"]["text"].startswith("epoch")
    assert "model.txt" in [file["path"] for file in told["outputs"][0]["files"]]


def test_of_one_realization_what_it_was_made_from_is_shown(made: Made) -> None:
    ground = Ground(made.store)
    one = chosen_of(made.store)
    page = page_of_store(ground, one.id, named(ground, one.id).entries)
    assert sorted(row.entry.stage for row in page.rows) == ["clean", "train"]
    assert all(row.entry.size is not None for row in page.rows)


def test_of_what_a_stage_was_before_it_changed_the_rows_have_no_node(made: Made, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("two\none\ntwo\n")
    changed = load(tmp_path, STAGES.replace('"x" * 100_000', '"x" * 10'))
    plan = instantiate([changed.train])
    outcome = realize(plan, made.store, options=Options(dry_run=True))
    page = page_of_plan(Ground(made.store), plan, outcome, "changed")
    assert {row.stage for row in page.rows if row.entry.stage == "train"} == {None}
    (stage,) = [one for one in page.stages if one.name == "train"]
    assert (stage.state, stage.wanted) == ("missing", 3)


def test_details_stay_within_their_room(made: Made) -> None:
    ground = Ground(made.store)
    told = detail_of(ground, chosen_of(made.store), Room(10))
    (output,) = told["outputs"]
    files = {file["path"]: file for file in output["files"]}
    assert files["model.txt"]["left"]
    assert "text" not in files["model.txt"]
    assert files["<img src=x onerror=alert(1)>.txt"]["text"] == "a name"
    assert told["log"] == {"left": True}


def test_outputs_that_are_gone_are_said_to_be(tmp_path: Path) -> None:
    store = big_store(tmp_path / "gone", 1, 1)
    (one,) = entries(store)
    told = detail_of(Ground(store), one, Room())
    assert told["outputs"][0]["gone"]
    assert told["log"] is None


def test_names_that_are_no_text_are_told_by_their_bytes(store: Store) -> None:
    from tests.store.filling import add

    def build(tree: Path) -> None:
        tree.mkdir()
        Path(os.fsdecode(os.fsencode(tree) + b"/\xff\n")).write_text("bad")

    info = add(store, "bytes", build)
    one = big_store(store.root, 1, 1)
    (entry,) = entries(one)
    entry = dataclasses.replace(entry, outputs={"out": info.path})
    (file,) = detail_of(Ground(store), entry, Room())["outputs"][0]["files"]
    assert file["path"] == "\\xff\n"
    assert file["text"] == "bad"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    remove_tree(found.root)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_any_value_is_json_that_ends_no_script(value: Any) -> None:
    text = json_text(plain(value))
    assert not set("<>&\u2028\u2029") & set(text)
    text.encode()

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(text, parse_constant=refuse)
    if isinstance(value, int) and not isinstance(value, bool):
        assert found == value if abs(value) <= 2**53 else found == str(value)


ROWS = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3))


@given(ROWS, ROWS)
def test_what_has_changed_makes_the_old_page_the_new_one(old: dict[str, int], new: dict[str, int]) -> None:
    def page(rows: dict[str, int]) -> dict[str, Any]:
        shown = [{"id": identity, "drv": str(value), "value": value} for identity, value in rows.items()]
        return {"made": 0, "stages": [], "drvs": {str(one["drv"]): {} for one in shown}, "realizations": shown}

    before, after = page(old), page(new)
    change = difference(before, after)
    if change is None:
        assert old == new
        return
    rows = {one["id"]: one for one in before["realizations"]}
    rows |= {one["id"]: one for one in change["realizations"]}
    assert {key: one for key, one in rows.items() if key not in change["gone"]} == {
        one["id"]: one for one in after["realizations"]
    }
    assert before["drvs"].keys() | change["drvs"].keys() >= after["drvs"].keys()


# ----------------------------------------------------------------------------------------- layout


@given(
    st.integers(1, 30).flatmap(
        lambda count: st.lists(st.lists(st.integers(0, count - 1)), min_size=count, max_size=count)
    )
)
def test_a_stage_stands_right_of_what_it_uses(uses: list[list[int]]) -> None:
    forward = [[one for one in used if one < node] for node, used in enumerate(uses)]
    places = layered(forward)
    assert all(places[one][0] < places[node][0] for node, used in enumerate(forward) for one in used)
    # Also where they need each other, each has a place of its own.
    for found in (places, layered(uses)):
        assert len(set(found)) == len(uses)
        assert min(layer for layer, _ in found) == 0
        assert min(row for _, row in found) >= 0


def test_edges_of_two_chains_do_not_cross() -> None:
    places = layered([[], [], [0], [1], [2], [3]])
    assert (places[0][1] < places[1][1]) == (places[2][1] < places[3][1]) == (places[4][1] < places[5][1])


def test_a_deep_graph_is_laid_out_in_no_time() -> None:
    count = 5000
    began = time.perf_counter()
    places = layered([[node - 1] if node else [] for node in range(count)])
    assert time.perf_counter() - began < 2
    assert [layer for layer, _ in places] == list(range(count))


# ---------------------------------------------------------------------------------------- running

DRV = "1xc0v5fhhs1lyhk0nkhn1dm4fvmqqyiv-train.drv"


def test_what_a_process_realizes_is_running_as_long_as_it_lives(store: Store) -> None:
    assert running(store) == {}
    before = stamp(store)
    with try_lock(store, DRV):
        (held,) = running(store).items()
        assert held[0] == f"/nix/store/{DRV}"
        assert held[1].pid == os.getpid()
        assert stamp(store) != before
        # Nobody who wants the lock notices that it was looked at.
        with try_lock(store, DRV) as taken:
            assert not taken
    assert running(store) == {}
    assert stamp(store) == before


def test_what_a_killed_process_was_at_is_not_running(store: Store) -> None:
    program = (
        "import os, sys, bridge.store.locks as locks, bridge.store.layout as layout\n"
        f"with locks.try_lock(layout.open_store(sys.argv[1]), {DRV!r}):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, store.root], check=False)
    assert (store.locks / f"{DRV}.lock").exists()
    assert running(store) == {}
