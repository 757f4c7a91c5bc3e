"""`pack`, `unpack` and `copy`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from .conftest import NIXBRIDGE, Command


def test_elsewhere_nothing_runs_that_came_in_a_pack(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py")
    assert "records; id " in nixbridge("pack", "stages.py", "-o", "x.pack").stdout
    said = nixbridge("unpack", "--dry-run", "x.pack", "--store", "other").stdout
    assert said.startswith("would add ")
    assert nixbridge("unpack", "x.pack", "--store", "other").stdout == said.replace("would add", "added")
    assert "would run" not in nixbridge("realize", "--dry-run", "stages.py", "--store", "other").stderr
    before = sorted(path.name for path in (project / "other" / "trace").rglob("*.json"))
    nixbridge("realize", "stages.py", "--store", "other")
    assert sorted(path.name for path in (project / "other" / "trace").rglob("*.json")) == before
    assert "clean" in nixbridge("verify", "--store", "other").stdout


def test_one_realization_is_packed_by_its_id_with_what_it_was_made_from(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py")
    records = json.loads(nixbridge("ls", "--json").stdout)
    one = next(one for one in records if one["stage"] == "train")
    nixbridge("pack", one["id"][:8], "-o", "x.pack")
    listed = json.loads(nixbridge("unpack", "--list", "--json", "x.pack").stdout)
    assert {found["stage"] for found in listed["records"]} == {"train", "clean"}
    assert one["outputs"]["out"] in {found["path"] for found in listed["objects"]}


def test_a_result_is_packed_by_its_path_and_its_file(nixbridge: Command, project: Path) -> None:
    path = nixbridge("realize", "stages.py:clean").stdout.strip()
    for number, what in enumerate((path, f"{path}/sorted.txt", f"/nix/store/{Path(path).name}")):
        nixbridge("pack", what, "-o", f"{number}.pack")
    assert (project / "0.pack").read_bytes() == (project / "1.pack").read_bytes() == (project / "2.pack").read_bytes()


def test_a_pack_goes_through_a_pipe(nixbridge: Command, project: Path, environment: dict[str, str]) -> None:
    nixbridge("realize", "stages.py")
    script = f"{NIXBRIDGE} pack stages.py --compress xz -o - | {NIXBRIDGE} unpack - --store other"
    done = subprocess.run(script, shell=True, cwd=project, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("added ")


def test_copy_goes_both_ways(nixbridge: Command) -> None:
    nixbridge("realize", "stages.py")
    assert nixbridge("copy", "stages.py", "--to", "other").stdout.startswith("added ")
    assert nixbridge("copy", "stages.py", "--from", "other").stdout.startswith("added 0 objects and 0 records")
    assert "clean" in nixbridge("verify", "--store", "other").stdout
    assert "one of --to DIR and --from DIR" in nixbridge("copy", "stages.py", status=1).stderr


def test_what_can_not_be_packed_or_unpacked_is_said_and_leaves_nothing(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py:clean")
    assert "not realized: report" in nixbridge("pack", "stages.py", "-o", "x.pack", status=1).stderr
    assert "no compression 'lz4'" in nixbridge("pack", "stages.py", "-o", "x", "--compress", "lz4", status=1).stderr
    assert "can not be read" in nixbridge("unpack", "none.pack", status=1).stderr
    nixbridge("pack", "stages.py:clean", "-o", "x.pack")
    whole = (project / "x.pack").read_bytes()
    (project / "x.pack").write_bytes(whole[:-2000])
    error = nixbridge("unpack", "x.pack", "--store", "other", status=1).stderr
    assert "cut short" in error
    assert "run the same command again" in error
    (project / "x.pack").write_bytes(whole)
    nixbridge("unpack", "x.pack", "--store", "other")
    assert "clean" in nixbridge("verify", "--store", "other").stdout
    assert sorted(path.name for path in project.glob("*pack*")) == ["x.pack"]
    nixbridge("pack", "stages.py:clean", "-o", "no/such/folder", status=1)


def test_json_does_not_mix_with_a_pack_on_standard_output(nixbridge: Command) -> None:
    done = nixbridge("pack", "stages.py", "-o", "-", "--json", status=1)
    assert done.stdout == ""
    assert "-o FILE with --json" in done.stderr
