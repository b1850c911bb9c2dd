#!/usr/bin/env bash
# watchdog 7.1.0 on Linux goes on watching a directory that was renamed, and reports its
# files by the old path, where another directory stands meanwhile. Of that it reports none.
#
# Guess: an event for the rename, then nothing; or the observer ends.
# Seen: no event for the rename; `created inbox/late` for a file that is in `moved`, nothing
# for one in `inbox`; is_alive() is True.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq watchdog==7.1.0
cd "$place"
"$place/venv/bin/python" - <<'CODE'
import os
import time

from watchdog.events import FileSystemEventHandler
from watchdog.observers import Observer

seen = []


class Handler(FileSystemEventHandler):
    def on_created(self, event):
        seen.append(f"created {event.src_path}")

    def on_moved(self, event):
        seen.append(f"moved {event.src_path}")

    def on_deleted(self, event):
        seen.append(f"deleted {event.src_path}")


def after(name):
    seen.clear()
    open(name, "w").close()
    time.sleep(2)
    print(f"{name}: {seen}")
    return list(seen)


os.mkdir("inbox")
observer = Observer()
observer.schedule(Handler(), "inbox")
observer.start()
assert after("inbox/first") == ["created inbox/first"]
seen.clear()
os.rename("inbox", "moved")
os.mkdir("inbox")
time.sleep(2)
assert seen == [], seen
assert after("inbox/new") == []
assert after("moved/late") == ["created inbox/late"]
assert not os.path.exists("inbox/late")
print(f"is_alive: {observer.is_alive()}")
assert observer.is_alive()
observer.stop()
observer.join()
CODE
