"""`kill -9`, a full disk and a broken one at each call of a realization that changes the store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.formats.hashes import Hash
from bridge.store.layout import Store
from tests.realize.running import drive

PLAN = Path(__file__).with_name("plan.txt")
RAW = b"raw\n"
PROCESSES = len(os.sched_getaffinity(0))
SAMPLE = {"kill": 197, "ENOSPC": 79, "EIO": 157}
"""How many calls lie between two points of the sample."""


def plan(folder: Path) -> Path:
    """The stage file, with what it fetches and takes as a source."""
    (folder / "raw.txt").write_bytes(RAW)
    (folder / "more").mkdir()
    (folder / "more" / "rows").write_text("more\n")
    file = folder / "stages_campaign.py"
    file.write_text(PLAN.read_text().replace("@HERE@", str(folder)).replace("@HASH@", Hash.of(RAW).sri))
    return file


def points(file: Path, folder: Path, what: str, step: int, seed: Path | None) -> list[dict[str, Any]]:
    """What came of the points, found by several processes."""
    count = PROCESSES if step == 1 else 1
    command = [sys.executable, "-m", "tests.campaign.points", file]
    more = [] if seed is None else [seed]
    children = [
        subprocess.Popen(
            [*command, folder / str(number), what, str(number), str(step * count), *more],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for number in range(1, count + 1)
    ]
    said = [child.communicate()[0] for child in children]
    assert [child.returncode for child in children] == [0] * count
    return [json.loads(line) for lines in said for line in lines.splitlines()]


@pytest.mark.parametrize("start", ["fresh", "rebuild"])
@pytest.mark.parametrize("what", SAMPLE)
def test_a_store_survives_each_point_and_the_same_command_finishes(
    store: Store, tmp_path: Path, what: str, start: str, whole: bool, figure: Callable[[str], None]
) -> None:
    if what != "kill" and start == "rebuild" and not whole:
        pytest.skip("only with NIXBRIDGE_CAMPAIGN=1")
    file = plan(tmp_path)
    if start == "rebuild":
        with drive(store, file) as child:
            said = child.communicate(timeout=30)[0]
            assert child.returncode == 0, said
    seed = store.root if start == "rebuild" else None
    found = points(file, tmp_path / "points", what, 1 if whole else SAMPLE[what], seed)
    reached = [one for one in found if one["call"] is not None]
    assert [f"{one['point']} {one['call']}: {wrong}" for one in found for wrong in one["wrong"]] == []
    assert len(reached) >= (200 if whole else 3)
    # The engine, the worker server and its workers.
    assert max(one["processes"] for one in found) > 3
    seconds = sum(one["seconds"] for one in found)
    kinds = len({one["call"].split()[1] for one in reached})
    figure(f"{what}, {start}: {len(reached)} points of {kinds} kinds of calls, {seconds:.0f} s of work")
