"""The command line of a single task: `python module.py …`, in processes of its own."""

import json
import os
import pty
import re
import signal
import subprocess
import sys

import duckdb
import pytest
from runs import DEADLINE_S, wait_until
from single_task import LINE, TRANSCRIBE, task

HELLO = """
from pathlib import Path

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


class HelloWorld(LocalTask):
    @staticmethod
    def setup(context: SetupContext):
        context.greeting = "Hello"
        print("Setup executed successfully!")

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path):
        with open(input_file, "r") as f:
            content = f.read()

        new_content = context.greeting + ", " + content.upper()

        with open(output_file, "w") as f:
            f.write(new_content)

    @staticmethod
    def teardown(context: SetupContext):
        print("Teardown executed successfully!")


HelloWorld.cli()
"""

UPPER = """
from tigerflow.tasks import LocalTask


class Upper(LocalTask):
    @staticmethod
    def setup(context):
        context.common_data = "Common Data from Setup"
        print("Setup executed successfully!")

    @staticmethod
    def run(context, input_file, output_file):
        with open(input_file, "r") as fi:
            content = fi.read()

        new_content = context.common_data + "\\n" + content.upper()

        with open(output_file, "w") as fo:
            fo.write(new_content)

    @staticmethod
    def teardown(context):
        print("Teardown executed successfully!")


Upper.cli()
"""

GREET = """
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


class Greet(LocalTask):
    class Params:
        greeting: Annotated[
            str,
            typer.Option(help="Greeting to prepend"),
        ] = "Hello"
        uppercase: Annotated[
            bool,
            typer.Option("--uppercase", help="Convert to uppercase"),
        ] = False

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path):
        with open(input_file) as f:
            content = f.read()

        if context.uppercase:
            content = content.upper()

        result = f"{context.greeting}, {content}"

        with open(output_file, "w") as f:
            f.write(result)


Greet.cli()
"""

# As in the seed, apart from the address, which is that of the test's own server.
EMBED = """
import asyncio
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalAsyncTask
from tigerflow.utils import SetupContext


class Embed(LocalAsyncTask):
    class Params:
        model: Annotated[
            str,
            typer.Option(help="Embedding model name"),
        ] = "voyage-3.5"

    @staticmethod
    async def setup(context: SetupContext):
        import os

        import aiohttp

        context.url = os.environ["EMBEDDING_URL"]
        context.headers = {
            "Authorization": f"Bearer {os.environ['VOYAGE_API_KEY']}",
            "Content-Type": "application/json",
        }
        context.session = aiohttp.ClientSession()
        print("Session created successfully!")

    @staticmethod
    async def run(context: SetupContext, input_file: Path, output_file: Path):
        import aiofiles

        async with aiofiles.open(input_file, "r") as f:
            text = await f.read()

        async with context.session.post(
            context.url,
            headers=context.headers,
            json={
                "input": text.strip(),
                "model": context.model,
                "input_type": "document",
            },
        ) as resp:
            resp.raise_for_status()  # Raise error if unsuccessful
            result = await resp.text()  # Raw JSON
            await asyncio.sleep(1)  # For API rate limit

        async with aiofiles.open(output_file, "w") as f:
            await f.write(result)

    @staticmethod
    async def teardown(context: SetupContext):
        await context.session.close()
        print("Session closed successfully!")


Embed.cli()
"""

INGEST = '''
import json
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


class Ingest(LocalTask):
    class Params:
        db_path: Annotated[
            Path,
            typer.Option(help="Path to the DuckDB database file"),
        ]

    @staticmethod
    def setup(context: SetupContext):
        import duckdb

        conn = duckdb.connect(str(context.db_path))  # Creates file if not existing
        print(f"Successfully connected to {context.db_path}")

        conn.execute("""
            CREATE TABLE IF NOT EXISTS embeddings (
                id UBIGINT,
                embedding FLOAT[1024],
                created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
            );
        """)

        context.conn = conn

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path):
        with open(input_file, "r") as f:
            content = json.load(f)

        embedding = content["data"][0]["embedding"]

        context.conn.execute(
            "INSERT INTO embeddings (id, embedding) VALUES (?, ?)",
            (input_file.stem, embedding),
        )

    @staticmethod
    def teardown(context: SetupContext):
        context.conn.close()
        print("DB connection closed")


Ingest.cli()
'''

# The seeds' examples


