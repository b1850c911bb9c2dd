#!/usr/bin/env bash
# ONNX Runtime 1.32.0 (Python wheel) neither goes by the CPU affinity of its process nor by
# OMP_NUM_THREADS. On two cores, a process bound to core 0 gets a second thread, and that is
# bound to core 1, which the process was not given. Each library of a worker's has to be
# told its threads in its own way.
#
# Guess: one thread for an affinity of one core, and for OMP_NUM_THREADS=1.
# Seen: a thread is made in both cases, and has another core than that of the process.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq onnxruntime==1.32.0 onnx==1.19.1
cat > "$place/threads.py" <<'CODE'
import os
import sys

import onnxruntime
from onnx import TensorProto, helper


def threads():
    return set(os.listdir("/proc/self/task"))


mine = min(os.sched_getaffinity(0))
if len(os.sched_getaffinity(0)) < 2:
    sys.exit("this needs two cores")
if sys.argv[1] == "affinity":
    os.sched_setaffinity(0, {mine})
value = (TensorProto.FLOAT, [4])
graph = helper.make_graph(
    [helper.make_node("Relu", ["x"], ["y"])],
    "graph",
    [helper.make_tensor_value_info("x", *value)],
    [helper.make_tensor_value_info("y", *value)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
model.ir_version = 10
before = threads()
session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
)
cores = [os.sched_getaffinity(int(thread)) for thread in threads() - before]
print(f"{sys.argv[1]}: {len(cores)} more threads; the process is on {mine}: {cores}")
assert cores
if sys.argv[1] == "affinity":
    assert all(mine not in each for each in cores)
CODE
"$place/venv/bin/python" "$place/threads.py" affinity
OMP_NUM_THREADS=1 "$place/venv/bin/python" "$place/threads.py" OMP_NUM_THREADS=1
