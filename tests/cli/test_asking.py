"""`ls`, `cat`, `tree`, `find`, `history`, `note`, `log`: asking about results, also where the stage file is broken."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

import bridge
from bridge.store.layout import Store

from .conftest import NIXBRIDGE, Command


@pytest.fixture
def realized(nixbridge: Command) -> dict[str, Any]:
    """One realization of train, after all of stages.py was realized."""
    nixbridge("realize", "stages.py")
    return next(one for one in json.loads(nixbridge("ls", "--json").stdout) if one["stage"] == "train")


def breaks(project: Path) -> None:
    (project / "stages.py").write_text("import nope_nope\n")


def test_a_stages_name_lists_its_realizations(nixbridge: Command, realized: dict[str, Any]) -> None:
    lines = nixbridge("ls", "train").stdout.splitlines()
    assert len(lines) == 1 + 3
    assert all(" train " in line for line in lines[1:])
    assert len(json.loads(nixbridge("ls", "train", "--json").stdout)) == 3
    assert "did you mean train?" in nixbridge("ls", "trian", status=1).stderr


def test_json_has_the_sizes_of_what_is_there(nixbridge: Command, realized: dict[str, Any], project: Path) -> None:
    for asked in (["ls"], ["ls", "train"], ["find"]):
        assert all(one["size"] > 0 for one in json.loads(nixbridge(*asked, "--json").stdout))
    breaks(project)
    assert all(one["size"] > 0 for one in json.loads(nixbridge("ls", "stages.py:train", "--json").stdout))


def test_files_of_a_realization_are_listed(nixbridge: Command, realized: dict[str, Any], project: Path) -> None:
    assert nixbridge("ls", realized["id"][:8]).stdout == "model.txt\n"
    [file] = json.loads(nixbridge("ls", realized["id"], "--json").stdout)
    assert file["type"] == "regular"
    assert file["path"] == f"{realized['outputs']['out']}/model.txt"
    length = len(nixbridge("cat", f"{realized['id']}/model.txt").stdout)
    assert file["size"] == length
    assert str(length) in nixbridge("ls", "-l", realized["id"]).stdout
    for way in (realized["outputs"]["out"], "train/", "stages.py:train/", "train^out/"):
        assert nixbridge("ls", way).stdout == "model.txt\n"
    assert "model.txt" in nixbridge("tree", "train").stdout
    assert [one["type"] for one in json.loads(nixbridge("tree", "train", "--json").stdout)] == ["directory", "regular"]


def test_a_link_to_a_result_is_as_good_as_its_id(nixbridge: Command, realized: dict[str, Any], project: Path) -> None:
    made = nixbridge("path", "stages.py:report").stdout.strip()
    (project / "result").symlink_to(made)
    page = (Path(made) / "page.txt").read_text()
    for way in ("result/page.txt", "./result/page.txt", f"{made}/page.txt", "report/page.txt"):
        assert nixbridge("cat", way).stdout == page
    assert nixbridge("cat", "stages.py:report/page.txt").stdout == page


def test_cat_gives_bytes_as_they_are(nixbridge: Command, project: Path, environment: dict[str, str]) -> None:
    (project / "raw.py").write_text(
        "from bridge import out, stage\n\n@stage\ndef raw(run, data=out('data')):\n"
        "    data.write_bytes(bytes(range(256)) * 9000)\n"
    )
    nixbridge("realize", "raw.py")
    done = subprocess.run([NIXBRIDGE, "cat", "raw/data"], cwd=project, env=environment, capture_output=True, check=True)
    assert done.stdout == bytes(range(256)) * 9000
    told = subprocess.run(
        f"{NIXBRIDGE} cat raw/data | head -c 3",
        shell=True,
        cwd=project,
        env=environment,
        capture_output=True,
        check=True,
    )
    assert (told.stdout, told.stderr) == (b"\0\1\2", b"")


def test_what_is_not_there_is_told_with_what_is(nixbridge: Command, realized: dict[str, Any]) -> None:
    assert "there is model.txt" in nixbridge("cat", "train/model.tx", status=1).stderr
    assert "write train^out" in nixbridge("ls", "train^dev/x", status=1).stderr
    assert "is a folder" in nixbridge("cat", "train/", status=1).stderr
    assert "leads upwards" in nixbridge("cat", "train/../x", status=1).stderr
    assert "is no folder" in nixbridge("cat", "train/model.txt/x", status=1).stderr
    typed = realized["id"][:5] + ("0" if realized["id"][5] != "0" else "1") + realized["id"][6:9]
    assert realized["id"][:9] in nixbridge("ls", typed, status=1).stderr


def test_an_ambiguous_id_is_told_with_all_that_begin_so(nixbridge: Command, realized: dict[str, Any]) -> None:
    ids = [one["id"] for one in json.loads(nixbridge("ls", "--json").stdout)]
    first = [one for one in ids if one[0] == "0"]
    if len(first) < 2:
        first = [one for one in ids if one[0] == "1"]
    done = nixbridge("log", first[0][0], status=1)
    assert all(one in done.stderr for one in first)
    assert "more of an id" in done.stderr


def test_hostile_names_and_links_do_no_harm(nixbridge: Command, project: Path) -> None:
    (project / "bad.py").write_text(
        "import os\nfrom bridge import out, stage\n\n@stage\ndef bad(run, d=out('d')):\n    d.mkdir()\n"
        "    (d / 'red\\x1b[31m\\nname').write_text('x')\n    (d / os.fsdecode(b'\\xff')).write_text('y')\n"
        "    (d / 'inside').symlink_to('red\\x1b[31m\\nname')\n    (d / 'passwd').symlink_to('/etc/passwd')\n"
        "    (d / 'up').symlink_to('../../other')\n    (d / 'gone').symlink_to('nothing')\n"
        "    (d / 'loop').symlink_to('loop')\n"
    )
    nixbridge("realize", "bad.py")
    told = nixbridge("ls", "-l", "bad/d").stdout
    assert "\x1b" not in told
    assert "red\\x1b[31m\\nname" in told
    assert "\\xff" in told
    assert "passwd -> /etc/passwd (leads out of the object)" in told
    assert "up -> ../../other (leads out of the object)" in told
    assert "\x1b" not in nixbridge("tree", "bad").stdout
    files = {one["name"]: one for one in json.loads(nixbridge("ls", "bad/d", "--json").stdout)}
    assert files["passwd"]["leadsOut"] is True
    assert files["inside"]["leadsOut"] is False
    assert nixbridge("cat", "bad/d/inside").stdout == "x"
    assert "is a link out of the object, to '/etc/passwd'" in nixbridge("cat", "bad/d/passwd", status=1).stderr
    assert "which is not there" in nixbridge("cat", "bad/d/gone", status=1).stderr
    assert "leads to itself" in nixbridge("cat", "bad/d/loop", status=1).stderr


def test_find_asks_for_metrics_config_age_and_result(nixbridge: Command, realized: dict[str, Any]) -> None:
    def found(*arguments: str, status: int = 0) -> list[Any]:
        text = nixbridge("find", "--json", *arguments, status=status).stdout
        return [one["id"] for one in json.loads(text)]

    score, name = realized["metrics"]["score"], realized["id"]
    assert found("--where", f"score == {score!r} and config.scale == 2.0") == [name]
    assert len(found("--stage", "tr*")) == len(found("--where", "score >= 0", "--newer", "1h")) == 3
    assert len(found("--where", "stage in ('train', 'report')", "--result", "done")) == 4
    assert found("--older", "1d", status=1) == found("--result", "failed", status=1) == []
    scores = [one["metrics"]["score"] for one in json.loads(nixbridge("find", "--json", "--sort", "-score").stdout)[:3]]
    assert scores == sorted(scores, reverse=True)
    assert len(found("--sort", "score", "--limit", "1")) == 1
    assert nixbridge("find", "model*", "--stage", "train").stdout.splitlines().count(f"{name}/model.txt") == 1
    assert nixbridge("find", "*.none", status=1).stdout == ""


def test_a_limit_counts_the_files_that_were_found(nixbridge: Command, realized: dict[str, Any]) -> None:
    every = nixbridge("find", "model*").stdout.splitlines()
    assert len(every) == 3
    # The report is newer, and has no such file.
    assert nixbridge("find", "model*", "--limit", "2").stdout.splitlines() == every[1:]
    best = nixbridge("find", "--stage", "train", "--sort", "-score", "--limit", "1", "--json").stdout
    found = nixbridge("find", "model*", "--sort", "-score", "--limit", "1").stdout
    assert found == f"{json.loads(best)[0]['id']}/model.txt\n"


def test_a_wrong_question_is_told_where_it_is_wrong(nixbridge: Command, realized: dict[str, Any]) -> None:
    done = nixbridge("find", "--where", "scor > 0", status=1)
    assert "did you mean score?" in done.stderr
    # Those of the first stage are not all that there are.
    assert "did you mean config.scale?" in nixbridge("find", "--where", "config.scal > 0", status=1).stderr
    assert "did you mean metrics.score?" in nixbridge("find", "--where", "metrics['scor'] > 0", status=1).stderr
    for more in ("index == 0", "config.scale == 2.0", "metrics.score > 0", "stage == 'train'"):
        done = nixbridge("find", "--where", f"score > 1000 and {more}", "--stage", "train", status=1)
        assert (done.stdout, done.stderr) == ("", ""), more
    said = nixbridge("find", "--where", "score > 1000 and scor > 0", status=1).stderr
    assert "column 18 of the condition: no realization here has scor" in said
    done = nixbridge("find", "--where", "score > len(3)", status=1)
    assert "column 9 of the condition: a call is not allowed" in done.stderr
    assert "'2y' is no age" in nixbridge("find", "--newer", "2y", status=1).stderr
    assert "one of done, failed, partial" in nixbridge("find", "--result", "ok", status=1).stderr
    assert "did you mean score?" in nixbridge("history", "train", "--sort", "scor", status=1).stderr


def test_history_has_all_derivations_of_a_stage(nixbridge: Command, realized: dict[str, Any], project: Path) -> None:
    file = project / "stages.py"
    file.write_text(file.read_text().replace("scale=2.0", "scale=5.0"))
    nixbridge("realize", "stages.py")
    lines = json.loads(nixbridge("history", "train", "--json").stdout)
    assert [one["config"]["scale"] for one in lines] == [2.0] * 3 + [5.0] * 3
    assert sum(one["chosen"] for one in lines) == 2
    assert all(one["size"] > 0 for one in lines)
    shown = nixbridge("history", "train").stdout.splitlines()
    assert shown[0].split()[:5] == ["id", "#", "drv", "scale", "score"]
    assert len(shown) == 1 + 6
    chosen = [
        one["id"] for one in json.loads(nixbridge("history", "stages.py:train", "--json").stdout) if one["chosen"]
    ]
    assert len(chosen) == 1
    first = json.loads(nixbridge("history", "train", "--json", "--sort", "-score", "--limit", "1").stdout)
    assert first[0]["metrics"]["score"] == max(one["metrics"]["score"] for one in lines)
    only = json.loads(nixbridge("history", "train", "--json", "--where", "config.scale > 2").stdout)
    assert len(only) == 3


def test_history_is_drawn(nixbridge: Command, realized: dict[str, Any], project: Path) -> None:
    assert nixbridge("history", "train", "--plot", "plot.svg", "--over", "config.scale").stdout == "plot.svg\n"
    circles = ElementTree.parse(project / "plot.svg").iter("{http://www.w3.org/2000/svg}circle")
    assert len(list(circles)) == 3
    nixbridge("history", "train", "--plot", "plot.png")
    assert (project / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "neither .svg nor .png" in nixbridge("history", "train", "--plot", "plot.jpg", status=1).stderr
    told = nixbridge("history", "train", "--plot", "plot.svg", "--metric", "scor", status=1).stderr
    assert "did you mean score?" in told


def test_a_note_is_written_shown_and_removed(nixbridge: Command, realized: dict[str, Any]) -> None:
    name = realized["id"]
    assert "there is no note" in nixbridge("note", name, status=1).stderr
    nixbridge("note", name, "overfits\nbut fast")
    assert nixbridge("note", name[:9]).stdout == "overfits\nbut fast\n"
    assert "overfits" in nixbridge("ls").stdout
    assert "overfits" in nixbridge("history", "train").stdout
    nixbridge("note", name, "-", stdin="ünicode\n".encode())
    assert json.loads(nixbridge("note", name, "--json").stdout)["note"] == "ünicode"
    nixbridge("note", name, "--delete")
    nixbridge("note", name, status=1)
    assert "note" not in nixbridge("ls").stdout.splitlines()[0]


def test_an_empty_text_wipes_no_note(nixbridge: Command, realized: dict[str, Any]) -> None:
    nixbridge("note", realized["id"], "kept")
    for text in ("", " \n", "-"):
        assert "--delete" in nixbridge("note", realized["id"], text, status=1).stderr
    assert nixbridge("note", realized["id"]).stdout == "kept\n"


def test_the_store_answers_where_the_stage_file_is_broken(
    nixbridge: Command, realized: dict[str, Any], project: Path
) -> None:
    before = nixbridge("history", "train").stdout
    breaks(project)
    assert len(nixbridge("ls", "train").stdout.splitlines()) == 1 + 3
    done = nixbridge("ls", "stages.py:train")
    assert len(done.stdout.splitlines()) == 1 + 3
    assert "can not be loaded" in done.stderr
    assert "the store answers" in done.stderr
    assert len(nixbridge("history", "stages.py:train").stdout.splitlines()) == len(before.splitlines())
    assert nixbridge("cat", "stages.py:train/model.txt").stdout == nixbridge("cat", "train/model.txt").stdout
    assert nixbridge("log", "stages.py:train").stdout == nixbridge("log", "train").stdout == ""
    for way in (("ls", "stages.py"), ("ls", "stages.py:nope"), ("log", "stages.py"), ("history", "stages.py:nope")):
        assert "nope_nope" in nixbridge(*way, status=1).stderr


def test_a_newer_record_hides_no_other(nixbridge: Command, realized: dict[str, Any], tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    [file] = (store.trace / realized["drv"][11:]).glob(f"{realized['id']}.json")
    file.chmod(0o644)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"version": 7}))
    file.rename(file.with_name("0" * 16 + ".json"))
    done = nixbridge("ls", "train")
    assert len(done.stdout.splitlines()) == 1 + 2
    assert "is of version 7" in done.stderr
    assert "use a newer nixbridge" in done.stderr


def test_results_of_a_gone_object_are_said_to_be_gone(
    nixbridge: Command, realized: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "store" / "info" / f"{realized['outputs']['out'][11:]}.json").unlink()
    assert "is gone" in nixbridge("cat", f"{realized['id']}/model.txt", status=1).stderr
    assert nixbridge("history", "train").stdout.count("gone") == 1


def test_a_tag_is_as_good_as_an_id_wherever_one_asks(
    nixbridge: Command, realized: dict[str, Any], environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(nixbridge("ls", "train", "--json").stdout)
    one, other = found[0], found[1]
    nixbridge("tag", "paper.v1", one["id"])
    for command in (["ls"], ["tree"], ["log"], ["history"]):
        by_id = nixbridge(*command, one["id"], "--json").stdout
        assert nixbridge(*command, "paper.v1", "--json").stdout == by_id
    assert nixbridge("cat", "paper.v1/model.txt").stdout == nixbridge("cat", f"{one['id']}/model.txt").stdout
    assert nixbridge("diff", "paper.v1", one["id"], "--exit-code").stdout.count("\n") == 2
    said = json.loads(nixbridge("diff", "paper.v1", other["id"], "--json").stdout)
    assert (said["left"]["id"], said["right"]["id"]) == (one["id"], other["id"])
    assert len(json.loads(nixbridge("history", "paper.v1", "--json").stdout)) == len(found)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert bridge.walk("paper.v1").id == one["id"]
    nixbridge("tag", "json", one["id"])
    assert nixbridge("ls", "json").stdout == "model.txt\n"
    assert "did you mean train" in nixbridge("history", "trian", status=1).stderr
    nixbridge("rm", one["id"], "--force")
    assert "is no realization" in nixbridge("ls", "paper.v1", status=1).stderr
