"""`report` and `ui`: a page in a file, and a page that is served and follows what runs."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.look.browsing import browsing, needs_browser
from tests.realize.running import wait_until

from .conftest import NIXBRIDGE, Command


def data_of(page: str) -> dict[str, Any]:
    """The JSON in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    value: dict[str, Any] = json.loads(found[1])
    return value


# ----------------------------------------------------------------------------------------- report


def test_a_report_is_one_file_with_everything_in_it(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py")
    assert nixbridge("report", "stages.py").stdout == "report.html\n"
    page = (project / "report.html").read_text()
    assert "src=" not in page.partition('id="data"')[0]
    assert "default-src 'none'" in page
    data = data_of(page)
    assert data == {**json.loads(nixbridge("report", "stages.py", "--json").stdout), "made": data["made"]}
    assert [one["label"] for one in data["stages"]] == ["words.txt", "clean", "train", "report"]
    assert len(data["realizations"]) == 5
    (best,) = [one for one in data["realizations"] if one["name"] == "train" and one["chosen"]]
    assert best["metrics"]["score"] == max(
        one["metrics"]["score"] for one in data["realizations"] if one["name"] == "train"
    )
    (file,) = data["details"][best["id"]]["outputs"][0]["files"]
    assert file["text"] == f"{best['metrics']['score']} 2"
    program = re.compile(r"<script>.*?</script>", re.DOTALL)
    printed = nixbridge("report", "stages.py", "-o", "-", PYTHONIOENCODING="latin-1").stdout
    assert program.findall(printed) == program.findall(page)


def test_a_report_of_what_was_never_realized_shows_what_is_missing(nixbridge: Command, project: Path) -> None:
    nixbridge("report", "stages.py", "-o", "r.html")
    states = {
        one["label"]: (one["state"], one["wanted"]) for one in data_of((project / "r.html").read_text())["stages"]
    }
    assert states == {
        "words.txt": ("source", 0),
        "clean": ("missing", 1),
        "train": ("missing", 3),
        "report": ("missing", 1),
    }


def test_old_results_are_reported_where_the_stage_file_is_broken(nixbridge: Command, project: Path) -> None:
    nixbridge("realize", "stages.py")
    (project / "stages.py").write_text("import nope_nope\n")
    done = nixbridge("report", "stages.py:train", "-o", "-")
    assert "the store answers" in done.stderr
    for named in ("train", data_of(done.stdout)["realizations"][1]["id"][:8]):
        names = {one["name"] for one in data_of(nixbridge("report", named, "-o", "-").stdout)["realizations"]}
        assert names == {"clean", "train"}
    assert len(data_of(nixbridge("report", "-o", "-").stdout)["realizations"]) == 5
    assert "nope_nope" in nixbridge("report", "stages.py", status=1).stderr
    assert "did you mean train?" in nixbridge("report", "trian", status=1).stderr
    assert not (project / "report.html").exists()


def test_a_damaged_record_is_named_and_the_others_are_shown(
    nixbridge: Command, project: Path, environment: dict[str, str]
) -> None:
    nixbridge("realize", "stages.py")
    record = next(Path(environment["NIXBRIDGE_STORE"], "trace").glob("*-train.drv/*.json"))
    record.chmod(0o644)
    record.write_text(record.read_text()[:40])
    for target in (["train"], []):
        done = nixbridge("report", *target, "-o", "-")
        assert record.stem in done.stderr
        rows = data_of(done.stdout)["realizations"]
        assert len([one for one in rows if one["name"] == "train"]) == 2
    # What a plan would choose nobody can say then.
    assert "nixbridge verify" in nixbridge("report", "stages.py", status=1).stderr


def test_a_report_that_can_not_be_written_leaves_nothing(nixbridge: Command, project: Path) -> None:
    (project / "folder").mkdir()
    assert "can not be written" in nixbridge("report", "stages.py", "-o", "folder", status=1).stderr
    assert "can not be written" in nixbridge("report", "-o", "nowhere/r.html", status=1).stderr
    assert sorted(one.name for one in project.iterdir()) == ["folder", "stages.py", "words.txt"]


# --------------------------------------------------------------------------------------------- ui


@contextlib.contextmanager
def serving(project: Path, environment: dict[str, str], *arguments: str) -> Iterator[str]:
    """The address that a running `nixbridge ui` prints."""
    with subprocess.Popen(
        [NIXBRIDGE, "ui", *arguments], cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline().decode().strip()
            assert line, process.stderr.read().decode()
            yield line
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
            assert b"Traceback" not in process.stderr.read()


def ask(url: str, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of an answer."""
    link = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port, timeout=20)
    try:
        link.request(method, path, headers=headers)
        answer = link.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read().decode()
    finally:
        link.close()


@pytest.fixture
def realized(nixbridge: Command, project: Path, environment: dict[str, str]) -> None:
    nixbridge("realize", "stages.py")


@pytest.mark.usefixtures("realized")
def test_nobody_without_the_token_is_shown_anything(project: Path, environment: dict[str, str]) -> None:
    with serving(project, environment, "stages.py") as url:
        address = urlsplit(url)
        token = address.query.removeprefix("token=")
        assert len(token) >= 40
        for path in (
            "/",
            "/events",
            "/details/x",
            f"/?token={token[:-1]}x",
            "/?token=",
            "/?token=%ff",
            "/x?token=" + token,
        ):
            status, _, text = ask(url, path)
            assert status == 403, path
            assert "train" not in text
        for cookie in ("", f"nixbridge-{address.port}={token[:-1]}", "nixbridge-1=" + token, "=;;;", "a" * 1000):
            assert ask(url, "/", Cookie=cookie)[0] == 403
        status, headers, _ = ask(url, f"/?token={token}")
        assert (status, headers["Location"]) == (303, "/")
        assert "HttpOnly" in headers["Set-Cookie"]
        cookie = headers["Set-Cookie"].partition(";")[0]
        status, headers, text = ask(url, "/", Cookie=cookie)
        assert status == 200
        assert headers["Cache-Control"] == "no-store"
        assert token not in text
        # A site whose name was made to lead here has this server's cookie not, but might have its token.
        for host in ("evil.example", f"evil.example:{address.port}", "127.0.0.1", f"127.0.0.1:{address.port}.evil"):
            assert ask(url, f"/?token={token}", Host=host)[0] == 421
            assert ask(url, "/", Cookie=cookie, Host=host)[0] == 421
        assert ask(url, "/", Cookie=cookie, Host=f"localhost:{address.port}")[0] == 200
        one = data_of(text)["realizations"][-1]["id"]
        assert "outputs" in json.loads(ask(url, f"/details/{one}", Cookie=cookie)[2])
        for path in ("/details/nope", "/details/../../etc/passwd", "/etc/passwd", "/running/..", "*"):
            assert ask(url, path, Cookie=cookie)[0] in (400, 404), path
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(url, "/", method, Cookie=cookie)[0] == 501
        assert ask(url, "/", "HEAD", Cookie=cookie)[2] == ""


@pytest.mark.usefixtures("realized")
def test_it_listens_to_this_machine_only(project: Path, environment: dict[str, str]) -> None:
    with serving(project, environment) as url:
        port = f":{urlsplit(url).port:04X}"
        listening = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        listening += [line.split()[1:4] for line in Path("/proc/net/tcp6").read_text().splitlines()[1:]]
        assert [local for local, _, state in listening if local.endswith(port) and state == "0A"] == ["0100007F" + port]


def test_what_can_not_be_shown_is_said_at_once(nixbridge: Command, project: Path) -> None:
    assert "hint:" in nixbridge("ui", "trian", status=1).stderr
    (project / "stages.py").write_text("import nope_nope\n")
    assert "nope_nope" in nixbridge("ui", "stages.py", status=1).stderr


@pytest.mark.usefixtures("realized")
def test_a_browser_is_sent_there_without_a_word_of_the_token_in_its_arguments(
    project: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncat "${{1#file://}}" > {tmp_path}/page\n')
    program.chmod(0o755)
    with serving(project, {**environment, "BROWSER": f"{program} %s"}, "--open") as url:
        wait_until((tmp_path / "page").exists)
        wait_until(lambda: url in (tmp_path / "page").read_text())
        given = (tmp_path / "arguments").read_text().strip()
        assert url.partition("token=")[2] not in given
        file = Path(given.removeprefix("file://"))
        assert file.parent.stat().st_mode & 0o077 == 0
    assert not file.exists()


GATED = """
import time
from pathlib import Path
from bridge import out, stage

@stage
def slow(run, gate={gate!r}, page=out("page.txt")):
    print("waiting for the gate", flush=True)
    while not Path(gate).exists():
        time.sleep(0.02)
    page.write_text("done")
    run.log(waited=1.5)

@stage
def after(page=slow.page, last=out("last.txt")):
    last.write_text("after")
"""


@needs_browser
@pytest.mark.parametrize("shown", ["stages.py", None])
def test_a_stage_that_runs_turns_done_before_ones_eyes(
    project: Path, environment: dict[str, str], tmp_path: Path, shown: str | None
) -> None:
    gate = tmp_path / "gate"
    (project / "stages.py").write_text(GATED.format(gate=str(gate)))
    with serving(project, environment, *([shown] if shown else [])) as url, browsing() as browser:
        browser.open(url)
        assert "token" not in browser.driver.current_url
        if shown:
            assert (browser.state("slow"), browser.state("after")) == ("missing", "missing")
        command = [NIXBRIDGE, "realize", "stages.py"]
        with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.PIPE) as process:
            try:
                browser.wait(lambda: browser.texts("#counts [data-state=running]") == ["1 running"])
                assert browser.state("slow") == "running"
                browser.select("slow")
                browser.wait(lambda: "waiting for the gate" in browser.text("#live"))
                assert str(process.pid) in browser.text("#live")
                assert browser.all("#table tbody tr[data-id]") == []
            finally:
                gate.touch()
            browser.wait(lambda: browser.texts("#counts [data-state=done]") == ["2 done"])
            assert (browser.state("slow"), browser.state("after")) == ("done", "done")
            assert process.wait(20) == 0
        assert browser.column("waited") == ["1.5"]
        assert not browser.one("#live").is_displayed()
        (identity,) = browser.column("id")
        browser.one(f'tr[data-id="{identity}"]').click()
        assert "waiting for the gate" in browser.opened(identity)
        # A note that somebody writes, and a realization that is taken away, are seen as well.
        subprocess.run([NIXBRIDGE, "note", identity, "a good one"], cwd=project, env=environment, check=True)
        browser.wait(lambda: "a good one" in browser.text("#table"))
        assert browser.said() == []


@needs_browser
def test_a_run_that_fails_turns_failed(project: Path, environment: dict[str, str], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    text = GATED.format(gate=str(gate)).replace('page.write_text("done")', 'raise ValueError("no")')
    (project / "stages.py").write_text(text)
    with serving(project, environment, "stages.py") as url, browsing() as browser:
        browser.open(url)
        command = [NIXBRIDGE, "realize", "stages.py"]
        with subprocess.Popen(command, cwd=project, env=environment, stderr=subprocess.DEVNULL) as process:
            browser.wait(lambda: browser.state("slow") == "running")
            os.close(os.open(gate, os.O_CREAT))
            browser.wait(lambda: browser.state("slow") == "failed")
            assert process.wait(20) == 1
        browser.select("slow")
        assert "the last run ended without a result" in browser.text("#stage-facts")
        assert browser.state("after") == "missing"