@pytest.mark.parametrize(
    ("code", "output"),
    [
        (HELLO, "Hello, TEXT 1"),
        (UPPER, "Common Data from Setup\nTEXT 1"),
    ],
    ids=["hello", "upper"],
)
def test_the_first_example_says_what_the_documents_show(bench, code, output):
    bench.give(**{"1": "text 1", "2": "text 2"})

    service = bench.start(code, output_ext=".txt")
    service.wait_for("Successfully processed: 2.txt")
    code = service.stop(signal.SIGINT)

    assert code == 130
    assert service.messages() == [
        "INFO Setting up task",
        "INFO Task setup complete",
        "INFO Starting processing: 1.txt",
        "INFO Successfully processed: 1.txt",
        "INFO Starting processing: 2.txt",
        "INFO Successfully processed: 2.txt",
        "WARNING Received signal 2, initiating shutdown",
        "INFO Shutting down task",
        "INFO Task shutdown complete",
    ]
    assert service.out == (
        "Setup executed successfully!\nTeardown executed successfully!\n"
    )
    assert (bench.outputs / "1.txt").read_text() == output
    assert bench.results() == ["1.txt", "2.txt"]


def test_greet_takes_its_parameters(bench):
    bench.give(a="you")

    service = bench.once(GREET, "--greeting", "Hi there", "--uppercase")

    assert service.end() == 0
    assert (bench.outputs / "a.out").read_text() == "Hi there, YOU"


EMBEDDING_SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        bad = asked["input"] == "bad"
        answer = {"data": [{"embedding": [len(asked["input"])] * 1024}],
                  "model": asked["model"], "key": self.headers["Authorization"]}
        body = json.dumps(answer).encode()
        self.send_response(400 if bad else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


def test_embed_and_ingest_pass_embeddings_on_to_a_database(bench):
    command = [sys.executable, "-c", EMBEDDING_SERVER]
    server = subprocess.Popen(command, stdout=subprocess.PIPE)
    port = int(server.stdout.readline())
    bench.environment |= {
        "EMBEDDING_URL": f"http://127.0.0.1:{port}",
        "VOYAGE_API_KEY": "secret",
    }
    bench.give(**{str(number): "x" * number for number in range(10, 20)}, bad="bad")

    try:
        embed = bench.once(
            EMBED, "--concurrency-limit=30", "--model=voyage-4-lite", output_ext=".json"
        )
    finally:
        server.kill()
        server.communicate()
    database = bench.path / "results.db"
    ingest = bench.once(
        INGEST, "--db-path", str(database), input_dir="out", input_ext=".json"
    )

    assert (embed.end(), ingest.end()) == (1, 0)
    assert bench.error("bad")["exception_type"] == "ClientResponseError"
    answer = json.loads((bench.outputs / "12.json").read_text())
    assert (answer["model"], answer["key"]) == ("voyage-4-lite", "Bearer secret")
    assert (bench.outputs / "12.out").read_bytes() == b""
    with duckdb.connect(str(database)) as connection:
        rows = connection.execute(
            "SELECT id, embedding[1] FROM embeddings ORDER BY id"
        ).fetchall()
    assert rows == [(number, float(number)) for number in range(10, 20)]
    assert ingest.out == (
        f"Successfully connected to {database}\nDB connection closed\n"
    )


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        (HELLO, ["Task name [default: HelloWorld]"]),
        (GREET, ["Greeting to prepend [default: Hello]", "Convert to uppercase"]),
        (INGEST, ["--db-path", "Path to the DuckDB database file"]),
        (
            EMBED,
            [
                "--concurrency-limit",
                (
                    "Maximum number of coroutines that may run concurrently at any "
                    "given time (excess coroutines are queued until capacity becomes "
                    "available) [required]"
                ),
                "Embedding model name [default: voyage-3.5]",
            ],
        ),
        (
            TRANSCRIBE,
            [
                "--max-workers",
                "Max number of workers for autoscaling [required]",
                "Number of CPUs per worker [required]",
                "Memory per worker [required]",
                "Wall time per worker [required]",
                "Number of GPUs per worker",
                "Additional Slurm option for workers (repeatable)",
                "Shell command to run before the task starts (repeatable)",
                "Shell commands to run before the task starts",
                "Directory of a Snakemake profile",
                "Path to the Whisper model file",
                "Task name [default: Transcribe]",
            ],
        ),
    ],
    ids=["hello", "greet", "ingest", "embed", "transcribe"],
)
def test_help_lists_the_options_of_the_documents_in_their_words(bench, code, texts):
    bench.module.write_text(code)

    done = subprocess.run(
        [sys.executable, bench.module, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=bench.environment | {"COLUMNS": "200"},
    )

    shown = " ".join(re.sub(r"[│╭╮╰╯─*]", " ", done.stdout).split())
    for text in (
        "Usage: my task.py [OPTIONS]",
        "Run the task as a CLI application",
        "Input directory to read data [required]",
        "Input file extension [required]",
        "Output directory to store results [required]",
        "Output file extension [required]",
        "Show this message and exit.",
        *texts,
    ):
        assert text in shown


def test_the_built_in_task_runs_as_a_module(bench):
    bench.give(a="text")
    words = bench.words("--once", "--prefix", ">>> ", "--uppercase")

    done = subprocess.run(
        [sys.executable, "-m", "tigerflow.library.echo", *words[2:]],
        cwd=bench.path,
        env=bench.environment,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 0
    assert (bench.outputs / "a.out").read_text() == ">>> TEXT"


# What it says


def test_the_log_is_on_stderr_and_prints_are_on_stdout(bench):
    bench.give(good="1", bad="x")
    code = task(run="print('seen', input_file.name); int(input_file.read_text())")

    service = bench.once(code)

    assert service.out == "seen bad.txt\nseen good.txt\ntorn down\n"
    assert all(LINE.fullmatch(line) for line in service.log.splitlines()), service.log
    metrics = [
        json.loads(line[33:]) for line in service.log.splitlines() if "METRICS" in line
    ]
    assert [(each["file"], each["status"]) for each in metrics] == [
        ("bad.txt", "error"),
        ("good.txt", "success"),
    ]
    assert all(each["started_at"] <= each["finished_at"] for each in metrics)
    assert "ERROR    | Failed processing: bad.txt" in service.log
    assert bench.error("bad")["printed"] == "seen bad.txt\n"


def read_terminal(leader):
    """Read all that was written to a terminal until nobody has it open."""
    said = b""
    while True:
        try:
            said += os.read(leader, 4096)
        except OSError:
            return said.decode()


def test_a_terminal_shows_colours_and_progress_and_no_metrics(bench):
    bench.give(**{str(number): "text" for number in range(30)}, bad="bad")
    bench.module.write_text(task(run="assert input_file.read_text() != 'bad'"))
    leader, follower = pty.openpty()

    process = subprocess.Popen(
        bench.words("--once"), cwd=bench.path, stdout=follower, stderr=follower
    )
    os.close(follower)
    said = read_terminal(leader)
    os.close(leader)

    assert process.wait(DEADLINE_S) == 1
    assert "METRICS" not in said
    assert "\x1b[1mINFO    \x1b[0m | Task setup complete" in said
    assert "30 done, 1 failed, 0 in progress, 0 waiting" in said
    last_progress = said.rindex("waiting")
    assert "\r\x1b[K" in said[last_progress:]


def test_a_closed_standard_output_does_no_harm(bench):
    bench.give(a="text")
    bench.module.write_text(task(run="print('text')"))

    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *bench.words("--once")],
        cwd=bench.path,
        check=False,
    )

    assert done.returncode == 0
    assert bench.results() == ["a.out"]


