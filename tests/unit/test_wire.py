"""The frames between clients, executors and worker hosts."""

import pytest

from tigerflow.workers import client

WORDS = [b".tigerflow/workflow", b"17", b"work", b"a b.txt", b"work/\xff\n.out"]


def arrive(fields):
    """Return the fields as they are at the other end of a connection."""
    data = client.frame(fields)
    size = client.payload_size(data[: client.HEAD])
    assert len(data) == client.HEAD + size
    return client.fields_of(data[client.HEAD :])


def test_request_to_run_a_file_survives_the_way_whatever_its_names():
    request = client.request_of(arrive(client.RunRequest(b"3", WORDS).fields()))
    assert isinstance(request, client.RunRequest)
    assert (request.number, request.words) == (b"3", WORDS)


def test_requests_to_keep_and_to_stop_a_host_survive_the_way():
    attend = client.request_of(arrive(client.AttendRequest(4711).fields()))
    assert isinstance(attend, client.AttendRequest)
    assert attend.pid == 4711
    stop = client.request_of(arrive(client.StopRequest().fields()))
    assert isinstance(stop, client.StopRequest)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b""],
        [b"welcome"],
        [b"attend"],
        [b"attend", b"me"],
        [b"attend", b"99999999999"],
        [b"run", b"3", *WORDS, b"more"],
        [b"run", b"3", *WORDS[:1], b"0", *WORDS[2:]],
    ],
)
def test_frame_that_is_not_a_request_is_refused(fields):
    with pytest.raises(client.FrameError):
        client.request_of(fields)


@pytest.mark.parametrize(
    ("message", "arrives"),
    [
        ("", ""),
        ("ü\nand a second line", "ü\nand a second line"),
        # Neither can be sent as it is.
        ("a\0b", "ab"),
        ("\udcff", "\\udcff"),
        ("x" * 2 * client.MESSAGE_LIMIT, "x" * client.MESSAGE_LIMIT),
    ],
)
def test_reply_survives_the_way_with_as_much_of_its_message_as_fits(message, arrives):
    sent = client.Reply(b"3", "failed", message, "2026-01-01T00:00:00+00:00")
    reply = client.Reply.of(arrive(sent.fields()))
    assert (reply.number, reply.fate, reply.message) == (b"3", "failed", arrives)
    assert reply.started == sent.started
    assert not reply.is_done


def test_problems_at_the_end_of_a_host_survive_the_way():
    problems = ["task 'a': teardown failed: ü", "task 'b': teardown failed"]
    for each in (problems, []):
        assert client.Stopped.of(arrive(client.Stopped(each).fields())).problems == each


def test_payload_longer_than_any_of_ours_is_refused():
    with pytest.raises(client.FrameError):
        client.payload_size(b"GET ")
