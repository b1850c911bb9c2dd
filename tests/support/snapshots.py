"""A service in full swing, for tests of what shows it."""

from tigerflow.service.snapshot import Phase, Snapshot, TaskSnapshot

BUSY = Snapshot(
    phase=Phase.SERVING,
    known=1000,
    done=512,
    failed=3,
    running=33,
    held_up=0,
    tasks=(
        TaskSnapshot("transcribe", 650, 3, 3, workers=4, ready=4, busy=3),
        TaskSnapshot("embed", 512, 0, 30, workers=1, ready=1, busy=1),
    ),
    errors=("transcribe/a b.err", "transcribe/c.err"),
)
