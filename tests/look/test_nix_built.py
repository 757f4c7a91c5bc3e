"""`why` and `diff` where Nix builds: its results, those of the local builder, and what waits for either."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from bridge import instantiate
from bridge.look.diff import diff_realizations
from bridge.look.ground import Ground
from bridge.look.why import Because, causes, why
from bridge.nix.installation import Installation
from bridge.realize.engine import Options, realize
from bridge.stages.plan import Plan
from bridge.store.layout import Store, open_store
from tests.realize.running import load

pytestmark = pytest.mark.nix

STAGES = """
busybox = host("busybox")
data = source("data.txt")
clean = shell('sort -u "$src" > "$out/data.txt"', src=data, tools=[busybox], shell=busybox)

@stage(realizations=2, match=best("score"))
def train(run, data=clean / "data.txt", model=out("model.txt")):
    model.write_text(f"{run.index} {data.read_text()}")
    run.log(score=run.index)

report = shell('cat "$model" > "$page"', model=train.model, page=out("page.txt"), tools=[busybox], shell=busybox)
"""


@pytest.fixture
def stages(tmp_path: Path) -> ModuleType:
    (tmp_path / "data.txt").write_text("b\na\nb\n")
    return load(tmp_path, STAGES)


@pytest.fixture
def store(scratch: Path) -> Store:
    return open_store(scratch / "store")


def asked(plan: Plan, store: Store, nix: Installation, options: Options) -> dict[str, Because]:
    outcome = realize(plan, store, nix=nix, options=options)
    return {node.label: one for node, one in why(plan, outcome, Ground(store, nix)).items()}


LOCAL = Options(builder="local")
DRY = Options(dry_run=True)


def test_why_says_that_the_local_builders_results_do_not_count_where_nix_builds(
    stages: ModuleType, store: Store, nix: Installation
) -> None:
    plan = instantiate([stages.report])
    realize(plan, store, nix=nix, options=LOCAL)
    again = asked(plan, store, nix, Options(dry_run=True, builder="local"))
    assert [one.reason for one in again.values()] == ["realized"]

    outcome = realize(plan, store, nix=nix, options=DRY)
    found = why(plan, outcome, Ground(store, nix))
    # Nix knows the path of `clean` before it builds it, and it is the one that `train` was given.
    assert [(one.node.label, one.reason) for one in causes(plan, found)] == [
        ("clean", "builder"),
        ("report", "builder"),
    ]
    for cause in causes(plan, found):
        assert cause.last is not None
        assert cause.text == f"there is only {cause.last.id} of the local builder, and Nix builds it now"
    assert {node.label: count for node, count in outcome.pending.items()} == {"clean": 1, "report": 1}
    assert [node.label for node in outcome.choices if node.source is None] == ["train"]
    before = Ground(store, nix).entries()
    realize(plan, store, nix=nix)
    made = [one for one in Ground(store, nix).entries() if one not in before]
    assert [(one.stage, one.runner) for one in made] == [("clean", "nix"), ("report", "nix")]


def test_what_waits_for_the_same_path_counts_when_nix_has_built_it(
    stages: ModuleType, store: Store, nix: Installation
) -> None:
    realize(instantiate([stages.train]), store, nix=nix, options=LOCAL)
    before = [one for one in Ground(store, nix).entries() if one.stage == "train"]
    plan = instantiate([stages.report])
    realize(plan, store, nix=nix)
    entries = Ground(store, nix).entries()
    assert [one for one in entries if one.stage == "train"] == before
    assert [one.runner for one in entries if one.stage == "clean"] == ["local", "nix"]
    assert [one.reason for one in asked(plan, store, nix, DRY).values()] == ["realized"]


def test_why_and_diff_find_the_script_that_changed_of_a_stage_that_nix_built(
    tmp_path: Path, stages: ModuleType, store: Store, nix: Installation
) -> None:
    realize(instantiate([stages.report]), store, nix=nix)
    (tmp_path / "data.txt").write_text("b\na\nc\n")
    changed = load(tmp_path, STAGES.replace('"$model" >', '"$model" "$model" >'))
    plan = instantiate([changed.report])
    outcome = realize(plan, store, nix=nix, options=DRY)
    found = why(plan, outcome, Ground(store, nix))
    first = {one.node.label: one for one in causes(plan, found)}
    # The code of `train` is in a file of another name by now.
    assert list(first) == ["clean", "train", "report"]
    assert [change.key for change in first["train"].stage.own.changes] == [("function",)]
    [source] = first["clean"].inputs
    assert source.what == "source"
    assert [line for one in source.files for line in one.text if line[0] in "+-"] == ["-b", "+c"]
    assert first["report"].stage.own.changes

    realize(plan, store, nix=nix)
    ground = Ground(store, nix)
    old, new = (one for one in ground.entries() if one.stage == "report")
    assert (old.runner, new.runner) == ("nix", "nix")
    compared = diff_realizations(ground, old, new)
    assert [one.after.stage for one in compared.context] == ["clean", "train"]
    assert [one.path for one in compared.outputs["out"]] == ["page.txt"]
    assert not compared.gone
    for one in ground.entries():
        assert not diff_realizations(ground, one, one)


def test_why_says_that_nix_has_collected_a_result(stages: ModuleType, store: Store, nix: Installation) -> None:
    plan = instantiate([stages.clean])
    realize(plan, store, nix=nix)
    [one] = Ground(store, nix).entries()
    for root in store.roots.glob("nix/*"):
        root.unlink()
    nix.run([nix.program("nix-store"), "--delete", "--ignore-liveness", one.outputs["out"]]).check_returncode()
    found = asked(plan, store, nix, DRY)["clean"]
    assert found.reason == "gone"
    assert found.text == f"the bytes of {one.id} are gone"


def test_a_rebuild_by_nix_is_all_that_is_missing_where_only_its_result_is_gone(
    stages: ModuleType, store: Store, nix: Installation
) -> None:
    plan = instantiate([stages.report])
    realize(plan, store, nix=nix)
    before = Ground(store, nix).entries()
    [clean] = [one.outputs["out"] for one in before if one.stage == "clean"]
    nix.run([nix.program("nix-store"), "--delete", "--ignore-liveness", clean]).check_returncode()
    outcome = realize(plan, store, nix=nix, options=DRY)
    assert {node.label: count for node, count in outcome.pending.items()} == {"clean": 1}
    said = {node.label: one.reason for node, one in why(plan, outcome, Ground(store, nix)).items()}
    assert said == {"report": "realized", "clean": "gone"}
    realize(plan, store, nix=nix)
    assert [one.stage for one in Ground(store, nix).entries() if one not in before] == ["clean"]
