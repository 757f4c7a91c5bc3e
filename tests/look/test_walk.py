"""Walking over results by attribute, from a plan and from the store alone."""

from __future__ import annotations

import copy
import json
import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bridge
from bridge import instantiate
from bridge.formats.errors import BridgeError
from bridge.look.errors import DataError, NoRealizationError, UnknownNameError
from bridge.look.fields import Artifact, fields_of
from bridge.look.realized import Realized, Source
from bridge.look.results import Results
from bridge.look.walk import realize, walk
from bridge.realize.engine import Options
from bridge.stages.errors import TargetError
from bridge.store.errors import StoreError
from bridge.store.layout import Store, open_store
from bridge.store.objects import remove_tree
from tests.realize.running import load

STAGES = """
import json

words = source("words.txt")
clean = shell("sort -u $words > $out/sorted.txt", words=words, builder="local")

@stage(realizations=3, match=best("score"))
def train(run, data=clean / "sorted.txt", rate=0.5, layers=[1, {"width": 2}], model=out("model.txt"),
          metrics=out("metrics.json"), settings=out("settings.toml")):
    print("run", run.index)
    model.write_text(f"model {run.index}")
    metrics.write_text(json.dumps({"score": run.index, "items": [{"keys": 7}]}))
    settings.write_text("[a]\\nb = 3\\n")
    run.log(score=run.index)

top_two = train.options(match=best("score", n=2))

@stage
def report(model=train.model, page=out("page.txt")):
    page.write_text(model.read_text())

@stage
def table(models=top_two.model, page=out("table.txt")):
    page.write_text(str(len(models)))
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = open_store(tmp_path / "store")
    yield found
    remove_tree(found.root)


@pytest.fixture
def stages(tmp_path: Path) -> ModuleType:
    (tmp_path / "words.txt").write_text("two\none\ntwo\n")
    return load(tmp_path, STAGES)


@pytest.fixture
def results(store: Store, stages: ModuleType) -> Results:
    return realize(instantiate([stages.report]), store, nix=None)


def test_what_realize_gives_is_walked_by_attribute(results: Results) -> None:
    assert results.train.model.read_text() == "model 2"
    assert results.train.metrics.score == 2
    assert results.train.config.rate == 0.5
    assert results.train.config.layers[1].width == 2
    assert results.report.page.read_text() == "model 2"
    assert results.train.result == "done"
    assert results.train.log == "run 2\n"
    assert results.train.host.python
    assert "json.dumps" in "".join(file.read_text() for file in results.train.code.iterdir())


def test_public_realize_is_the_one_that_is_walked_over(store: Store, stages: ModuleType) -> None:
    found = bridge.realize(instantiate([stages.report]), store, nix=None)
    assert isinstance(found, Results)
    assert os.fspath(found.report) == str(found.report.path)


def test_inputs_lead_down_and_users_up(results: Results, tmp_path: Path) -> None:
    data = results.train.inputs.data
    assert data.path.name == "sorted.txt"
    assert data.path.read_text() == "one\ntwo\n"
    assert data.stage == "clean"
    assert isinstance(data.inputs.words[0], Source)
    assert data.inputs.words.path.read_text() == (tmp_path / "words.txt").read_text()
    assert results.report.inputs.model[0].id == results.train.id
    assert results.train.users.report.id == results.report.id
    assert {one.id for one in results.clean.users.train} == {one.id for one in results.train.siblings}
    assert len(results["words.txt"].users.clean) == 1


def test_several_chosen_are_a_list_and_do_not_speak_for_each_other(store: Store, stages: ModuleType) -> None:
    found = realize(instantiate([stages.table]), store, nix=None)
    assert [one.metrics.score for one in found.train] == [2, 1]
    assert found.train[1].model.read_text() == "model 1"
    assert len(found.train[:1]) == 1
    assert len(found.table.inputs.models) == 2
    assert not hasattr(found.train, "model")
    with pytest.raises(NoRealizationError, match=r"there are 2; name one of them, as in \[0\]\.model"):
        _ = found.train.model
    with pytest.raises(IndexError, match=r"there are 2, so that there is no \[2\]"):
        _ = found.train[2]


def test_names_that_are_ours_are_reached_by_item(results: Results) -> None:
    assert results.train.metrics == {"score": 2}
    data = results.train["metrics"].json()
    assert data.score == 2
    assert data["items"][0]["keys"] == 7
    assert callable(data.items)
    assert results.train["settings"].toml().a.b == 3
    assert results["train"].id == results.train.id


def test_an_artifact_is_a_path(results: Results) -> None:
    model = results.train.model
    assert isinstance(model, Path)
    assert isinstance(model.parent, Artifact)
    assert model == Path(model)
    assert pickle.loads(pickle.dumps(model)) == model
    with pytest.raises(DataError, match="this is not JSON"):
        model.json()
    with pytest.raises(DataError, match="this is not TOML"):
        (model.parent / "model.txt").toml()
    with pytest.raises(DataError, match="Is a directory") as raised:
        model.parent.json()
    assert "metrics.json" in str(raised.value.hint)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", "", "nan(", '"\\ud800'])
def test_json_that_is_none_is_an_error_of_the_users(text: str, tmp_path: Path) -> None:
    file = Artifact(tmp_path / "x.json")
    file.write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        file.json()


def test_a_misspelt_name_says_what_there_is(results: Results) -> None:
    with pytest.raises(AttributeError, match="this plan has no 'trian'; did you mean train"):
        _ = results.trian
    with pytest.raises(KeyError, match=r"it has words\.txt, clean, train, report"):
        _ = results["xyz"]
    with pytest.raises(AttributeError, match="the stage train has no 'modle'; did you mean model"):
        _ = results.train.modle
    with pytest.raises(AttributeError, match="did you mean rate"):
        _ = results.train.config.rat
    with pytest.raises(AttributeError, match="did you mean data"):
        _ = results.train.inputs.dat
    with pytest.raises(UnknownNameError):
        _ = results["words.txt"].model
    assert not hasattr(results, "nope")
    assert not hasattr(results.train, "nope")
    assert results.train.config.get("nope") is None
    assert getattr(results.train, "nope", 1) == 1
    assert results.get("nope") is None


def test_what_is_not_realized_says_so(store: Store, stages: ModuleType) -> None:
    found = realize(instantiate([stages.report]), store, nix=None, options=Options(dry_run=True))
    assert len(found.train) == 0
    with pytest.raises(NoRealizationError, match="not realized: 3 to be made of train"):
        _ = found.train.model
    assert "not realized" in repr(found)
    assert "pending" in found._repr_html_()


def test_fields_are_dicts(results: Results) -> None:
    config = results.train.config
    assert json.loads(json.dumps(config)) == {"rate": 0.5, "layers": [1, {"width": 2}]}
    assert copy.deepcopy(config) == config
    assert "rate" in dir(config)
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    assert fields_of(deep).a.a.a is not None


# ---------------------------------------------------------------------------- from the store alone


def test_a_reference_needs_no_plan(results: Results, store: Store, tmp_path: Path) -> None:
    best = results.train
    link = tmp_path / "result"
    link.symlink_to(best.path)
    for reference in (best.id, best.id[:10], best.record.outputs["out"], best.path, link, best.model):
        found = walk(reference, store, nix=None)
        assert found.id == best.id, reference
        assert found.config.rate == 0.5
        assert found.model.read_text() == "model 2"
        assert found.inputs.data.inputs.words.path.exists()
    assert walk(best.model, store, nix=None).path == best.model
    assert len(walk("train", store, nix=None)) == 3
    assert len(walk(best.drv, store, nix=None)) == 3
    assert isinstance(walk(results["words.txt"].path, store, nix=None)[0], Source)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("trian", "did you mean train"),
        ("zzzz", "nixbridge ls"),
        ("", "nixbridge ls"),
        ("/nix/store/00000000000000000000000000000000-nope", "nixbridge ls"),
        ("/nix/store/00000000000000000000000000000000-nope.drv", "nixbridge ls"),
        ("/nix/store/nope", None),
        ("./nope", None),
        ("/etc", None),
    ],
)
def test_a_reference_that_names_nothing_says_what_is_near(
    results: Results, store: Store, reference: str, said: str | None
) -> None:
    with pytest.raises(TargetError) as raised:
        walk(reference, store, nix=None)
    assert said is None or said in str(raised.value.hint)


def test_an_ambiguous_beginning_is_refused(results: Results, store: Store) -> None:
    ids = [one.id for one in walk("train", store, nix=None)]
    # All ids begin with 0 or 1: they are 16 digits of 256 bits.
    with pytest.raises(TargetError, match=r"'[01]' may mean [0-9]+ things"):
        walk(max("01", key=lambda digit: sum(one.startswith(digit) for one in ids)), store, nix=None)


def test_a_link_that_goes_round_is_no_reference(store: Store, tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to("round")
    with pytest.raises(TargetError, match="neither lies in the store"):
        walk(tmp_path / "round", store, nix=None)


def test_what_is_gone_says_so(results: Results, store: Store) -> None:
    found = walk(results.train.id, store, nix=None)
    remove_tree(results.train.path)
    with pytest.raises(DataError, match="not on this machine any more"):
        _ = found.model
    remove_tree(store.real_path(found.drv))
    lost = walk(results.train.id, store, nix=None)
    with pytest.raises(DataError, match="in no store any more"):
        _ = lost.config
    assert lost.metrics.score == 2
    assert "model" not in dir(lost)
    assert lost._repr_html_()


# ------------------------------------------------------------------------------------ for the eyes


def test_ipython_completes_names(results: Results) -> None:
    completer = pytest.importorskip("IPython.core.completer")
    shell = completer.IPCompleter(namespace={"r": results}, use_jedi=False)
    shell.use_jedi = False

    def completed(text: str) -> set[str]:
        with completer.provisionalcompleter():
            return {text[: one.start] + one.text for one in shell.completions(text, len(text))}

    assert "r.train" in completed("r.tr")
    assert any(one.startswith('r["train') for one in completed('r["tr'))
    namespace: dict[str, Any] = {"one": results.train, "config": results.train.config}
    shell = completer.IPCompleter(namespace=namespace, use_jedi=False)
    shell.use_jedi = False
    assert {"one.model", "one.metrics", "one.inputs"} <= completed("one.")
    assert "config.rate" in completed("config.")
    assert any(one.startswith('one["model') for one in completed('one["mo'))


def test_ipython_completes_at_any_depth(results: Results, store: Store) -> None:
    completer = pytest.importorskip("IPython.core.completer")
    walk("report", store, nix=None)
    shell = completer.IPCompleter(namespace={"r": results}, use_jedi=False)
    shell.use_jedi = False

    def completed(text: str) -> set[str]:
        with completer.provisionalcompleter():
            return {text[: one.start] + one.text for one in shell.completions(text, len(text))}

    assert "r.report.inputs.model" in completed("r.report.inputs.mo")
    assert "r.report.inputs.model.config.rate" in completed("r.report.inputs.model.config.ra")
    assert "r.train[0].users.report" in completed("r.train[0].users.re")
    assert "r.train.users.report.page" in completed("r.train.users.report.pa")
    # What may do something is not called for a completion.
    assert completed("r.train.model.unlink().st") == set()


def test_ipython_shows_html_and_text(results: Results) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    formatter = formatters.DisplayFormatter()
    formatter.active_types = ["text/plain", "text/html"]
    for value in (results, results.train, results.train[0], results.train.inputs, results.train.siblings):
        shown, _ = formatter.format(value)
        assert shown["text/html"].startswith("<div>")
        assert "train" in shown["text/plain"] or "clean" in shown["text/plain"]
    assert shown["text/html"].count("<tr>") == 1 + 3
    assert "<svg" in formatter.format(results)[0]["text/html"]


def test_what_comes_from_outside_is_escaped(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage(name="evil")
        def evil(run, text="<script>alert(1)</script>", page=out("<b>.txt")):
            page.write_text("")
            run.log(**{"<i>": 1, "text": "<img src=x>\\x1b[31m"})

        @stage
        def after(given=evil.page, x=out("x")):
            x.write_text("")
        """,
    )
    found = realize(instantiate([module.after]), store, nix=None)
    for value in (found, found.evil, found.evil[0], found.after.inputs):
        html = value._repr_html_()
        assert "<script" not in html
        assert "<img" not in html
        assert "<i>" not in html
        assert "<b>.txt" not in html
        assert "\x1b" not in repr(value)


