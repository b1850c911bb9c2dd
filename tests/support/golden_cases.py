"""The pipelines behind the files in `tests/golden/`."""

import sys
from dataclasses import dataclass, replace

from pipelines import ask_here, write_pipeline

from tigerflow.compiler.rules import build_rules
from tigerflow.compiler.snakefile import render_snakefile, render_workers
from tigerflow.pipeline.spec import load_pipeline

AWKWARD = '/data/it\'s "$(x)" & {y} é\\n%s\n 😀'

CHAIN = """
tasks:
  - {name: first, kind: local, module: pipelines:Upper, input_ext: .txt}
  - name: second-one
    kind: local
    module: pipelines:Upper
    depends_on: first
    input_ext: .out
    output_ext: .tar.gz
"""

FAN_OUT = """
tasks:
  - {name: read, kind: local, module: pipelines:Upper, input_ext: .txt}
  - {name: left, depends_on: read, <<: &rest {kind: local, module: pipelines:Upper,
     input_ext: .out}}
  - {name: all, depends_on: read, <<: *rest}
  - {name: if, depends_on: all, <<: *rest}
"""

TWO_ROOTS = """
tasks:
  - {name: one, kind: local, module: pipelines:Upper, input_ext: .tar.gz}
  - {name: two, kind: local, module: pipelines:Typed, input_ext: .tar.gz}
"""

NOT_KEPT = """
tasks:
  - name: between
    kind: local
    module: pipelines:Upper
    input_ext: .txt
    keep_output: false
  - name: leaf
    kind: local
    module: pipelines:Upper
    depends_on: between
    input_ext: .out
    keep_output: false
"""

KINDS = """
tasks:
  - name: train
    kind: slurm
    module: pipelines:Train
    input_ext: .txt
    setup_commands: [module purge]
    max_workers: 3
    worker_resources:
      cpus: 4
      gpus: a100:2
      memory: 16G
      time: 12:00:00
      sbatch_options: [-A lab, --reservation=class]
  - name: fetch
    kind: local_async
    module: pipelines:Fetch
    depends_on: train
    input_ext: .out
    concurrency_limit: 30
  - name: store
    kind: local
    module: pipelines:Upper
    depends_on: fetch
    input_ext: .out
"""

WORKERS = """
tasks:
  - &cpu
    name: cpu
    kind: slurm
    module: pipelines:Train
    input_ext: .txt
    max_workers: 4
    worker_resources: {cpus: 2, memory: 1500K, time: 1-0}
  - <<: *cpu
    name: shared-gpus
    workers_per_job: 3
    worker_resources:
      cpus: 2
      memory: 10G
      time: 90
      gpus: h100-sxm:1
      sbatch_options:
        - -A lab -p gpu -q long -C "x86&ib" --reservation=class
        - --mail-user='a "b" {c}@x.org'
  - {name: here, kind: local, module: pipelines:Upper, input_ext: .txt}
"""

SOFTWARE = """
tasks:
  - name: read
    kind: local
    module: pipelines:Upper
    input_ext: .txt
    envmodules: [ffmpeg/6.0, cuda/12.4]
    conda: speech
  - name: train
    kind: slurm
    module: pipelines:Train
    depends_on: read
    input_ext: .out
    container: docker://ghcr.io/lab/train:1.2
    max_workers: 2
    worker_resources: {cpus: 1, memory: 1G, time: 60, gpus: 1}
"""

BATCHES = """
tasks:
  - {name: embed, kind: local, module: pipelines:Embed, input_ext: .txt, workers: 2}
"""

PARAMS = """
tasks:
  - {name: a, kind: local, module: pipelines:Upper, input_ext: .txt}
"""

EVERY_PARAM = {
    "text": "plain",
    "empty": "",
    "braces": "{input} {{x}} {",
    "double": 'say "hi"',
    "both": """it's "both\"""",
    "lines": "one\ntwo\r\n\tthree",
    "unicode": "é 日本 😀 \u2028 \x7f \ud800",
    "joined": "a\n😀",
    "backslash": "C:\\new\\{x}",
    "integer": -3,
    "big": 10**30,
    "float": 1e-07,
    "infinite": float("inf"),
    "nothing": None,
    "yes": True,
    "empty_list": [],
    "list": ["a", 1, None],
    "long_list": [f"value number {i}" for i in range(8)],
    "nested": {"a": {"b": [1, {"c": "d" * 60}]}, "e": {}},
    "key with 'quotes'": 1,
}


@dataclass(frozen=True)
class Case:
    text: str
    output_dir: str = "/data/results"
    workflow_dir: str = ".tigerflow/workflow"
    name: str = "pipeline.yaml"
    params: dict | None = None


CASES = {
    "chain": Case(CHAIN),
    "fan_out": Case(FAN_OUT),
    "two_roots": Case(TWO_ROOTS),
    "not_kept": Case(NOT_KEPT),
    "kinds": Case(KINDS),
    "software": Case(SOFTWARE),
    "workers": Case(WORKERS),
    "batches": Case(BATCHES),
    "params": Case(PARAMS, params=EVERY_PARAM),
    "awkward_paths": Case(
        CHAIN,
        output_dir=AWKWARD,
        workflow_dir='/data/{w} "it\'s" $(x)',
        name="my\npipeline é.yaml",
    ),
}


def load_case(case, directory, monkeypatch):
    # The real one starts a process a task.
    monkeypatch.setattr("tigerflow.pipeline.spec.ask_task", ask_here)
    monkeypatch.setattr(sys, "path", [*sys.path])
    pipeline = load_pipeline(write_pipeline(directory, case.text, case.name))
    if case.params is None:
        return pipeline
    # No option can be a dictionary, but what is rendered need not rely on that.
    spec = pipeline.tasks[0].spec.model_copy(update={"params": case.params})
    return replace(pipeline, tasks=(replace(pipeline.tasks[0], spec=spec),))


def render_case(case, pipeline):
    return render_snakefile(
        build_rules(pipeline),
        pipeline_name=pipeline.path.name,
        input_ext=pipeline.input_ext,
        output_dir=case.output_dir,
        workflow_dir=case.workflow_dir,
    )


def render_workers_case(case, pipeline):
    return render_workers(build_rules(pipeline), pipeline.path.name, case.output_dir)