def test_unread_prints_do_no_harm(bench):
    bench.give(a="text", b="text")
    del bench.environment["PYTHONUNBUFFERED"]
    bench.module.write_text(task(run="print('text' * 10_000, flush=True)"))
    process = subprocess.Popen(
        bench.words("--once"),
        cwd=bench.path,
        env=bench.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    process.stdout.close()

    assert process.wait(DEADLINE_S) == 0
    assert bench.results() == ["a.out", "b.out"]


def take_terminal():
    os.setsid()
    os.close(os.open(os.ttyname(0), os.O_RDWR))


def test_closing_the_terminal_lets_the_file_in_progress_finish(bench):
    bench.give(a="text")
    bench.module.write_text(
        task(run="(here / 'begun').touch(); wait_for('go'); print('done')")
    )
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        bench.words(),
        cwd=bench.path,
        stdout=follower,
        stderr=follower,
        stdin=follower,
        # Its controlling terminal is what sends a hang-up.
        preexec_fn=take_terminal,  # noqa: PLW1509 -- no threads here
    )
    os.close(follower)
    wait_until((bench.path / "begun").exists)

    os.close(leader)
    (bench.path / "go").touch()

    assert process.wait(DEADLINE_S) == 128 + signal.SIGHUP
    assert bench.results() == ["a.out"]


# Arrival


def test_files_that_arrive_later_are_processed(bench):
    service = bench.start(task(run="output_file.write_text(input_file.read_text())"))
    service.wait_for("Task setup complete")

    bench.give(a="late")
    wait_until((bench.outputs / "a.out").exists)

    assert (bench.outputs / "a.out").read_text() == "late"
    assert service.stop() == 143


def test_a_changed_input_is_processed_again_and_a_finished_one_is_not(bench):
    copy = task(run="output_file.write_text(input_file.read_text())")
    bench.give(a="old", b="old")
    bench.once(copy)
    bench.give(a="new")

    service = bench.once(copy)

    assert "INFO Starting processing: a.txt" in service.messages()
    assert "INFO Starting processing: b.txt" not in service.messages()
    assert (bench.outputs / "a.out").read_text() == "new"


