"""What is counted for charts: the same numbers, in few bins."""

import random

import pytest

from tigerflow.report.page.bins import (
    DECADE_BINS,
    TIME_BINS,
    DurationBin,
    TimeAxis,
    duration_bins,
    moments,
    quantile,
    working_s,
)
from tigerflow.report.page.chronicle import Life, Run
from tigerflow.report.page.lanes import WorkerState, busy_share, lanes, united
from tigerflow.rundir.events import RunStarted

PENDING, SETUP, IDLE, BUSY = WorkerState


def a_run(last=100.0, **facts):
    return Run(0.0, last, RunStarted(tasks={"up": None}, **facts))


def a_life(*tries, task="up", launched=0.0, **fields):
    life = Life(task, launched, fields.pop("started", None), **fields)
    for began, seconds in tries:
        life.tries.extend((began, seconds))
    return life


# Time


@pytest.mark.parametrize(
    ("span_s", "width_s"),
    [(0.5, 0.01), (60, 0.5), (119, 1), (3600, 30), (86_400, 900), (1e7, 86_400)],
)
def test_time_is_cut_into_bins_of_a_round_width(span_s, width_s):
    axis = TimeAxis.over(1000, 1000 + span_s, TIME_BINS)

    assert axis.width_s == width_s
    assert axis.count <= TIME_BINS + 2
    assert axis.at(axis.count) > 1000 + span_s


def test_every_settled_file_is_in_one_bin():
    chance = random.Random(5)
    run = a_run(1000)
    run.done.extend(chance.uniform(0, 1000) for _ in range(500))
    run.failed.extend(chance.uniform(0, 1000) for _ in range(50))

    found = moments([run])

    assert sum(moment.done for moment in found) == 500
    assert sum(moment.failed for moment in found) == 50


def test_time_without_a_file_to_process_is_not_time_of_work():
    first, second = a_run(100), Run(200.0, 300.0, RunStarted())
    # Two files from 10 to 20 and 30, one from 60 to 70; one is left when it is killed.
    first.staged.extend((10, 2, 20, -1, 30, -1, 60, 1, 70, -1))
    second.staged.extend((210, 1))

    assert working_s([first, second]) == 20 + 10 + 90


def test_what_is_out_of_range_goes_to_the_nearest_bin():
    # A clock that was set back.
    run = a_run(100)
    run.done.extend([-50, 900])

    found = moments([run])

    assert (found[0].done, found[-1].done) == (1, 1)


def test_the_queue_is_as_deep_as_it_was_at_its_deepest_and_stays_so():
    run = a_run(10)
    # Settled in another order than told.
    run.staged.extend((1.0, 5.0, 8.0, -3.0, 6.0, -2.0))

    depths = {round(m.start, 1): m.depth for m in moments([run])}

    assert [depths[at] for at in (0.5, 1.0, 4.0, 6.0, 6.5, 8.0, 8.5)] == [
        *(0, 5, 5, 5, 3, 3, 0)
    ]


def test_a_new_run_begins_with_an_empty_queue():
    first, second = a_run(10), Run(20.0, 30.0, RunStarted())
    first.staged.extend((1.0, 5.0))

    depths = {round(m.start, 2): m.depth for m in moments([first, second])}

    assert (depths[9.0], depths[15.0], depths[25.0]) == (5, 0, 0)


# Durations


def test_durations_are_in_bins_of_equal_ratio():
    found = duration_bins([(1.1, True), (1.2, False), (100.5, True), (1.0, True)])

    assert found == [
        DurationBin(1.0, 1.259, 2, 1),
        DurationBin(100.0, 125.9, 1, 0),
    ]


def test_a_duration_of_nothing_has_a_bin():
    (found,) = duration_bins([(0.0, True)])

    assert (found.least_s, found.done) == (0.0001, 1)


def test_there_are_few_bins_however_many_durations():
    chance = random.Random(2)
    tries = [(chance.lognormvariate(0, 3), True) for _ in range(20_000)]

    found = duration_bins(tries)

    assert sum(each.done for each in found) == 20_000
    assert len(found) < 12 * DECADE_BINS


@pytest.mark.parametrize(
    ("share", "value"), [(0.5, 2), (0.75, 3), (0.95, 4), (1.0, 4), (0.01, 1)]
)
def test_a_quantile_is_one_of_the_values(share, value):
    assert quantile([1, 2, 3, 4], share) == value


# Workers


def test_a_worker_in_a_job_waits_sets_up_idles_and_works():
    run = a_run(100, kinds={"up": "slurm"})
    life = a_life((50, 10), started=20.0, ready=30.0, ended=90.0)
    run.lives["up", 1] = life

    found = lanes([run])

    assert found.names == ("up 1",)
    assert [(s.state, s.start, s.end, s.share) for s in found.segments] == [
        (PENDING, 0.0, 20.0, 1.0),
        (SETUP, 20.0, 30.0, 1.0),
        (IDLE, 30.0, 90.0, 1.0),
        (BUSY, 50.0, 60.0, 1.0),
    ]


def test_a_worker_on_this_host_starts_at_once():
    run = a_run(100, kinds={"up": "local"})
    run.lives["up", 1] = a_life(ready=30.0)

    states = [(s.state, s.start, s.end) for s in lanes([run]).segments]

    # Nobody has said when it ended: with the run.
    assert states == [(SETUP, 0.0, 30.0), (IDLE, 30.0, 100.0)]


def test_a_job_that_never_began_only_waits():
    run = a_run(100, kinds={"up": "slurm"})
    run.lives["up", 1] = a_life(ended=80.0)

    assert [s.state for s in lanes([run]).segments] == [PENDING]


def test_a_worker_takes_the_line_of_one_that_has_ended():
    run = a_run(100)
    run.lives["up", 1] = a_life(ready=1.0, ended=40.0)
    run.lives["up", 2] = a_life(ready=1.0, ended=90.0)
    run.lives["up", 3] = a_life(launched=40.0, ready=41.0, ended=90.0)

    found = lanes([run])

    assert found.names == ("up 1", "up 2")
    assert [s.life for s in found.segments if s.lane == "up 1"][-1] is run.lives[
        "up", 3
    ]


def test_many_short_tries_make_few_segments():
    run = a_run(1000)
    life = a_life(*((n / 10, 0.05) for n in range(10_000)), ready=0.0, ended=1000.0)
    run.lives["up", 1] = life

    found = [s for s in lanes([run]).segments if s.state is BUSY]

    assert len(found) == 1
    assert found[0].share == 0.6
    assert busy_share(run, life) == pytest.approx(0.5)


def test_a_worker_with_several_files_at_once_is_busy_once():
    life = a_life((10, 5), (12, 5), (30, 1), (11, 1))

    assert list(united(life)) == [(10, 17), (30, 31)]


def test_the_share_of_a_worker_that_was_never_ready_is_not_known():
    assert busy_share(a_run(), a_life(ended=5.0)) is None
