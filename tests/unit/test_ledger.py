"""Which files a service knows, and the moves between their states."""

import pytest
from plans import Times, plan_of

from tigerflow.rundir.journal import Journal, read
from tigerflow.rundir.judgement import Status, judge
from tigerflow.service.inbox import Arrival
from tigerflow.service.ledger import Counts, Found, Ledger

PLAN = plan_of(("work", None, True))


class Book:
    """A ledger of files with one task, `work`, and its journal."""

    def __init__(self, path, journal):
        self.path = path
        self.ledger = Ledger(PLAN, journal)

    def stage(self, *names, at=10):
        """Have files of that date be staged; return them."""
        arrivals = [Arrival(name, (1, 2, at)) for name in names]
        for arrival in arrivals:
            self.ledger.arrive(arrival)
        self.ledger.stage(arrivals, lambda _: False)
        return [self.ledger.take_ready() for _ in names]

    def events(self):
        return [
            (each.name, each.files if hasattr(each, "files") else each.file)
            for each in read(self.path)
        ]


@pytest.fixture
def book(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        yield Book(tmp_path / "journal.jsonl", journal)


def found(**results):
    """Return the judgement of a file `a`: `found(out=10)`, `found(err=10)`."""
    times = {f"work/a.{extension}": at for extension, at in results.items()}
    return judge(PLAN, Times(times), "a", 10)


DONE, FAILED, UNDONE = found(out=10), found(err=10), found()


def test_file_passes_through_all_states_and_each_is_recorded(book):
    ledger = book.ledger
    ledger.arrive(Arrival("a.tar.gz", (1, 2, 10)))
    assert ledger.counts() == Counts(waiting=1)
    ledger.stage([*ledger.waiting.values()], lambda _: False)
    assert ledger.counts() == Counts(staged=1)
    assert ledger.has_work
    file = ledger.take_ready()
    assert not ledger.has_work
    assert ledger.judge(file, UNDONE) is Status.UNDONE
    assert ledger.counts() == Counts(staged=1)
    assert ledger.judge(file, DONE) is Status.DONE
    assert ledger.counts() == Counts(done=1)
    assert ledger.tally.done == 1
    assert book.events() == [("staged", ["a.tar.gz"]), ("file_done", "a.tar.gz")]


def test_known_files_are_wanted_again_only_when_they_change(book):
    ledger, arrival = book.ledger, Arrival("a.tar.gz", (1, 2, 3))
    assert list(ledger.unknown([arrival])) == [arrival]
    [file] = book.stage("a.tar.gz", at=3)
    assert list(ledger.unknown([arrival])) == []
    ledger.fail(file, "work")
    assert list(ledger.unknown([arrival])) == []
    changed = Arrival("a.tar.gz", (1, 2, 4))
    assert list(ledger.unknown([changed])) == [changed]
    [file] = book.stage("a.tar.gz", at=4)
    ledger.judge(file, DONE)
    assert ledger.counts() == Counts(done=1)
    assert list(ledger.unknown([changed])) == []


def test_file_whose_input_is_gone_leaves_no_trace(book):
    [file] = book.stage("a.tar.gz")
    book.ledger.note("a", "work", succeeded=False)
    book.ledger.lose(file)
    assert book.ledger.counts() == Counts()
    assert book.ledger.tally.failed == book.ledger.known == 0


@pytest.mark.parametrize("has_input", [True, False])
def test_failed_file_waits_again_when_its_error_is_gone(book, has_input):
    [file] = book.stage("a.tar.gz")
    book.ledger.judge(file, FAILED)
    book.ledger.retry(file.arrival, FAILED, has_input=has_input)
    assert book.ledger.counts() == Counts(failed=1)

    book.ledger.retry(file.arrival, UNDONE, has_input=has_input)

    assert book.ledger.counts() == Counts(waiting=int(has_input))
    assert book.ledger.tally.failed == 0
    assert book.events()[-1] == ("file_forgotten", "a.tar.gz")


def test_files_of_earlier_runs_are_recorded_where_they_were_not(book):
    known, other = Arrival("a.tar.gz", (1, 2, 10)), Arrival("b.tar.gz", (1, 2, 10))
    files = [Found(known, DONE, is_unrecorded=False), Found(other, FAILED, True)]  # noqa: FBT003
    assert book.ledger.find(files) == [other]
    assert book.ledger.counts() == Counts(done=1, failed=1)
    assert book.events() == [("found", ["b.tar.gz"])]


def test_held_files_are_ready_in_their_order_when_their_task_takes_files(book):
    ledger = book.ledger
    a, b, c = book.stage("a.tar.gz", "b.tar.gz", "c.tar.gz")
    for file in (a, b, c):
        ledger.hold(file, "work")
    ledger.release({"work"}, 2)
    assert ledger.ready == 0
    ledger.release((), 2)
    assert [ledger.take_ready(), ledger.take_ready()] == [a, b]
    assert ledger.ready == 0
    assert ledger.has_work
    ledger.release((), 2)
    assert ledger.take_ready() is c
    assert not ledger.has_work


def test_result_that_could_not_be_stored_is_noted_of_staged_files_only(book):
    [file] = book.stage("a.tar.gz")
    book.ledger.block("unknown")
    assert not file.is_blocked
    book.ledger.block("a")
    assert file.is_blocked
