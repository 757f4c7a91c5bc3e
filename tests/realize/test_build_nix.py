"""The engine with a real Nix on a scratch store, its sandbox on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from bridge.formats import nar, store_path
from bridge.formats.hashes import Hash
from bridge.formats.self_reference import hashes_positions
from bridge.nix.client import connect
from bridge.nix.errors import NixError
from bridge.nix.installation import Installation
from bridge.realize.errors import BuildError
from bridge.realize.events import Failed, Finished, Line, Note, Skipped, Started
from bridge.store.holds import hold
from bridge.store.info import find_info, read_info
from bridge.store.layout import Store
from bridge.store.objects import remove_tree

from .running import assert_clean, load, run

pytestmark = pytest.mark.nix

PIPELINE = """
SCORES = [5, 9, 7, 1, 2, 3, 4, 10, 6]
busybox = host("busybox")
data = source("data.txt")
clean = shell('sort -u "$src" > "$out/data.txt"', src=data, tools=[busybox])
counted = shell('wc -l < "$x" > "$out/n"', x=clean / "data.txt", tools=[busybox])

@stage(realizations=3, match=best("score"))
def train(run, data=clean / "data.txt", model=out("sub/model.txt")):
    model.write_text(f"{data.read_text()}{SCORES[run.index]} {data}")
    run.log(score=SCORES[run.index])

report = shell('cat "$model" "$n/n" > "$out/report.txt"', model=train.model, n=counted, tools=[busybox])
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> ModuleType:
    (tmp_path / "data.txt").write_text("b\na\nb\n")
    return load(tmp_path, PIPELINE)


@pytest.fixture
def watched(nix: Installation, scratch: Path) -> Installation:
    """The same Nix, whose programs write down that they were started."""
    folder = scratch / "watched"
    folder.mkdir()
    for program in nix.bin.glob("nix*"):
        script = folder / program.name
        script.write_text(f'#!/bin/sh\necho {program.name} $1 >> {scratch}/started\nexec {program} "$@"\n')
        script.chmod(0o755)
    (scratch / "started").touch()
    return replace(nix, bin=folder)


def test_a_pipeline_runs_once_and_then_no_process_of_nix_is_started(
    store: Store, pipeline: ModuleType, watched: Installation, scratch: Path
) -> None:
    first = run(store, pipeline.report, nix=watched)
    nixes = [(name, "nix") for name in ("clean", "counted", "report")]
    assert sorted(first.started) == sorted([*nixes, *[("train", "python")] * 3])
    assert first.path("report").is_relative_to(scratch / "root" / "nix" / "store")
    data = first.path("clean") / "data.txt"
    # Where the data lie is where Nix put them.
    assert (first.path("report") / "report.txt").read_text() == f"a\nb\n9 {data}2\n"
    # Both stages below the training in one call, the report in another.
    assert (scratch / "started").read_text().splitlines().count("nix-build --no-out-link") == 2
    (scratch / "started").write_text("")
    again = run(store, pipeline.report, nix=watched)
    assert again.started == []
    assert again.path("report") == first.path("report")
    assert (scratch / "started").read_text() == ""
    assert_clean(store)


def test_a_rebuild_builds_above_it_only_for_another_choice(
    store: Store, pipeline: ModuleType, nix: Installation
) -> None:
    rebuild = {"nix": nix, "rebuild": frozenset({"train"})}
    run(store, pipeline.report, nix=nix)
    assert run(store, pipeline.report, **rebuild).started == [("train", "python")] * 3
    last = run(store, pipeline.report, **rebuild)
    assert sorted(last.started) == [("report", "nix"), *[("train", "python")] * 3]
    assert (last.path("report") / "report.txt").read_text().startswith("a\nb\n10 ")


def test_a_realization_is_in_nix_with_the_same_path_bytes_and_references(
    store: Store, pipeline: ModuleType, nix: Installation
) -> None:
    done = run(store, pipeline.report, nix=nix)
    (chosen,) = done.choice("train").chosen
    path = chosen.realization.outputs["out"]
    info = read_info(store, path)
    with connect(nix) as connection:
        theirs = connection.query_path_info(path)
    assert theirs is not None
    digest: list[bytes] = []
    nar.pack(nix.real_path(path), digest.append)
    assert Hash.of(b"".join(digest)) == info.nar_hash
    assert chosen.path == store.real_path(path)
    # The path of Nix's result, which the training wrote into its model.
    assert info.references == (done.choice("clean").chosen[0].realization.outputs["out"],)
    assert tuple(sorted(theirs.references)) == info.references
    asked = nix.run([nix.program("nix-store"), "--query", "--references", path])
    assert asked.stdout.split() == list(info.references)
    assert nix.run([nix.program("nix-store"), "--verify-path", path]).returncode == 0