def test_a_step_costs_the_same_at_any_depth(store: Store, tmp_path: Path) -> None:
    module = load(
        tmp_path,
        """
        @stage
        def first(x=out("x")):
            x.write_text("0")

        @stage
        def step(given=first.x, n=0, x=out("x")):
            x.write_text(str(n))

        last = first
        for number in range(12):
            last = step(given=last / "x", n=number)
        """,
    )
    found: Any = realize(instantiate([module.last]), store, nix=None)["step(n=11)"]
    one = walk(found.id, store, nix=None)
    assert one.inputs.given.config.n == 10
    seconds = []
    for _ in range(11):
        begun = time.perf_counter()
        one = one.inputs.given
        seconds.append(time.perf_counter() - begun)
    assert one.config.n == 0
    assert one.inputs.given.stage == "first"
    assert sorted(seconds)[len(seconds) // 2] < 0.005


def test_every_error_is_one_of_ours(results: Results) -> None:
    for name in ("nope", "modle"):
        with pytest.raises(BridgeError):
            getattr(results.train, name)
    assert isinstance(results.train[0], Realized)


def test_a_misspelt_store_is_said_and_not_made(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store at"):
        walk("train", tmp_path / "misspelt", nix=None)
    assert not (tmp_path / "misspelt").exists()


def test_what_is_near_a_misspelt_reference_is_shown_in_a_traceback(results: Results) -> None:
    with pytest.raises(TargetError) as caught:
        walk("trian", results.store, nix=None)
    assert caught.value.__notes__ == ["hint: did you mean train?"]


def test_no_name_is_offered_twice(results: Results) -> None:
    assert len(dir(results)) == len(set(dir(results)))
