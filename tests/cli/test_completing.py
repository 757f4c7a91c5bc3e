"""What a shell completes, asked as bash and zsh ask."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bridge.cli.completing import bash_words, stages_of

from .conftest import NIXBRIDGE, Command

STAGES = """
from elsewhere import helper
from bridge import shell as sh, source, stage
import bridge

words = source("words.txt")
clean = sh("sort $words > $out", words=words)
later = clean.options(builder="local")
settings = helper("no stage")
number = 3

@stage(realizations=2)
def train(run, data=clean):
    raise SystemExit("nothing here is run")

@bridge.stage
def report(run):
    helper()

def helper_of_ours():
    pass
"""


@pytest.fixture
def completed(nixbridge: Command, project: Path) -> Command:
    """What bash offers for the last of these words."""
    nixbridge("realize", "stages.py", "--builder", "local")
    nixbridge("tag", "good", "train")

    def complete(*words: str) -> list[str]:
        asked = {"COMP_WORDS": "\n".join(["nixbridge", *words]), "COMP_CWORD": str(len(words))}
        return nixbridge(_NIXBRIDGE_COMPLETE="complete_bash", **asked).stdout.split()

    return complete


def test_stages_tags_and_files_are_offered_where_a_reference_goes(completed: Command) -> None:
    assert completed("ls", "") == ["clean", "report", "train", "good", "stages.py"]
    assert completed("history", "tr") == ["train"]
    assert completed("diff", "good", "rep") == ["report"]
    assert completed("tag", "--delete", "g") == ["good"]
    assert completed("find", "--stage", "c") == ["clean"]
    assert completed("realize", "") == ["stages.py"]
    assert completed("realize", "--builder", "") == ["auto", "nix", "local"]


def test_bash_takes_a_target_apart_and_its_stages_are_offered_all_the_same(completed: Command) -> None:
    assert completed("realize", "stages.py", ":", "tr") == ["train"]
    assert completed("cat", "stages.py", ":") == ["clean", "report", "train", "words"]
    assert completed("realize", "stages.py", ":", "train", "--buil") == ["--builder", "--builders"]


def test_zsh_is_offered_whole_targets(nixbridge: Command) -> None:
    asked = {"_TYPER_COMPLETE_ARGS": "nixbridge why stages.py:t"}
    assert "stages.py\\\\:train" in nixbridge(_NIXBRIDGE_COMPLETE="complete_zsh", **asked).stdout


def test_a_store_that_is_not_there_offers_nothing_and_is_not_made(nixbridge: Command, tmp_path: Path) -> None:
    asked = {"COMP_WORDS": f"nixbridge\nls\n--store\n{tmp_path}/misspelt\ntr", "COMP_CWORD": "4"}
    assert nixbridge(_NIXBRIDGE_COMPLETE="complete_bash", **asked).stdout.split() == []
    assert not (tmp_path / "misspelt").exists()


def test_stages_are_read_from_the_text_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "stages.py").write_text(STAGES)
    assert list(stages_of(tmp_path / "stages.py")) == ["words", "clean", "later", "train", "report"]
    for broken in ("def (", "\0", "\udcff"):
        (tmp_path / "stages.py").write_bytes(broken.encode(errors="surrogateescape"))
        assert list(stages_of(tmp_path / "stages.py")) == []
    assert list(stages_of(tmp_path / "missing.py")) == []


def test_words_of_no_completion_are_left_alone() -> None:
    environ = {"COMP_WORDS": "a\nb.py\n:\nc", "COMP_CWORD": "3"}
    bash_words(environ)
    assert environ == {"COMP_WORDS": "a\nb.py\n:\nc", "COMP_CWORD": "3"}


def test_a_tag_with_a_colon_before_it_is_no_part_of_the_word_before() -> None:
    environ = {"COMP_WORDS": "nixbridge\nls\n:\ntr", "COMP_CWORD": "3", "_NIXBRIDGE_COMPLETE": "complete_bash"}
    bash_words(environ)
    assert environ["COMP_WORDS"] == "nixbridge\nls\n:\ntr"


def test_a_real_bash_completes(completed: Command, project: Path, environment: dict[str, str]) -> None:
    script = """
    source <(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION=1 nixbridge --show-completion bash)
    COMP_WORDS=(nixbridge ls stages.py : rep) COMP_CWORD=4
    _nixbridge_completion nixbridge
    echo "${COMPREPLY[@]}"
    """
    env = {**environment, "PATH": f"{NIXBRIDGE.parent}:{environment['PATH']}"}
    done = subprocess.run(["bash", "-c", script], cwd=project, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "report\n"
