"""The examples run as their READMEs say, and come to the results they promise."""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from runs import DEADLINE_S, wait_until
from slurm.throwaway import Cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
PROGRAMS = Path(sys.executable).parent


@pytest.mark.snakemake
def test_words_demo_counts_every_text_and_explains_the_picture(tmp_path: Path) -> None:
    out = tmp_path / "the demo" / "results"

    demo = subprocess.run(
        ["sh", EXAMPLES / "words" / "demo.sh", out.parent, PROGRAMS],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    texts = {path.stem for path in (EXAMPLES / "words" / "texts").iterdir()} | {"late"}
    assert len(texts) > 20
    assert {path.stem for path in out.glob("count/*.json")} == texts - {"scan_0042"}
    assert [path.name for path in out.glob("count/*.err")] == ["scan_0042.err"]
    error = json.loads((out / "count" / "scan_0042.err").read_text())
    assert (error["task"], error["exception_type"]) == ("count", "UnicodeDecodeError")
    with duckdb.connect(str(out / "words.duckdb")) as connection:
        loaded = connection.execute("SELECT DISTINCT file FROM counts").fetchall()
        rows = "SELECT n FROM counts WHERE file = 'worker' AND word = 'there'"
        [(there,)] = connection.execute(rows).fetchall()
    assert {file for (file,) in loaded} == texts - {"scan_0042"}
    assert there == (EXAMPLES / "words/texts/worker.txt").read_text().count("there")
    assert "Staged 1 new file" in demo.stderr
    assert "23 of 24 done, 1 failed" in demo.stdout
    assert "the most frequent:" in demo.stdout


@pytest.fixture
def embedding_server() -> Iterator[str]:
    """Start the example's server on a free port; yield its address."""
    command = [sys.executable, EXAMPLES / "speech" / "embedding_server.py"]
    with subprocess.Popen(
        [*command, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield server.stdout.readline().removeprefix("Listening on ").strip()
        server.terminate()


@pytest.fixture
def speech(tmp_path: Path, embedding_server: str) -> Path:
    """Copy the example, with the address of a server that runs."""
    copy = tmp_path / "speech"
    shutil.copytree(EXAMPLES / "speech", copy)
    usual = "http://127.0.0.1:8765/v1/embeddings"
    for pipeline in copy.glob("*.yaml"):
        assert usual in pipeline.read_text()
        pipeline.write_text(pipeline.read_text().replace(usual, embedding_server))
    return copy


def read_embeddings(out: Path) -> dict[str, int]:
    """Return the length of each recording's vector."""
    with duckdb.connect(str(out / "embeddings.duckdb"), read_only=True) as connection:
        query = "SELECT id, len(embedding) FROM embeddings"
        return dict(connection.execute(query).fetchall())


@pytest.mark.snakemake
def test_speech_pipeline_turns_recordings_into_rows(tmp_path: Path, speech: Path):
    out = tmp_path / "out"
    subprocess.run(
        [
            *(PROGRAMS / "tigerflow", "compile", speech / "pipeline.yaml"),
            *(speech / "audio", out),
        ],
        check=True,
    )
    workflow = out / ".tigerflow" / "workflow"
    subprocess.run(
        [
            *(PROGRAMS / "snakemake", "-s", workflow / "Snakefile", "-c2"),
            *("--profile", workflow / "profiles" / "local"),
        ],
        check=True,
    )

    recordings = {path.stem for path in (speech / "audio").glob("*.wav")}
    assert len(recordings) == 12
    transcript = (out / "transcribe" / "vote_president.txt").read_text()
    assert "president" in transcript
    assert read_embeddings(out) == dict.fromkeys(recordings, 64)


@pytest.mark.snakemake
def test_speech_pipeline_takes_recordings_that_come_while_it_runs(
    tmp_path: Path,
    speech: Path,
):
    inbox, out = tmp_path / "inbox", tmp_path / "out"
    inbox.mkdir()
    first, *later = sorted((speech / "audio").glob("*.wav"))
    shutil.copy(first, inbox)
    words = ["watch", speech / "pipeline.yaml", inbox, out]
    with subprocess.Popen([PROGRAMS / "tigerflow", *words]) as service:
        markers = out / ".tigerflow" / "tasks" / "ingest"
        wait_until((markers / f"{first.stem}.out").exists, "the first is in")
        for path in later:
            shutil.copy(path, inbox)
        wait_until(lambda: len([*markers.glob("*.out")]) == 12, "all are in")
        service.terminate()
        assert service.wait(DEADLINE_S) == 128 + signal.SIGTERM

    # The database is closed, and may be opened.
    stems = {path.stem for path in (first, *later)}
    assert read_embeddings(out) == dict.fromkeys(stems, 64)
    assert sorted(path.stem for path in out.glob("embed/*.json")) == sorted(stems)
    assert not [*out.rglob("*.err")]


@pytest.mark.slurm
@pytest.mark.snakemake
def test_speech_pipeline_transcribes_on_a_cluster(
    tmp_path: Path, speech: Path, slurm: Cluster
):
    out = tmp_path / "out"
    words = ["watch", "--once", speech / "pipeline-slurm.yaml", speech / "audio", out]

    subprocess.run(
        [PROGRAMS / "tigerflow", *words],
        env=slurm.environment,
        check=True,
        timeout=2 * DEADLINE_S,
    )

    recordings = {path.stem for path in (speech / "audio").glob("*.wav")}
    assert read_embeddings(out) == dict.fromkeys(recordings, 64)
    assert not [*out.rglob("*.err")]
    said = (out / ".tigerflow" / "run.log").read_text()
    assert "[transcribe] Submitted task with Slurm job ID " in said
    assert "[transcribe] Status changed: INACTIVE -> PENDING (Reason: (None))" in said
    assert "-> INACTIVE (Reason: COMPLETED)" in said
    assert slurm.jobs() == []


@pytest.mark.slurm
@pytest.mark.snakemake
def test_speech_is_transcribed_on_a_cluster_by_one_command(
    tmp_path: Path, speech: Path, slurm: Cluster
):
    texts = tmp_path / "texts"
    texts.mkdir()
    options = ["--max-workers", "4", "--cpus", "1", "--memory", "1G"]
    directories = ["--input-dir", "audio", "--output-dir", texts]

    subprocess.run(
        [
            *(PROGRAMS / "python", "transcribe_slurm.py", "--once", *directories),
            *("--input-ext", ".wav", "--output-ext", ".txt", *options),
            *("--time", "00:30:00"),
        ],
        cwd=speech,
        env=slurm.environment,
        check=True,
        timeout=2 * DEADLINE_S,
    )

    assert len([*texts.glob("*.txt")]) == 12
    assert "president" in (texts / "vote_president.txt").read_text()
    assert slurm.jobs() == []
