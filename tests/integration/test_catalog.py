"""What Snakemake's workflow catalog asks for, and the configuration it shows."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from flows import SNAKEMAKE
from jsonschema import Draft202012Validator, ValidationError
from runs import DEADLINE_S

from tigerflow.workflow import CONFIG

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "workflow" / "schemas" / "config.schema.yaml"
CONFIGURED = (ROOT / "config" / "config.yaml").read_text()


def _yaml(path):
    return yaml.safe_load(path.read_text())


def _snakemake(directory, *options):
    return subprocess.run(
        [SNAKEMAKE, *options],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * DEADLINE_S,
    )


@pytest.fixture
def clone(tmp_path):
    """The parts of the repository that a user of the catalog runs."""
    for name in ("config", "profiles", "starter", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


def test_repository_has_what_the_catalog_looks_for():
    usage = _yaml(ROOT / ".snakemake-workflow-catalog.yml")["usage"]
    readme = (ROOT / "README.md").read_text().lower()

    assert usage.keys() == {"software-stack-deployment", "report"}
    assert "snakemake" in readme
    assert "workflow" in readme
    assert (ROOT / "workflow" / "Snakefile").is_file()
    assert (ROOT / "config" / "README.md").is_file()


def test_readme_of_the_configuration_says_where_to_read_on():
    text = (ROOT / "config" / "README.md").read_text()

    linked = re.findall(r"\]\(([^)]+)\)", text)
    assert linked == ["../docs/reference/yaml.md"]
    assert all((ROOT / "config" / each).is_file() for each in linked)


def test_schema_readme_and_example_have_the_keys_that_are_read():
    schema = _yaml(SCHEMA)
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \|$",
        (ROOT / "config/README.md").read_text(),
        re.MULTILINE,
    )

    assert tuple(schema["properties"]) == CONFIG
    assert tuple(schema["required"]) == CONFIG
    assert tuple(yaml.safe_load(CONFIGURED)) == CONFIG
    texts = {key: each["description"] for key, each in schema["properties"].items()}
    assert {key: text[0].upper() + text[1:] for key, text in rows} == texts


@pytest.mark.parametrize("value", [None, "", [], {}])
def test_schema_takes_the_example_and_no_empty_key(value):
    validator = Draft202012Validator(_yaml(SCHEMA))
    config = yaml.safe_load(CONFIGURED)

    validator.validate(config)
    with pytest.raises(ValidationError):
        validator.validate(config | {"input_dir": value})


def test_schema_takes_no_other_key():
    validator = Draft202012Validator(_yaml(SCHEMA))

    with pytest.raises(ValidationError, match="pipelin"):
        validator.validate(yaml.safe_load(CONFIGURED) | {"pipelin": "x"})


@pytest.mark.snakemake
def test_example_configuration_runs_without_an_option(clone):
    ran = _snakemake(clone)

    assert ran.returncode == 0, ran.stderr
    results = sorted(path.name for path in (clone / "results" / "ask").iterdir())
    assert results == ["lion.json", "lynx.json", "tiger.json"]
    assert "Nothing to be done" in _snakemake(clone, "-n").stdout

    report = _snakemake(clone, "--report", "report.zip")
    assert report.returncode == 0, report.stderr
    assert zipfile.is_zipfile(clone / "results" / "report.zip")


@pytest.mark.snakemake
def test_option_replaces_a_key_of_the_configuration(clone):
    ran = _snakemake(clone, "--config", "output_dir=elsewhere")

    assert ran.returncode == 0, ran.stderr
    assert (clone / "elsewhere" / "ask" / "lion.json").is_file()
    assert not (clone / "results").exists()


@pytest.mark.snakemake
def test_empty_configuration_key_is_reported(clone):
    (clone / "config" / "config.yaml").write_text(
        CONFIGURED.replace("starter/inputs", "")
    )

    ran = _snakemake(clone)

    assert ran.returncode != 0
    assert "tigerflow: give --config input_dir=…\n" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.snakemake
def test_unknown_configuration_key_is_reported(clone):
    ran = _snakemake(clone, "--config", "pipelin=x")

    assert ran.returncode != 0
    assert (
        "tigerflow: the configuration has no key 'pipelin'; did you mean 'pipeline'?\n"
        in ran.stderr
    )
    assert "Traceback" not in ran.stderr
    assert not (clone / "results").exists()


MODULE = """
module theirs:
    snakefile: "workflow/Snakefile"
    config: {CONFIG}


use rule * from theirs
"""

INCLUDING = """
include: "results/.tigerflow/workflow/Snakefile"


rule both:
    input:
        "clean/lion.txt",
        "clean/lynx.txt",
    output:
        "both.txt",
    shell:
        "cat {input:q} > {output:q}"
"""


@pytest.mark.snakemake
def test_workflow_is_included_by_others_and_refuses_to_be_a_module(clone):
    assert _snakemake(clone).returncode == 0
    (clone / "including.smk").write_text(INCLUDING)
    config = repr(yaml.safe_load(CONFIGURED))
    (clone / "module.smk").write_text(MODULE.replace("{CONFIG}", config))

    included = _snakemake(clone, "-s", "including.smk", "both.txt")
    module = _snakemake(clone, "-s", "module.smk", "-n")

    assert included.returncode == 0, included.stderr
    assert (clone / "results" / "both.txt").read_text()
    assert module.returncode == 2
    assert (
        "tigerflow: cannot be a module of another workflow; include its Snakefile there"
        in module.stderr
    )
    assert "Traceback" not in module.stderr
