#!/usr/bin/env bash
# watchdog 7.1.0 on Linux: when the kernel's queue of events overflows, no handler is told;
# a record of the `watchdog` logger is the only sign. The observer goes on.
#
# Guess: an event or an error for handlers, so that they can list the directory.
# Seen: 16384 files made, some 5000 reported, no other event than those of files and of the
# directory's change; "WARNING Inotify queue overflowed; filesystem events were lost".
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq watchdog==7.1.0
cd "$place"
mkdir inbox
cat > watch.py <<'CODE'
import logging
import sys
import time

from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
names, kinds = set(), set()


class Handler(FileSystemEventHandler):
    def on_any_event(self, event):
        kinds.add(type(event).__name__)
        if event.event_type == "created":
            names.add(event.src_path)


observer = Observer()
observer.schedule(Handler(), "inbox")
observer.start()
print("ready", flush=True)
sys.stdin.readline()
before = -1
while before != len(names):
    before = len(names)
    time.sleep(2)
print(len(names), *sorted(kinds), observer.is_alive())
CODE
"$place/venv/bin/python" - <<'CODE'
import os
import signal
import subprocess
import sys
from pathlib import Path

count = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
watcher = subprocess.Popen(
    [sys.executable, "watch.py"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
)
watcher.stdout.readline()
# As a machine that is busy: the watcher does not run while the files are made.
os.kill(watcher.pid, signal.SIGSTOP)
for number in range(count):
    Path(f"inbox/{number}").touch()
os.kill(watcher.pid, signal.SIGCONT)
out, log = watcher.communicate("\n")
print(f"{count} files made; reported: {out}{log}", end="")
reported, *kinds, is_alive = out.split()
assert int(reported) < count
assert set(kinds) <= {
    "DirModifiedEvent",
    "FileClosedEvent",
    "FileCreatedEvent",
    "FileModifiedEvent",
    "FileOpenedEvent",
}
assert is_alive == "True"
assert "Inotify queue overflowed" in log
CODE
