"""A report and a journal's runs -> the text of a page."""

import json
import os
import random
import re
import resource
import sys
from html.parser import HTMLParser

import pytest
from journals import SPEECH, write_run

from tigerflow.errors import MissingLibraryError, NoRunError, ReportFileError
from tigerflow.report.page import charts
from tigerflow.report.page.publish import publish
from tigerflow.report.reading import read_report

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}{% x %}"
)


@pytest.fixture(autouse=True)
def _quick_library(monkeypatch):
    # To bundle the real one takes seconds; what it draws, a browser's tests see.
    monkeypatch.setattr(charts, "javascript", lambda program: program)


@pytest.fixture
def out(tmp_path):
    out = tmp_path / "results"
    write_run(out, 400, seed=11)
    return out


class Reader(HTMLParser):
    """What a browser would find in a page."""

    def __init__(self, page):
        super().__init__()
        self.tags = []
        self.texts = []
        self.charts = []
        self._open = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        while self._open and self._open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        tag, attrs = self._open[-1] if self._open else ("", {})
        if tag == "script" and attrs.get("type") == "application/json":
            self.charts.append(json.loads(data))
        elif tag not in {"script", "style"}:
            self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.texts))

    def tag(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


def page_of(out):
    target = out.parent / "report.html"
    publish(out, target)
    return target.read_text(encoding="utf-8")


def test_a_page_has_all_that_was_asked_of_a_report(out):
    report = read_report(out)

    found = Reader(page_of(out))

    heads = [
        "Pipeline",
        "Over time",
        "How long files took",
        "Slowest files",
        "Workers",
        "Failures",
        "Versions and parameters",
    ]
    assert [head for head in heads if head in found.text] == heads
    assert len(found.charts) == 3 + len(SPEECH)
    for task in report.tasks:
        assert f"{task.processed} done" in found.text
    assert "ValueError in transcribe" in found.text
    assert "segments = model.transcribe(str(input_file))" in found.text
    assert "beam-size = 5" in found.text
    for version in ("0.3.2", "3.11.7", "9.27.0", "login2", "node01"):
        assert version in found.text


def test_every_link_in_a_page_leads_to_a_place_in_it(out):
    found = Reader(page_of(out))

    ids = [attrs["id"] for _, attrs in found.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for link in found.tag("a"):
        assert link["href"].removeprefix("#") in ids


def test_a_page_asks_nothing_of_the_network(out):
    found = Reader(page_of(out))

    for _, attrs in found.tags:
        assert "src" not in attrs
        assert attrs.get("href", "#").startswith("#")
    assert not found.tag("link")
    (policy,) = [
        a["content"]
        for a in found.tag("meta")
        if "content" in a and "src" in a["content"]
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")


def test_a_page_is_the_same_each_time(out):
    assert page_of(out) == page_of(out)


def test_charts_hold_few_numbers_however_many_files(out, tmp_path):
    many = tmp_path / "many"
    write_run(many, 2000, seed=11)

    few, more = (len(page_of(directory)) for directory in (out, many))

    assert more < 1.5 * few


def test_a_task_that_cannot_run_is_marked_and_stands_first_among_the_failures(out):
    reason = "task 'embed' cannot run: its setup failed: </p>"
    event = {"event": "task_stopped", "at": "2026-11-22T06:00:00+00:00"}
    event |= {"task": "embed", "reason": reason}
    with (out / ".tigerflow" / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps(event) + "\n")

    text = Reader(page_of(out)).text

    assert text.count(", cannot run") == 1
    assert f" Failures embed stopped: {reason} ValueError in transcribe" in text


def test_a_page_without_failures_says_so_unless_a_task_cannot_run(tmp_path):
    out = tmp_path / "few"
    write_run(out, 3)
    none = " Failures None. "
    assert none in Reader(page_of(out)).text
    event = {"event": "task_stopped", "at": "x", "task": "embed", "reason": "because"}
    with (out / ".tigerflow" / "journal.jsonl").open("a") as journal:
        journal.write(json.dumps(event) + "\n")

    text = Reader(page_of(out)).text

    assert none not in text
    assert " Failures embed stopped: because" in text


# What comes from users


def test_no_name_message_or_param_can_get_out_of_its_place(out):
    state = out / ".tigerflow"
    journal = state / "journal.jsonl"
    lines = journal.read_text().splitlines()
    start = json.loads(lines[0])
    for key in ("host", "version", "python", "snakemake"):
        start[key] = HOSTILE
    for key in ("kinds", "modules", "versions"):
        start[key] = dict.fromkeys(start[key], HOSTILE)
    start["params"]["embed"] = {HOSTILE: HOSTILE}
    slow = {"event": "task_done", "at": start["at"], "task": "embed", "file": HOSTILE}
    slow |= {"started": start["at"], "seconds": 9e3, "worker": 1}
    ended = {"event": "worker", "at": start["at"], "task": "embed", "worker": 1}
    ended |= {"state": "ended", "note": HOSTILE}
    lines = [json.dumps(start), *lines[1:], json.dumps(slow), json.dumps(ended)]
    # A host's name stands in a chart.
    text = "\n".join(lines).replace('"node01"', json.dumps(HOSTILE))
    journal.write_text(text + "\n")
    error = dict.fromkeys(
        ("file", "timestamp", "exception_type", "message", "traceback"), HOSTILE
    )
    (out / "embed" / "clip_000001.npy").unlink()
    (out / "embed" / "clip_000001.err").write_text(json.dumps(error))

    page = page_of(out)

    found = Reader(page)
    scripts = found.tag("script")
    assert [attrs["type"] for attrs in scripts[:-1]] == ["application/json"] * 6
    assert scripts[-1] == {"type": "module"}
    assert not found.tag("img")
    assert "alert(1)" in found.text
    assert "{{ 7 * 7 }}{% x %}" in found.text
    assert "(hidden)" in found.text
    assert "s3cret" not in page


def test_params_left_at_their_default_are_shown_with_it(out):
    journal = out / ".tigerflow" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    start = json.loads(lines[0])
    start["params"]["language"] = {}
    start["defaults"] = {"language": {"top": "3", "api_token": "s3cret"}}
    journal.write_text("\n".join([json.dumps(start), *lines[1:]]) + "\n")

    page = page_of(out)

    found = Reader(page)
    assert "top = 3 (default)" in found.text
    assert "api_token = (hidden) (default)" in found.text
    assert "s3cret" not in page


def test_the_average_rate_leaves_out_time_without_files_to_process(out):
    journal = out / ".tigerflow" / "journal.jsonl"
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    before = Reader(page_of(out)).text
    # The service goes on for a day, and nothing arrives.
    lines[-1]["at"] = "2026-11-23T09:00:00+00:00"
    journal.write_text("\n".join(map(json.dumps, lines)) + "\n")

    after = Reader(page_of(out)).text

    [rate] = re.findall(r"[\d,.]+ files an? \w+ on average", before)
    assert f"{rate}; 1 d 4 h without files to process is not counted. Times" in after


def test_a_directory_may_have_any_name(tmp_path):
    out = tmp_path / "<i>\udcff'\"{{ x }}"
    write_run(out, 3)

    found = Reader(page_of(out))

    assert not found.tag("i") or "class" in found.tag("i")[0]
    assert "\\udcff" in found.text


# What is not all there


def test_without_a_journal_there_are_counts_and_failures(out):
    (out / ".tigerflow" / "journal.jsonl").unlink()

    found = Reader(page_of(out))

    assert found.charts == []
    assert "not by plain Snakemake" in found.text
    assert "400 files" in found.text
    assert "ValueError in transcribe" in found.text


def test_of_an_older_journal_there_is_all_but_the_workers(out):
    journal = out / ".tigerflow" / "journal.jsonl"
    kept = []
    for line in journal.read_text().splitlines():
        event = json.loads(line)
        for key in ("worker", "python", "snakemake", "kinds", "modules", "params"):
            event.pop(key, None)
        if event["event"] != "worker":
            kept.append(json.dumps(event))
    journal.write_text("\n".join(kept) + "\n")

    found = Reader(page_of(out))

    assert "The journal has no entries about workers." in found.text
    assert len(found.charts) == 2 + len(SPEECH)


def test_a_torn_journal_is_shown_as_far_as_it_goes(out):
    journal = out / ".tigerflow" / "journal.jsonl"
    data = journal.read_bytes()
    journal.write_bytes(data[40 : len(data) // 2] + b"\x00\xff\n" + data[-300:-7])

    found = Reader(page_of(out))

    assert "The journal has 4 lines that cannot be read; left out here." in found.text
    assert found.charts


def test_a_journal_of_a_newer_version_is_shown_as_far_as_it_is_known(out):
    journal = out / ".tigerflow" / "journal.jsonl"
    text = journal.read_text().replace('"version": "0.3.2"', '"version": "9.1"')
    journal.write_text(text + '{"event": "from the future", "at": "x"}\n')

    found = Reader(page_of(out))

    assert "TigerFlow 9.1 made this run, and this is" in found.text
    assert len(found.charts) == 3 + len(SPEECH)


def test_a_page_without_a_plan_is_made_of_the_journal(out):
    whole = Reader(page_of(out)).charts
    (out / ".tigerflow" / "pipeline.json").write_text("{")

    found = Reader(page_of(out))

    assert "pipeline.json' cannot be read: it is damaged" in found.text
    assert found.charts == whole


def test_no_journal_keeps_a_page_from_being_made(out):
    # Values of all kinds in the place of all others.
    print("seed", seed := 23)
    chance = random.Random(seed)
    journal = out / ".tigerflow" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    values = [None, True, -1, 1e308, 10**20, "", "\udcff\x00", [], ["a"], {}, {"a": []}]
    for _ in range(10):
        events = [json.loads(lines[0]), *map(json.loads, chance.sample(lines, 60))]
        for event in events:
            event[chance.choice([*event])] = chance.choice(values)
        journal.write_text("".join(json.dumps(event) + "\n" for event in events))

        assert page_of(out)


# Where it goes


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("there", "it is a directory; name a file in it"),
        ("gone/report.html", "No such file or directory"),
        ("file/report.html", "Not a directory"),
        ("n" * 300, "File name too long"),
    ],
)
def test_unwritable_target_is_reported(out, tmp_path, name, reason):
    (tmp_path / "there").mkdir()
    (tmp_path / "file").touch()
    target = tmp_path / name

    with pytest.raises(ReportFileError) as caught:
        publish(out, target)

    assert (
        str(caught.value)
        == f"The report cannot be written to {str(target)!r}: {reason}"
    )


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644])
def test_a_page_is_read_by_those_that_may_read_the_journal(out, tmp_path, mode):
    target = tmp_path / "report.html"
    (out / ".tigerflow" / "journal.jsonl").chmod(mode)
    before = os.umask(0o022)
    try:
        publish(out, target)
    finally:
        os.umask(before)

    assert target.stat().st_mode & 0o777 == mode


def test_a_page_takes_the_place_of_the_one_before_or_leaves_it(out, tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    with pytest.raises(NoRunError):
        publish(tmp_path, target)
    assert target.read_text() == "old"

    publish(out, target)

    assert target.read_text().startswith("<!doctype html>")
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".~")] == []


def test_a_disk_that_fills_up_leaves_the_page_before(out, tmp_path):
    target = tmp_path / "report.html"
    target.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        with pytest.raises(ReportFileError) as caught:
            publish(out, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert str(caught.value).endswith(": File too large")
    assert target.read_text() == "old"
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".~")] == []


def test_a_library_that_is_missing_is_named_with_what_installs_it(
    out, tmp_path, monkeypatch
):
    # As if it were not installed.
    monkeypatch.setitem(sys.modules, "tigerflow.report.page.render", None)

    with pytest.raises(MissingLibraryError) as caught:
        publish(out, tmp_path / "report.html")

    assert str(caught.value).endswith("to get it: pip install 'tigerflow[report]'")
    assert not (tmp_path / "report.html").exists()