def test_what_is_done_in_a_call_goes_on_while_the_call_goes_on(store: Store, tmp_path: Path, nix: Installation) -> None:
    text = """
    busybox = host("busybox")
    quick = shell('echo 1 > $out/x', tools=[busybox])
    slow = shell('sleep 3; cat $quick/x > $out/x', quick=quick, tools=[busybox])

    @stage
    def train(quick=quick, x=out("x")):
        x.write_text("trained")

    report = shell('cat $slow/x $train > $out/x', slow=slow, train=train.x, tools=[busybox])
    """
    done = run(store, load(tmp_path, text).report, nix=nix)
    assert (done.path("report") / "x").read_text() == "1\ntrained"
    # Each once, and Python before the slow build had ended.
    assert [event.node.name for event in done.of(Finished)] == ["quick", "train", "slow", "report"]
    assert sorted(name for name, _ in done.started) == ["quick", "report", "slow", "train"]


def test_what_nix_built_stays_in_place_and_survives_its_collector(
    store: Store, pipeline: ModuleType, nix: Installation
) -> None:
    done = run(store, pipeline.report, nix=nix)
    for name in ("clean", "counted", "report"):
        path = done.choice(name).chosen[0].realization.outputs["out"]
        assert not store.real_path(path).exists()
    collected = nix.run([nix.program("nix-store"), "--gc"])
    assert collected.returncode == 0, collected.stderr
    again = run(store, pipeline.report, nix=nix)
    assert again.started == []
    assert (again.path("report") / "report.txt").exists()


def test_what_nix_lost_is_built_again(store: Store, pipeline: ModuleType, nix: Installation) -> None:
    run(store, pipeline.counted, nix=nix)
    for root in store.roots.iterdir():
        root.unlink()
    assert nix.run([nix.program("nix-store"), "--gc"]).returncode == 0
    assert sorted(run(store, pipeline.counted, nix=nix).started) == [("clean", "nix"), ("counted", "nix")]


def test_local_results_never_pass_for_nix_s(store: Store, pipeline: ModuleType, nix: Installation) -> None:
    local = run(store, pipeline.counted)
    built = run(store, pipeline.counted, nix=nix)
    assert sorted(built.started) == [("clean", "nix"), ("counted", "nix")]
    (one,) = built.choice("counted").chosen
    assert one.realization.outputs == local.choice("counted").chosen[0].realization.outputs
    assert one.realization.runner == "nix"
    assert one.path.is_relative_to(nix.root)
    assert local.path("counted").is_relative_to(store.root)
    # And once Nix has lost its own, the local one does not take its place.
    for root in store.roots.iterdir():
        root.unlink()
    assert nix.run([nix.program("nix-store"), "--gc"]).returncode == 0
    assert len(run(store, pipeline.counted, nix=nix).started) == 2
    assert_clean(store)


