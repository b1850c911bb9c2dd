import math
import random
import re
import shlex

import pytest
from snakemake_executor_plugin_slurm.submit_string import get_submit_command
from snakemake_executor_plugin_slurm.utils import set_gres_string
from snakemake_executor_plugin_slurm.validation import (
    get_forbidden_slurm_options,
    validate_slurm_extra,
)

from tigerflow.pipeline.amounts import parse_gpus, parse_memory_mb, parse_time_minutes
from tigerflow.pipeline.resources import slurm_resources
from tigerflow.pipeline.sbatch_options import SbatchOptions, parse_sbatch_options

TIME_FORMS = (
    "is not a positive time as MINUTES, MINUTES:SECONDS, HOURS:MINUTES:SECONDS, "
    "DAYS-HOURS, DAYS-HOURS:MINUTES or DAYS-HOURS:MINUTES:SECONDS"
)
MEMORY_FORMS = (
    "is not a positive number with an optional unit K, M, G or T, such as 512M or 16G"
)
GPU_FORMS = "is not a count, TYPE or TYPE:COUNT, such as 2 or a100:2"
SIGNALS = (
    "it would end a worker in the middle of a file; TIGERFLOW_WORKER_WALL_TIME_GRACE "
    "sets how long before its time limit a worker stops"
)
LEAVE_OUT_JOB_ID = "Snakemake waits for the job ID that sbatch prints, so leave it out"
REPLACED = "a worker whose node is lost is replaced by a new one, so leave it out"
ONE_TASK = "a worker is one task on one node, so leave it out"
NO_OPTION = "is not an sbatch option, such as --qos=long or -q long"
MUST_BE_FULL = "must be written in full, as"
TIMES = "use worker_resources.time instead"
ONE_BY_ONE = "TigerFlow submits each worker by itself, so use max_workers instead"
ENVIRONMENT = "jobs get the whole environment, so set variables in setup_commands"
GRES_FORMS = (
    "use worker_resources.gpus for GPUs, "
    "and one NAME, NAME:COUNT or NAME:TYPE:COUNT for the rest"
)


