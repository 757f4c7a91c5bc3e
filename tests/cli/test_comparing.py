"""`diff` and `why`."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import Command


def realized(nixbridge: Command) -> str:
    nixbridge("realize", "stages.py", "--builder", "local")
    return str(next(one["id"] for one in json.loads(nixbridge("ls", "--json").stdout) if one["stage"] == "report"))


def edit(project: Path, old: str, new: str) -> None:
    file = project / "stages.py"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def why(nixbridge: Command, target: str = "stages.py:report") -> str:
    return nixbridge("why", target, "--builder", "local").stdout


def test_why_says_what_was_never_realized_and_what_would_not_run(nixbridge: Command) -> None:
    assert "report would run: no stage named report has a realization" in why(nixbridge)
    identity = realized(nixbridge)
    assert why(nixbridge) == f"report would not run: only() takes {identity}\n"
    shown = json.loads(nixbridge("why", "stages.py:report", "--builder", "local", "--json").stdout)
    assert shown["runs"] is False
    assert shown["causes"] == []


def test_why_goes_down_to_the_code_that_changed(nixbridge: Command, project: Path) -> None:
    realized(nixbridge)
    edit(project, "random.random() * scale", "random.random() * scale + 1")
    said = why(nixbridge)
    assert "report would run" in said
    assert "cause: train" in said
    assert "+    return random.random() * scale + 1" in said
    edit(project, "scale + 1", "scale  # a comment changes nothing")
    assert "would not run" in why(nixbridge)


def test_why_goes_down_to_the_config_and_the_source_that_changed(nixbridge: Command, project: Path) -> None:
    realized(nixbridge)
    edit(project, "scale=2.0", "scale=3.0")
    shown = json.loads(nixbridge("why", "stages.py:report", "--builder", "local", "--json").stdout)
    assert shown["causes"] == ["train"]
    assert [one["reason"] for one in shown["stages"]] == ["input", "changed"]
    [change] = shown["stages"][1]["changes"]
    assert (change["key"], change["before"], change["after"]) == (["config", "scale"], "2.0", "3.0")
    edit(project, "scale=3.0", "scale=2.0")
    (project / "words.txt").write_text("two\none\nthree\n")
    said = why(nixbridge)
    assert "cause: clean" in said
    assert "its contents changed" in said
    assert "+three" in said


def test_why_counts_what_is_wanted_and_says_what_is_refused_or_gone(nixbridge: Command, project: Path) -> None:
    realized(nixbridge)
    edit(project, "realizations=3", "realizations=5")
    assert "train would run (2 realizations): 5 realizations are wanted, there are 3" in why(
        nixbridge, "stages.py:train"
    )
    edit(project, 'realizations=5, match=best("score")', 'realizations=3, match=best("loss")')
    assert "no realization of the stage train has the metric 'loss'" in why(nixbridge, "stages.py:train")
    edit(project, 'best("loss")', 'best("score")')
    page = Path(nixbridge("path", "stages.py:report", "--builder", "local").stdout.strip())
    page.chmod(0o755)
    (page / "page.txt").unlink()
    page.rmdir()
    assert "are gone" in why(nixbridge)


def test_diff_shows_context_and_outputs(nixbridge: Command, project: Path) -> None:
    before = realized(nixbridge)
    assert nixbridge("diff", before, before, "--exit-code").stdout.count("\n") == 2
    (project / "words.txt").write_text("two\none\nthree\n")
    nixbridge("realize", "stages.py", "--builder", "local")
    said = nixbridge("diff", before, "stages.py:report", "--exit-code", status=1).stdout
    assert "context clean" in said
    assert "diff a/page.txt b/page.txt" in said
    assert "\x1b" not in said
    assert "\x1b[31m-" in nixbridge("diff", before, "report", FORCE_COLOR="1").stdout
    assert "\x1b" not in nixbridge("diff", before, "report", FORCE_COLOR="1", NO_COLOR="1").stdout
    shown = json.loads(nixbridge("diff", before, "report", "--json").stdout)
    assert shown["left"]["id"] == before
    assert [one["stage"] for one in shown["context"]] == ["clean", "train"]
    assert shown["outputs"]["out"][0]["path"] == "page.txt"


def test_diff_works_where_the_stages_no_longer_import(nixbridge: Command, project: Path) -> None:
    realized(nixbridge)
    (project / "stages.py").write_text("import nothing_of_this_name\n")
    ids = [one["id"] for one in json.loads(nixbridge("ls", "--json").stdout) if one["stage"] == "train"]
    said = nixbridge("diff", ids[0], ids[1]).stdout
    assert "metric score" in said
    assert "diff a/model.txt b/model.txt" in said


def test_what_names_nothing_is_refused(nixbridge: Command) -> None:
    assert "there is no store" in nixbridge("diff", "a", "b", status=1).stderr
    realized(nixbridge)
    assert "did you mean report" in nixbridge("diff", "reprot", "train", status=1).stderr
    assert "defines no stage" in nixbridge("why", "stages.py:nope", status=1).stderr
    assert "no builder" in nixbridge("why", "stages.py", "--builder", "x", status=1).stderr