def test_a_local_result_is_not_brought_to_nix(store: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(
        tmp_path,
        """
        busybox = host("busybox")
        here = shell('echo 1 > $out/x', builder="local")
        @stage
        def middle(here=here, a=out("a")):
            a.write_text(str(here))
        above = shell('cat $m/a > $out/x', m=middle, tools=[busybox])
        """,
    )
    done = run(store, module.above, nix=nix)
    assert isinstance(done.failure, BuildError)
    assert "built by the local builder" in done.failure.message
    assert "--builder local" in (done.failure.hint or "")
    assert_clean(store)


def test_the_local_builder_serves_where_it_is_asked_for(
    store: Store, pipeline: ModuleType, watched: Installation, scratch: Path
) -> None:
    done = run(store, pipeline.report, nix=watched, builder="local")
    assert {where for _, where in done.started} == {"local", "python"}
    assert "nix-build" not in (scratch / "started").read_text()
    assert_clean(store)


def test_a_fetch_is_ours_and_nix_uses_it(store: Store, tmp_path: Path, nix: Installation) -> None:
    (tmp_path / "file").write_text("fetched")
    module = load(
        tmp_path,
        f"""
        busybox = host("busybox")
        file = fetchurl("file://{tmp_path}/file", hash="{Hash.of(b"fetched").sri}")
        copy = shell('cat $f > $out/x', f=file, tools=[busybox])
        """,
    )
    done = run(store, module.copy, nix=nix)
    assert sorted(done.started) == [("copy", "nix"), ("file", "fetch")]
    assert (done.path("copy") / "x").read_text() == "fetched"


def test_several_chosen_realizations_go_to_nix(store: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(
        tmp_path,
        """
        busybox = host("busybox")
        @stage(realizations=3, match=every())
        def many(run, a=out("a")):
            a.write_text(str(run.index))
        joined = shell('cat $m > $out/x', m=many.a, tools=[busybox])
        """,
    )
    done = run(store, module.joined, nix=nix)
    assert sorted((done.path("joined") / "x").read_text()) == ["0", "1", "2"]


def test_several_outputs_come_back(store: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(
        tmp_path,
        """
        busybox = host("busybox")
        two = shell('echo 1 > $out/x; echo 2 > $dev/x', outputs=["out", "dev"], tools=[busybox])
        one = shell('cat $a/x $b/x > $out/x', a=two, b=two.dev, tools=[busybox])
        """,
    )
    assert (run(store, module.one, nix=nix).path("one") / "x").read_text() == "1\n2\n"


def test_stages_that_are_the_same_derivation_are_built_once(store: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(
        tmp_path,
        """
        busybox = host("busybox")
        a = shell('echo 1 > $out/x', name="same", tools=[busybox])
        b = shell('echo 1 > $out/x', name="same", tools=[busybox])
        top = shell('cat $a/x $b/x > $out/x', a=a, b=b, tools=[busybox])
        """,
    )
    done = run(store, module.top, nix=nix)
    assert (done.path("top") / "x").read_text() == "1\n1\n"
    assert done.started.count(("same", "nix")) == 1


FAILING = """
busybox = host("busybox")
bad = shell('echo some words; exit 3', tools=[busybox])
good = shell('sleep 0.3; echo 1 > $out/x', tools=[busybox])
above = shell('cat $x', x=bad, tools=[busybox])

@stage
def beside(a=out("a")):
    a.touch()
"""


def test_a_failing_build_is_told_with_its_stage_and_log(store: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(tmp_path, FAILING)
    done = run(store, module.above, module.good, nix=nix)
    assert isinstance(done.failure, BuildError)
    assert done.failure.stage == "bad"
    assert done.failure.log_tail == ("some words",)
    assert done.failure.line == 4
    assert "nix-store --read-log" in (done.failure.hint or "")
    assert [event.node.name for event in done.of(Failed)] == ["bad"]
    assert "some words" in [event.text for event in done.of(Line)]
    assert_clean(store)


def test_others_are_kept_with_keep_going(store: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(tmp_path, FAILING)
    done = run(store, module.above, module.good, module.beside, nix=nix, keep_going=True)
    assert isinstance(done.failure, BuildError)
    assert done.failure.stage == "bad"
    assert {event.node.name for event in done.of(Finished)} == {"good", "beside"}
    assert [event.node.name for event in done.of(Skipped)] == ["above"]
    assert run(store, module.good, module.beside, nix=nix).started == []
    assert_clean(store)


def test_each_stage_has_its_own_timeout_and_says_what_of_its_policy_nix_does_not_hold(
    store: Store, tmp_path: Path, nix: Installation
) -> None:
    module = load(
        tmp_path,
        """
        first = shell('sleep 1.5; mkdir $out/x')
        slow = shell('echo begun; sleep 60', name="slow", first=first).options(timeout=1, memory="1G", retries=1)
        above = shell('ls $slow > $out/x', slow=slow)
        quick = shell('sleep 1.5; ls $first > $out/x', name="quick", first=first)
        quick = quick.options(timeout=30, environ=["HF_TOKEN"])
        last = shell('cat $quick/x > $out/x', quick=quick)
        """,
    )
    done = run(store, module.above, module.last, nix=nix, keep_going=True)
    assert isinstance(done.failure, BuildError)
    assert done.failure.stage == "slow"
    assert done.failure.reason == "timeout"
    assert list(done.failure.log_tail) == ["begun"]
    assert {event.node.name for event in done.of(Finished)} == {"first", "quick", "last"}
    assert [event.node.name for event in done.of(Skipped)] == ["above"]
    assert [event.node.name for event in done.of(Started)].count("slow") == 1
    assert [event.text for event in done.of(Note)] == [
        "Nix builds slow, and has no retries, memory: the local builder has",
        "Nix builds quick, and has no environ: the local builder has",
    ]
    assert_clean(store)


@pytest.mark.parametrize("builder", ["auto", "nix"])
def test_a_nix_that_can_not_be_used_gives_way_if_it_may(
    store: Store, tmp_path: Path, nix: Installation, builder: str
) -> None:
    module = load(tmp_path, "a = shell('mkdir $out/x')\nb = shell('ls $a > $out/x', a=a)")
    broken = replace(nix, environ={**nix.environ, "NIX_REMOTE": f"unix://{tmp_path}/no-socket"})
    done = run(store, module.b, nix=broken, builder=builder)
    if builder == "nix":
        assert isinstance(done.failure, NixError)
        assert done.started == []
    else:
        assert done.started == [("a", "local"), ("b", "local")]
        (note,) = done.of(Note)
        assert "the local builder builds" in note.text
    assert_clean(store)


def test_an_object_that_is_nowhere_fails_with_what_to_do(store: Store, pipeline: ModuleType, nix: Installation) -> None:
    done = run(store, pipeline.train, nix=nix)
    (one,) = done.choice("train").chosen
    path = one.realization.outputs["out"]
    remove_tree(store.real_path(path))
    store.info_file(path).unlink()
    assert find_info(store, path) is None
    again = run(store, pipeline.report, nix=nix)
    assert again.started.count(("train", "python")) == 1
    assert again.error is None


def test_no_descriptor_and_no_process_stays(store: Store, pipeline: ModuleType, nix: Installation) -> None:
    # What a process holds of a store stays open until it ends.
    hold(store, [f"/nix/store/{'a' * 32}-x"])
    before = len(os.listdir("/proc/self/fd"))
    run(store, pipeline.report, nix=nix)
    assert len(os.listdir("/proc/self/fd")) == before
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert [pid for pid in children if "nix" in Path(f"/proc/{pid}/comm").read_text()] == []


def test_each_of_several_failures_in_one_call_has_its_own_log(store: Store, tmp_path: Path, nix: Installation) -> None:
    module = load(
        tmp_path,
        """
        busybox = host("busybox")
        one = shell("echo this is one; exit 3", tools=[busybox], shell=busybox)
        two = shell("echo this is two; exit 4", tools=[busybox], shell=busybox)
        """,
    )
    done = run(store, module.one, module.two, nix=nix, keep_going=True)
    failed = {event.node.name: event.error for event in done.events if isinstance(event, Failed)}
    assert set(failed) == {"one", "two"}
    for name, error in failed.items():
        assert isinstance(error, BuildError)
        assert f"this is {name}" in error.log_tail
        assert f"-{name}.drv" in str(error.hint)


def test_what_nix_can_not_be_given_fails_alone(
    store: Store, tmp_path: Path, nix: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = hashes_positions(nix.version())
    # Stands for a store that was shared with a machine whose Nix has the other rule.
    monkeypatch.setattr("bridge.realize.build_local.hashes_positions", lambda version: not rule)
    module = load(
        tmp_path,
        """
        busybox = host("busybox")
        here = shell("echo $out > $out/x", deterministic=False)
        bad = shell("cat $here/x", here=here, tools=[busybox], shell=busybox)
        good = shell("echo good > $out/x", tools=[busybox], shell=busybox)
        """,
    )
    done = run(store, module.bad, module.good, nix=nix, keep_going=True)
    assert [event.node.name for event in done.events if isinstance(event, Failed)] == ["bad"]
    assert "good" in {event.node.name for event in done.events if isinstance(event, Finished)}


SELF = """
busybox = host("busybox")
named = shell('echo "I am $out" > $out/self', deterministic=False)
used = shell('cat $named/self > $out/said', named=named, tools=[busybox])
"""


def test_a_result_that_names_itself_goes_to_nix_under_the_path_that_nix_gives_it(
    store: Store, tmp_path: Path, nix: Installation
) -> None:
    """By op 39; each release checks the path by its own rule for self references."""
    done = run(store, load(tmp_path, SELF).used, nix=nix)
    [chosen] = done.choice("named").chosen
    path = chosen.realization.outputs["out"]
    # The text was written where the local builder works; the digest in it is that of the store path.
    assert store_path.hash_part(path) in (done.path("used") / "said").read_text()
    with connect(nix) as client:
        info = client.query_path_info(path)
    assert info is not None
    assert info.references == (path,)
    assert info.ca == read_info(store, path).content_address
    assert_clean(store)


def test_a_result_made_by_the_rule_of_another_nix_is_refused_with_the_reason(
    store: Store, tmp_path: Path, nix: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule = hashes_positions(nix.version())
    # Stands for a store that was shared with a machine of the other kind: two releases in one test is too slow.
    monkeypatch.setattr("bridge.realize.build_local.hashes_positions", lambda version: not rule)
    done = run(store, load(tmp_path, SELF).used, nix=nix)
    assert "refers to itself, and this Nix does not take it" in str(done.failure)
    assert_clean(store)
