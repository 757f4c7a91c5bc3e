"""What Nix built stays in the Nix store as long as there is a realization of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bridge.nix.installation import Installation
from bridge.store.drop import drop
from bridge.store.gc import collect
from bridge.store.holds import release
from bridge.store.layout import Store
from bridge.store.policy import Policy

from .running import Run, assert_clean, load, run

pytestmark = pytest.mark.nix

STAGES = """
busybox = host("busybox")
first = shell('echo first > "$out/x"', tools=[busybox])
second = shell('cat "$x" > "$out/y"; echo second >> "$out/y"', x=first / "x", tools=[busybox])
"""


def collect_garbage(nix: Installation) -> None:
    done = nix.run([nix.program("nix-collect-garbage")])
    assert done.returncode == 0, done.stderr


def named(done: Run, stage: str) -> tuple[str, str]:
    [one] = done.choice(stage).chosen
    return one.realization.drv, one.id


def test_nix_takes_a_result_only_after_its_realization_was_dropped(
    store: Store, tmp_path: Path, nix: Installation
) -> None:
    done = run(store, load(tmp_path, STAGES).second, nix=nix)
    first, second = done.path("first"), done.path("second")
    release()
    collect_garbage(nix)
    assert (second / "y").read_text() == "first\nsecond\n"
    assert drop(store, {named(done, "second")}, []).dependents == ()
    assert second.exists()
    collect_garbage(nix)
    assert not second.exists()
    # The other one is still a realization.
    assert (first / "x").read_text() == "first\n"
    assert collect(store, Policy(unrooted=True)).items
    collect_garbage(nix)
    assert not first.exists()
    assert [place.name for place in store.roots.iterdir() if place.name.startswith("nix-")] == []
    assert_clean(store)
