"""What the documentation says is so: its pages can be followed, and its site builds."""

import importlib
import json
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from documents import DOCS, PROGRAMS, blocks, follow

ROOT = DOCS.parent
sys.path.append(str(DOCS / "reference"))
generate = importlib.import_module("generate")
PAGES = sorted(DOCS.rglob("*.md"))
README = ROOT / "README.md"
OTHERS = [README, ROOT / "config" / "README.md"]
WHISPER = """
class load_model:
    def __init__(self, name): self.name = name
    def transcribe(self, path):
        with open(path, encoding="utf-8") as file:
            return {"text": f"{self.name} heard {file.read()}"}
"""


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [PROGRAMS / "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={"PATH": str(PROGRAMS), "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert "WARNING" not in done.stdout
    # Readers behind a firewall, and those who read it from a disk.
    for page in (tmp_path / "site").rglob("*.html"):
        assert 'src="http' not in page.read_text(), page


@pytest.mark.parametrize("name", sorted(generate.pages()))
def test_reference_says_what_the_code_says(name: str) -> None:
    text = generate.pages()[name]

    assert (DOCS / "reference" / name).read_text() == text, (
        "run `python docs/reference/generate.py`"
    )
    assert "|  |\n" not in text, "something has no description"


@pytest.mark.snakemake
def test_tutorial_can_be_followed_with_nothing_but_its_text(tmp_path: Path) -> None:
    printed = follow(
        DOCS / "tutorial.md",
        tmp_path,
        instead={
            "'/path/to/tigerflow[report]'": shlex.quote(f"{ROOT}[report]"),
            # Not for the shells of who runs the tests.
            "tigerflow --install": "HOME=$PWD tigerflow --install",
        },
    )

    assert "completion installed in" in printed
    assert "pipeline.yaml: no problems found (2 tasks)\n" in printed
    assert "3 of 3 done" in printed
    assert "ValueError: the text has no words" in printed
    assert "5 of 5 done" in printed
    assert printed.endswith("tree. a in rests leopard a\n")
    assert "ValueError" in (tmp_path / "demo" / "report.html").read_text()


@pytest.mark.snakemake
def test_page_of_tasks_can_be_followed(tmp_path: Path) -> None:
    printed = follow(DOCS / "tasks.md", tmp_path)

    assert "HELLO WORLD!!!" in printed
    assert "some files failed" in printed
    assert "there is nothing to shout" in printed
    assert (tmp_path / "answers" / "a.txt").read_text().endswith("good question\n")
    assert (tmp_path / "labels" / "a.label").read_text() == "long"
    assert (tmp_path / "echoes" / "a.echo").read_text() == ">>> hello world\n"


@pytest.mark.snakemake
def test_page_of_pipelines_can_be_followed(tmp_path: Path) -> None:
    stand_in(tmp_path / "programs", "module", "conda")

    printed = follow(DOCS / "pipelines.md", tmp_path, path=tmp_path / "programs")

    assert (tmp_path / "results" / "count" / "a.count").read_text() == "3"
    assert (tmp_path / "staged" / "count" / "a.count").read_text() == "3"
    assert "did you mean 'local'?" in printed
    assert "exit code 2" in printed
    assert not (tmp_path / "other").exists()


@pytest.mark.snakemake
def test_page_of_arriving_files_can_be_followed(tmp_path: Path) -> None:
    write_pipeline(tmp_path, "inbox")

    printed = follow(DOCS / "watch.md", tmp_path)

    assert "Started (pid" in printed
    assert "Sent SIGTERM to pipeline" in printed


@pytest.mark.snakemake
def test_page_of_monitoring_can_be_followed(tmp_path: Path) -> None:
    write_pipeline(tmp_path, "texts")
    (tmp_path / "texts" / "b.txt").write_bytes(b"\xff\xff")
    command = ["watch", "--once", "pipeline.yaml", "texts", "results"]
    subprocess.run([PROGRAMS / "tigerflow", *command], cwd=tmp_path, check=False)

    printed = follow(DOCS / "monitoring.md", tmp_path)

    assert "UnicodeDecodeError" in printed
    assert '"errored": 1' in printed
    assert "1 file will be processed again at the next run" in printed


@pytest.mark.snakemake
def test_guide_from_dask_can_be_followed(tmp_path: Path) -> None:
    write_pipeline(tmp_path, "inbox")
    # What the other program leaves.
    kept = tmp_path / "results" / "count" / "old.count"
    kept.parent.mkdir(parents=True)
    (tmp_path / "inbox" / "old.txt").write_text("a b")
    kept.write_text("2, said the old one")

    follow(DOCS / "from-dask.md", tmp_path)

    assert kept.read_text() == "2, said the old one"
    assert (kept.parent / "a.count").read_text() == "3"


@pytest.mark.snakemake
def test_guide_from_snakemake_can_be_followed(
    tmp_path: Path,
) -> None:
    printed = follow(DOCS / "from-snakemake.md", tmp_path)

    assert (tmp_path / "by-hand" / "counts" / "a.count").read_text().strip() == "3"
    counts = {path.stem: path.read_text() for path in tmp_path.glob("results/count/*")}
    assert counts == {"a": "3", "b": "4", "c": "2", "d": "1"}
    assert "rule count:" in printed
    assert "digraph snakemake_dag" in printed


def test_benchmarks_named_on_the_page_exist(tmp_path: Path) -> None:
    """They take hours; here they only say what they are."""
    here = f"python {shlex.quote(str(ROOT))}/tests/"
    instead = {"python tests/": here, ".py ": ".py --help "}

    printed = follow(DOCS / "benchmarks.md", tmp_path, instead)

    scripts = [*(ROOT / "tests" / "benchmarks").glob("bench_*.py")]
    assert {line for line in printed.split() if line.startswith("bench_")} == {
        path.name for path in scripts
    }


@pytest.mark.snakemake
def test_task_and_pipeline_of_the_readme_run_as_they_are(tmp_path: Path) -> None:
    """With a stand-in for the model, which is a gigabyte."""
    shown = {block.language: block.text for block in reversed(blocks(README))}
    (tmp_path / "transcribe.py").write_text(shown["python"])
    (tmp_path / "pipeline.yaml").write_text(shown["yaml"])
    (tmp_path / "whisper.py").write_text(WHISPER)
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").write_text("two words")
    (tmp_path / "videos" / "b.mp4").write_bytes(b"\xff")
    command = "tigerflow watch pipeline.yaml videos results"
    assert f"\n{command} " in README.read_text()

    done = subprocess.run(
        [PROGRAMS / "tigerflow", *command.split()[1:], "--once"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    results = tmp_path / "results" / "transcribe"
    assert done.returncode == 1, done.stderr
    assert (results / "a.txt").read_text() == "medium heard two words"
    assert "UnicodeDecodeError" in (results / "b.err").read_text()


def test_links_of_the_readme_lead_somewhere() -> None:
    text = README.read_text()
    linked = {link for link in re.findall(r"\]\(([^)]+)\)", text) if ":" not in link}
    used = set(re.findall(r"\]\[([^\]]+)\]", text))

    assert {link for link in linked if not (ROOT / link).exists()} == set()
    assert used == set(re.findall(r"^\[([^\]]+)\]: https://", text, re.MULTILINE))


def test_pictures_of_the_readme_exist_and_are_small() -> None:
    pictures = DOCS / "pictures"
    shown = re.findall(r"docs/pictures/([\w.-]+)", README.read_text())
    sizes = {path.name: path.stat().st_size for path in pictures.glob("*.[ps][nv]g")}
    recorded = ET.parse(pictures / "watch.svg").getroot()

    assert sizes.keys() == set(shown)
    assert sizes.pop("watch.svg") < 60_000
    assert max(sizes.values()) < 200_000
    text = "".join(recorded.itertext()).replace("\xa0", " ")
    assert "$ tigerflow watch pipeline.yaml inbox results" in text


@pytest.mark.parametrize(
    "page", [*PAGES, *OTHERS], ids=lambda page: str(page.relative_to(ROOT))
)
def test_tigerflow_is_installed_from_a_checkout(page: Path) -> None:
    """What PyPI has by that name is the Dask-based one."""
    for block in blocks(page):
        if block.language == "bash":
            for line in re.findall("pip install.*tigerflow.*", block.text):
                assert "/path/to/tigerflow" in line, block.place


def test_every_page_with_commands_is_followed() -> None:
    with_commands = {
        page.name
        for page in PAGES
        if any(block.language == "bash" for block in blocks(page))
    }
    code = "".join(path.read_text() for path in Path(__file__).parent.glob("*docs*.py"))

    assert with_commands == set(re.findall(r'DOCS / "([\w-]+\.md)"', code))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_a_page_are_run_or_shown_on_purpose(page: Path) -> None:
    """Nothing that looks like a file or a command goes untested."""
    kinds = {block.language for block in blocks(page) if block.title is None}

    assert kinds <= {"bash", "text", "json", ""}, page
    for block in blocks(page):
        if block.language == "json":
            json.loads(block.text)


def write_pipeline(directory: Path, inputs: str) -> None:
    """Write the pipeline that a page has from another page, and one input."""
    for block in blocks(DOCS / "from-snakemake.md"):
        if block.title in {"count.py", "pipeline.yaml"}:
            (directory / block.title).write_text(block.text)
    (directory / inputs).mkdir()
    (directory / inputs / "a.txt").write_text("three short words")


def stand_in(directory: Path, *programs: str) -> None:
    """Make programs that a login node has, and that do nothing."""
    directory.mkdir()
    for program in programs:
        path = directory / program
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