class Resources(dict):
    """Resources as a Snakemake job has them: a mapping with attributes."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(name) from error


class FakeJob:
    def __init__(self, resources, threads=4):
        self.resources = Resources(resources)
        self.threads = threads


def submitted_words(resources, threads=4):
    """Return the words that the shell hands to sbatch for a job of the plugin."""
    job = FakeJob(resources, threads)
    validate_slurm_extra(job)
    params = {
        "run_uuid": "uuid",
        "slurm_logfile": "job.log",
        "comment_str": "rule_x",
        "account": "",
        "partition": "",
        "workdir": "/out",
    }
    return shlex.split(get_submit_command(job, params) + set_gres_string(job))


def message_of(call, *args):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - callers compare all of it
        call(*args)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected_mb"),
    [
        ("16G", 16384),
        ("16g", 16384),
        ("12GB", 12288),
        ("12gb", 12288),
        ("12GiB", 12288),
        ("512 MB", 512),
        (" 512M ", 512),
        ("512", 512),
        (512, 512),
        ("1T", 1024 * 1024),
        ("1.5G", 1536),
        ("1024K", 1),
        ("1025K", 2),
        ("1K", 1),
        ("0.1M", 1),
        ("1.1G", 1127),
        ("999999999999T", 999999999999 * 1024**2),
    ],
)
def test_memory_is_read_as_slurm_reads_it(text, expected_mb):
    assert parse_memory_mb(text) == expected_mb


@pytest.mark.parametrize(
    "text",
    ["", "-1", -1, "G", "12X", "1,5G", "1e3", "12 G B", "12B", "1.G", "\uff11G", True],
)
def test_memory_is_refused_when_not_an_amount(text):
    assert message_of(parse_memory_mb, text) == f"memory {text!r} {MEMORY_FORMS}"


@pytest.mark.parametrize("text", ["0", 0, "0G", "0.0M", "000"])
def test_memory_of_zero_is_all_of_a_node(text):
    words = submitted_words(slurm_resources(1, text, 1))

    assert "--mem=0" in words
    assert "--mem" not in words


def test_worker_without_memory_asks_for_none():
    resources = slurm_resources(1, None, 1)

    # Not left out: Snakemake would have a default.
    assert resources["mem_mb"] == 0
    assert [word for word in submitted_words(resources) if "mem" in word] == []


def test_memory_is_asked_for_by_cpu():
    words = submitted_words(slurm_resources(4, None, 1, None, ["--mem-per-cpu 1.5G"]))

    assert words[words.index("--mem-per-cpu") + 1] == "1536"
    assert "--mem" not in words


def test_memory_is_asked_for_by_gpu():
    words = submitted_words(slurm_resources(4, None, 1, 1, ["--mem-per-gpu=8G"]))

    assert [word for word in words if "mem" in word] == ["--mem-per-gpu=8G"]


@pytest.mark.parametrize("option", ["--mem-per-cpu", "--mem-per-gpu"])
@pytest.mark.parametrize("memory", ["1G", 0])
def test_memory_is_refused_when_it_is_given_in_two_ways(option, memory):
    message = message_of(slurm_resources, 1, memory, 1, None, [f"{option}=1G"])

    both = f"sbatch option {option} and worker_resources.memory are both given"
    assert message == f"{both}, so keep one"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("0", "sbatch option --mem-per-cpu needs more than 0"),
        ("much", f"memory 'much' {MEMORY_FORMS}"),
    ],
)
def test_memory_per_cpu_is_refused_when_not_an_amount(value, expected):
    options = [f"--mem-per-cpu={value}"]

    assert message_of(parse_sbatch_options, options) == expected


def test_comment_is_a_resource():
    resources = slurm_resources(1, 1, 1, None, ["--comment='a b'"])

    assert resources == {"mem_mb": 1, "runtime": 1, "slurm_comment": "a b"}


@pytest.mark.parametrize(
    ("text", "expected_minutes"),
    [
        ("90", 90),
        (90, 90),
        (43200, 43200),
        (" 90 ", 90),
        ("90:00", 90),
        ("90:01", 91),
        ("0:01", 1),
        ("12:00:00", 720),
        ("02:00:00", 120),
        ("1:30:01", 91),
        ("00:00:59", 1),
        ("0:90:00", 90),
        ("1-0", 1440),
        ("0-1", 60),
        ("2-12", 3600),
        ("1-1:30", 1530),
        ("1-01:30:01", 1531),
        ("7-00:00:00", 10080),
    ],
)
def test_time_is_read_as_slurm_reads_it(text, expected_minutes):
    assert parse_time_minutes(text) == expected_minutes


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", 0, -5, "0:00", "0:0:0", "0-0", "0-0:0:0"),
        *(
            "-5",
            "2h",
            "1:2:3:4",
            "1-",
            "-1:00",
            "1-2-3",
            "1.5",
            "1:",
            ":1",
            "1-2:3:4:5",
        ),
        *("noon", "\uff11\uff12", True),
    ],
)
def test_time_is_refused_when_malformed(text):
    assert message_of(parse_time_minutes, text) == f"time {text!r} {TIME_FORMS}"


@pytest.mark.parametrize("text", ["UNLIMITED", "infinite", "-1", -1])
def test_time_is_refused_when_it_has_no_end(text):
    assert message_of(parse_time_minutes, text) == (
        f"time {text!r} has no end, but a worker must know when to stop taking files, "
        "so write a limit such as 7-00:00:00"
    )


def test_time_is_the_same_in_every_form_that_can_say_it():
    chooser = random.Random(20240229)
    for _ in range(500):
        d, h = chooser.randrange(40), chooser.randrange(24)
        m, s = chooser.randrange(60), chooser.randrange(1, 60)
        hours = d * 24 + h
        minutes = hours * 60 + m
        rounded_up = minutes + 1

        assert parse_time_minutes(f"{d}-{h}:{m}:{s}") == rounded_up
        assert parse_time_minutes(f"{d}-{h:02}:{m:02}:{s:02}") == rounded_up
        assert parse_time_minutes(f"{hours}:{m:02}:{s:02}") == rounded_up
        assert parse_time_minutes(f"{minutes}:{s}") == rounded_up
        assert parse_time_minutes(rounded_up) == rounded_up
        assert parse_time_minutes(str(rounded_up)) == rounded_up
        assert parse_time_minutes(f"{d}-{h}:{m + 1}") == rounded_up
        assert parse_time_minutes(f"{d + 1}-{h}") == (hours + 24) * 60


def test_memory_is_rounded_up_in_every_unit():
    chooser = random.Random(20240301)
    for _ in range(500):
        kb = chooser.randrange(1, 10**9)
        assert parse_memory_mb(f"{kb}K") == math.ceil(kb / 1024)
        assert parse_memory_mb(f"{kb}G") == parse_memory_mb(f"{kb * 1024}M")
        assert parse_memory_mb(f"{kb}T") == parse_memory_mb(f"{kb * 1024}GB")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2, (None, 2)),
        (0, (None, 0)),
        ("2", (None, 2)),
        ("a100", ("a100", 1)),
        ("a100:2", ("a100", 2)),
        (" a100:2 ", ("a100", 2)),
        ("1g.5gb:3", ("1g.5gb", 3)),
        ("nvidia_a100-sxm4-80gb:2", ("nvidia_a100-sxm4-80gb", 2)),
        ("gpu_large:2", ("gpu_large", 2)),
    ],
)
def test_gpus_are_read_as_a_type_and_a_count(value, expected):
    assert parse_gpus(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *(-1, True, "", "a100:0", "a100:", ":2", "a100:x", "2:a100:1", "2:3", "1.5"),
        *("gpu:2", "gpu:a100:2", "gpu", "a b", "a100;id", "-x:2", "a100:-1"),
    ],
)
def test_gpus_are_refused_when_not_a_count(value):
    assert message_of(parse_gpus, value) == f"gpus {value!r} {GPU_FORMS}"


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ([], SbatchOptions()),
        (["--account=lab"], SbatchOptions(account="lab")),
        (["--account lab"], SbatchOptions(account="lab")),
        (["-A lab"], SbatchOptions(account="lab")),
        (["-Alab"], SbatchOptions(account="lab")),
        (["-A=lab"], SbatchOptions(account="lab")),
        (["-p gpu -q long"], SbatchOptions(partition="gpu", qos="long")),
        (["--partition=gpu", "--qos=long"], SbatchOptions(partition="gpu", qos="long")),
        (["-p a,b"], SbatchOptions(partition="a,b")),
        (["-C 'a100&nvlink'"], SbatchOptions(constraint="a100&nvlink")),
        (["--constraint=[rack1|rack2]"], SbatchOptions(constraint="[rack1|rack2]")),
        (["-M c1"], SbatchOptions(clusters="c1")),
        (["--gres=lscratch:100"], SbatchOptions(gres="lscratch:100")),
        (["--reservation=r"], SbatchOptions(extra=("--reservation=r",))),
        (["--mail-user=x@y"], SbatchOptions(extra=("--mail-user=x@y",))),
        (["--mail-user x@y"], SbatchOptions(extra=("--mail-user=x@y",))),
        (["--mail-user="], SbatchOptions(extra=("--mail-user=",))),
        (["--exclusive"], SbatchOptions(extra=("--exclusive",))),
        (["--exclusive user"], SbatchOptions(extra=("--exclusive=user",))),
        (["--nice=-5"], SbatchOptions(extra=("--nice=-5",))),
        (["-w node1 -H"], SbatchOptions(extra=("--nodelist=node1", "--hold"))),
        (["--mem-bind=local"], SbatchOptions(extra=("--mem-bind=local",))),
        (["--export-file=f"], SbatchOptions(extra=("--export-file=f",))),
        (["--mincpus=10"], SbatchOptions(extra=("--mincpus=10",))),
        (["--mail-user=$HOME"], SbatchOptions(extra=("--mail-user=$HOME",))),
        (["--licenses='a b'"], SbatchOptions(extra=("--licenses=a b",))),
        (
            ["--hold -A lab --nice=3", "-p gpu"],
            SbatchOptions(account="lab", partition="gpu", extra=("--hold", "--nice=3")),
        ),
    ],
)
def test_sbatch_options_are_split_into_resources_and_the_rest(elements, expected):
    assert parse_sbatch_options(elements) == expected


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("--array=1-3", ONE_BY_ONE),
        (
            "--chdir=/tmp",
            "workers run in the pipeline file's directory, so leave it out",
        ),
        (
            "--workdir=/tmp",
            "workers run in the pipeline file's directory, so leave it out",
        ),
        ("--cpus-per-gpu=2", "use worker_resources.cpus instead"),
        ("--cpus-per-task=2", "use worker_resources.cpus instead"),
        ("--error=e", "Snakemake gives each job a log file, so leave it out"),
        ("--output=o", "Snakemake gives each job a log file, so leave it out"),
        ("--export=A=b", ENVIRONMENT),
        ("--gpus=1", "use worker_resources.gpus instead"),
        ("--gpus-per-node=1", "use worker_resources.gpus instead"),
        ("--gpus-per-socket=1", "use worker_resources.gpus instead"),
        ("--gpus-per-task=1", "use worker_resources.gpus instead"),
        ("--job-name=x", "Snakemake finds its jobs by their name, so leave it out"),
        ("--mem=1G", "use worker_resources.memory instead"),
        ("--mem 0", "use worker_resources.memory instead"),
        ("--nodes=2", ONE_TASK),
        ("--ntasks=2", ONE_TASK),
        ("--ntasks-per-gpu=2", ONE_TASK),
        ("--ntasks-per-node=2", ONE_TASK),
        ("--tasks-per-node=2", ONE_TASK),
        ("--help", LEAVE_OUT_JOB_ID),
        ("--parsable", LEAVE_OUT_JOB_ID),
        ("--quiet", LEAVE_OUT_JOB_ID),
        ("--test-only", LEAVE_OUT_JOB_ID),
        ("--usage", LEAVE_OUT_JOB_ID),
        ("--version", LEAVE_OUT_JOB_ID),
        ("--wait", LEAVE_OUT_JOB_ID),
        ("--requeue", REPLACED),
        ("--no-requeue", REPLACED),
        ("--signal=B:USR1@60", SIGNALS),
        ("--time=5", TIMES),
        ("--time-min=5", TIMES),
        ("--input=/x", "a worker reads no standard input, so leave it out"),
        ("--wrap=ls", "the job runs TigerFlow's worker, so use setup_commands instead"),
    ],
)
def test_sbatch_options_are_refused_when_others_set_them(element, expected):
    name = re.split("[= ]", element)[0]

    message = message_of(parse_sbatch_options, ["--exclusive", f"--hold {element}"])

    assert message == f"sbatch option {name} is not accepted: {expected}"


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("foo", f"'foo' {NO_OPTION}"),
        ("-", f"'-' {NO_OPTION}"),
        ("--", f"'--' {NO_OPTION}"),
        (":", f"':' {NO_OPTION}"),
        ("-Z x", f"'-Z' {NO_OPTION}"),
        ("--A=x", f"'--A=x' {NO_OPTION}"),
        ("''", f"'' {NO_OPTION}"),
        ("--a;id", f"'--a;id' {NO_OPTION}"),
        ("--qos=a b", f"'b' {NO_OPTION}"),
        ("-q a b", f"'b' {NO_OPTION}"),
        ("#SBATCH -q a", f"'#SBATCH' {NO_OPTION}"),
        ("", f"'' {NO_OPTION}"),
        ("  ", f"'' {NO_OPTION}"),
        (
            "-q 'a",
            """sbatch option "-q 'a" has an unclosed quote or ends in a backslash""",
        ),
        ("-H foo", "sbatch option -H takes no value, but has 'foo'"),
        ("-W now", "sbatch option -W takes no value, but has 'now'"),
        ("-Hp gpu", "sbatch option -H takes no value, but has 'p'"),
        ("-p", "sbatch option --partition needs a value"),
        ("--account=", "sbatch option --account needs a value"),
        ("--account -q a", "sbatch option --account needs a value"),
        ("-A a --account=b", "sbatch option --account is given twice, so keep one"),
        ("--tim=5", f"sbatch option --tim {MUST_BE_FULL} --time"),
        ("--part gpu", f"sbatch option --part {MUST_BE_FULL} --partition"),
        ("--cluster=x", f"sbatch option --cluster {MUST_BE_FULL} --clusters"),
        ("-t5", f"sbatch option --time is not accepted: {TIMES}"),
        ("-W", f"sbatch option --wait is not accepted: {LEAVE_OUT_JOB_ID}"),
        ("-Q", f"sbatch option --quiet is not accepted: {LEAVE_OUT_JOB_ID}"),
        ("--gres=gpu:1", f"sbatch option --gres=gpu:1 is not accepted: {GRES_FORMS}"),
        ("--gres=a,b", f"sbatch option --gres=a,b is not accepted: {GRES_FORMS}"),
    ],
)
def test_sbatch_options_are_refused_when_they_cannot_be_read(element, expected):
    assert message_of(parse_sbatch_options, [element]) == expected


def test_sbatch_options_are_refused_when_given_twice_in_two_elements():
    assert message_of(parse_sbatch_options, ["-p a", "--partition=b"]) == (
        "sbatch option --partition is given twice, so keep one"
    )


def test_resources_of_a_cpu_worker_are_memory_and_time():
    resources = slurm_resources(4, "12G", "02:00:00")

    assert resources == {"mem_mb": 12288, "runtime": 120}
    words = submitted_words(resources, threads=4)
    assert words[words.index("--mem") + 1] == "12288"
    assert words[words.index("-t") + 1] == "120"
    assert {"--ntasks=1", "--cpus-per-task=4"} <= set(words)


@pytest.mark.parametrize("gpus", [None, 0, "0"])
def test_resources_have_no_gpu_when_none_is_asked_for(gpus):
    assert slurm_resources(1, 1, 1, gpus) == {"mem_mb": 1, "runtime": 1}


def test_resources_of_every_kind_come_in_reading_order():
    options = [
        *("-C x86", "--exclusive", "-M c1", "-q long", "-p gpu", "-A lab"),
        *("--gres=nvme:1", "--reservation=class"),
    ]

    resources = slurm_resources(8, "1T", "1-0", "a100:2", options)

    assert list(resources.items()) == [
        ("mem_mb", 1048576),
        ("runtime", 1440),
        ("nodes", 1),
        ("gpu", 2),
        ("gpu_model", "a100"),
        ("slurm_account", "lab"),
        ("slurm_partition", "gpu"),
        ("qos", "long"),
        ("constraint", "x86"),
        ("clusters", "c1"),
        ("gres", "nvme:1"),
        ("slurm_extra", "--exclusive --reservation=class"),
    ]
    words = submitted_words(resources, threads=8)
    assert {"--gpus=a100:2", "--nodes=1", "--gres=nvme:1", "--qos=long"} <= set(words)
    assert {"--exclusive", "--reservation=class", "--cpus-per-task=8"} <= set(words)
    assert words[words.index("-C") + 1] == "x86"
    assert words[words.index("--clusters") + 1] == "c1"


def test_gpus_of_any_type_reach_sbatch_as_a_count():
    words = submitted_words(slurm_resources(1, 1, 1, 2))

    assert [word for word in words if "gpu" in word] == ["--gpus=2"]
    assert "--nodes=1" in words


def test_gpu_type_with_a_hyphen_reaches_sbatch_though_the_plugin_refuses_it():
    resources = slurm_resources(1, 1, 1, "a100-sxm4:2", ["--hold"])

    assert resources["slurm_extra"] == "--gpus-per-node=a100-sxm4:2 --hold"
    words = submitted_words(resources)
    assert [word for word in words if "gpu" in word] == ["--gpus-per-node=a100-sxm4:2"]


@pytest.mark.parametrize(
    "value",
    [
        "plain@x.org",
        "two words",
        "it's",
        'say "hi"',
        "$HOME",
        "`id`",
        "$(id)",
        "a;b|c&d>e",
        "*?[0-9]",
        "back\\slash",
        "new\nline",
        "tab\there",
        "~",
        "#no comment",
        "!x",
        "{input}",
        "ünï",
        "",
        "a=b",
        "anna-Jane@x.org",
        "-Jones",
        "it's-J",
        "node-n",
        "x -n y",
        "--time=5",
        "a --mem 3",
        "' -o '",
    ],
)
def test_extra_options_reach_sbatch_as_exactly_the_given_words(value):
    given = [f"--mail-user={value}", f"--licenses={value}", "--exclusive"]
    resources = slurm_resources(1, 1, 1, None, list(map(shlex.quote, given)))

    words = submitted_words(resources)

    assert words[-5:-2] == given
    assert words[-2:] == ["-D", "/out"]


def test_extra_options_stay_readable_when_they_need_no_quotes():
    resources = slurm_resources(1, 1, 1, None, ["--mail-user=a-b@x.org", "-x node-1"])

    assert resources["slurm_extra"] == "--mail-user=a-b@x.org --exclude=node-1"


@pytest.mark.parametrize(
    "word",
    sorted(
        word.removesuffix(r"\s?").removesuffix(r"\s").removesuffix(r"[=\s]")
        for pattern in get_forbidden_slurm_options()
        for word in pattern.split("|")
    ),
)
def test_no_option_that_the_plugin_forbids_gets_into_slurm_extra(word):
    element = word if word == "--parsable" else f"{word} 1"
    try:
        options = parse_sbatch_options([element])
    except ValueError as error:
        assert "is not accepted: " in str(error)  # noqa: PT017 - either way is right
    else:
        assert options.extra == ()


@pytest.mark.parametrize("cpus", [0, -1, True])
def test_cpus_are_refused_when_not_positive(cpus):
    message = message_of(slurm_resources, cpus, "1G", "60")

    assert message == f"cpus {cpus!r} is not a positive whole number"