def test_an_input_that_changes_during_its_run_is_processed_again(bench):
    bench.give(a="old")
    service = bench.start(
        task(
            run="""
            text = input_file.read_text()
            if text == 'old':
                (here / 'begun').touch()
                wait_for('go')
            output_file.write_text(text)
            """
        )
    )
    wait_until((bench.path / "begun").exists)

    bench.give(a="new")
    (bench.path / "go").touch()
    wait_until(lambda: service.log.count("Successfully processed: a.txt") == 2)

    assert (bench.outputs / "a.out").read_text() == "new"
    assert service.stop() == 143


def test_a_change_during_the_last_run_before_a_stop_is_seen_at_the_next_start(bench):
    copy = task(
        run="""
        text = input_file.read_text()
        (here / 'begun').touch()
        wait_for('go')
        output_file.write_text(text)
        """
    )
    bench.give(a="old")
    service = bench.start(copy)
    wait_until((bench.path / "begun").exists)
    bench.give(a="new")
    service.process.send_signal(signal.SIGTERM)
    service.wait_for("Received signal")
    (bench.path / "go").touch()
    service.end()
    first = (bench.outputs / "a.out").read_text()

    bench.once(copy)

    assert (first, (bench.outputs / "a.out").read_text()) == ("old", "new")


def test_setting_only_the_times_of_an_input_back_does_not_process_it_again(bench):
    bench.give(a="text")
    # What shutil.copy2 does after it has closed the file.
    service = bench.start(task(run="os.utime(input_file, (1, 1))"))
    service.wait_for("Successfully processed: a.txt")
    bench.give(b="later")
    service.wait_for("Successfully processed: b.txt")

    assert service.log.count("Starting processing: a.txt") == 1
    assert service.stop() == 143


def test_a_version_with_an_older_date_is_processed_while_running_and_after(bench):
    copy = task(run="output_file.write_text(input_file.read_text())")

    def replace(text, date_s):
        path = bench.path / "a.part"
        path.write_text(text)
        os.utime(path, (date_s, date_s))
        path.replace(bench.inputs / "a.txt")

    def has(text):
        return (bench.outputs / "a.out").read_text() == text

    replace("one", 10**9)
    service = bench.start(copy)
    service.wait_for("Successfully processed: a.txt")
    replace("two", 10**9 + 1)
    wait_until(lambda: has("two"), service.log)
    assert service.stop() == 143

    replace("ten", 10**9 - 1)
    assert bench.once(copy).end() == 0

    assert has("ten")


def test_programs_with_one_output_directory_have_errors_of_their_own(bench):
    bench.give(a="1", b="x")
    fails = task(run="int(input_file.read_text())")
    works = task(run="output_file.write_text('x')")

    first = bench.once(fails, output_ext=".one")
    second = bench.once(works, output_ext=".two")
    third = bench.once(fails, output_ext=".one")

    assert [each.end() for each in (first, second, third)] == [1, 0, 1]
    assert bench.results() == ["a.one", "a.two", "b.err", "b.two"]
    assert "Failed earlier" not in second.log
    assert "Failed earlier: 1 file" in third.log


def test_an_input_that_goes_while_it_waits_gets_no_error(bench):
    bench.give(a="text", b="text", c="text")
    service = bench.start(
        task(run="(here / 'begun').touch(); wait_for('go'); input_file.read_text()")
    )
    wait_until((bench.path / "begun").exists)

    (bench.inputs / "b.txt").unlink()
    (bench.path / "go").touch()
    service.wait_for("Successfully processed: c.txt")

    assert bench.results() == ["a.out", "c.out"]
    assert service.stop() == 143


def test_removing_an_error_makes_its_file_eligible_while_running(bench):
    bench.give(a="text")
    service = bench.start(task(run="assert (here / 'mended').exists(), 'broken'"))
    service.wait_for("Failed processing: a.txt")
    (bench.path / "mended").touch()

    (bench.outputs / "a.err").unlink()
    service.wait_for("Successfully processed: a.txt")

    assert bench.results() == ["a.out"]
    assert service.stop() == 143


def test_the_input_directory_may_go_and_come_back(bench):
    service = bench.start(task(run="output_file.write_text(input_file.read_text())"))
    service.wait_for("Task setup complete")

    bench.inputs.rmdir()
    service.wait_for("paused until this is fixed")
    bench.inputs.mkdir()
    bench.give(a="text")

    service.wait_for("Successfully processed: a.txt")
    assert service.stop() == 143
    assert service.messages()[2:4] == [
        (
            f"ERROR Cannot read input directory {str(bench.inputs)!r}: "
            "No such file or directory; paused until this is fixed"
        ),
        "INFO Inputs can be read again",
    ]


def test_a_task_may_change_the_current_directory(bench):
    bench.give(a="text")

    service = bench.once(task(setup="os.chdir('/')", run="input_file.read_text()"))

    assert service.end() == 0
    assert bench.results() == ["a.out"]
