"""Many processes realize one large plan in one store at once."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.store.layout import Store
from bridge.store.trace import realizations, resolved_derivations
from tests.realize.running import assert_clean, drive, write_stages

HEAD = """
import os

@stage(match=only())
def sampled(run, number=0, data=None, x=out("x")):
    x.write_bytes(os.urandom(8))

@stage(deterministic=True)
def counted(number=0, data=None, x=out("x")):
    with open("{marks}", "a") as file:
        file.write(f"counted{{number}}\\n")
    x.write_text(str(number))
"""
KINDS = {
    "shell": "s{n} = shell('echo s{n} >> {marks}; cat $data > $out/x', data={data}, name='s{n}')",
    "sampled": "s{n} = sampled(number={n}, data={data})",
    "counted": "s{n} = counted(number={n}, data={data})",
}


def large(marks: Path, count: int) -> str:
    """Stages in rows of ten, each of which needs one of the row before; a fifth of them are in Python."""
    lines = [HEAD.format(marks=marks), f"s0 = shell('echo s0 >> {marks}; echo 0 > $out/x', name='s0')"]
    for n in range(1, count):
        kind = {3: "sampled", 7: "counted"}.get(n % 10, "shell")
        lines.append(KINDS[kind].format(n=n, marks=marks, data=f"s{max(0, n - 10)} / 'x'"))
    return "\n".join(lines)


@pytest.fixture
def counts(whole: bool) -> tuple[int, int]:
    """How many processes, and how many stages."""
    return (8, 200) if whole else (4, 30)


def test_a_crowd_makes_each_deterministic_stage_once_and_agrees_on_the_others(
    store: Store, tmp_path: Path, counts: tuple[int, int], figure: Callable[[str], None]
) -> None:
    processes, stages = counts
    marks = tmp_path / "marks"
    file = write_stages(tmp_path, large(marks, stages))
    children = [drive(store, file, f"go={tmp_path}/go") for _ in range(processes)]
    began = time.monotonic()
    (tmp_path / "go").touch()
    said = [child.communicate(timeout=200)[0] for child in children]
    seconds = time.monotonic() - began
    assert [child.returncode for child in children] == [0] * processes, said
    assert len(set(said)) == 1
    made = Counter(marks.read_text().split())
    assert set(made.values()) == {1}
    # The two templates are stages themselves.
    assert len(made) == stages - len(range(3, stages, 10)) + 1
    drvs = resolved_derivations(store)
    assert len(drvs) == stages + 2
    assert {len(realizations(store, drv)) for drv in drvs} == {1}
    assert all(len(ids) == 1 for ids in json.loads(said[0]).values())
    assert_clean(store)
    figure(f"{processes} processes, {stages} stages: each made once, in {seconds:.1f} s")
