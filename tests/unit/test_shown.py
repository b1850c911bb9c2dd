"""Numbers and names in the words of a page."""

import pytest

from tigerflow.report.page import shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0 ms"),
        (0.00123, "1.23 ms"),
        (0.25, "250 ms"),
        (1.0, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (200, "3 min 20 s"),
        (3599.6, "1 h"),
        (7500, "2 h 5 min"),
        (86_399, "1 d"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_have_two_units_at_the_most(seconds, text):
    assert shown.took(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.001, "< 1 %"), (0.5, "50 %"), (0.999, "> 99 %"), (1, "100 %")],
)
def test_only_nothing_is_none_and_only_all_is_all(share, text):
    assert shown.percent(share) == text


@pytest.mark.parametrize(
    ("per_second", "text"),
    [
        (344.4, "344 files a second"),
        (3.21, "3.21 files a second"),
        (0.5, "30 files a minute"),
        (0.001, "3.6 files an hour"),
        (0.0001, "8.64 files a day"),
    ],
)
def test_rates_have_a_unit_that_leaves_digits(per_second, text):
    assert shown.rate(per_second) == text


def test_texts_lose_what_no_page_can_show():
    assert shown.plain("a\n\tb\x00\x1b[31m\udcff") == "a\n\tb\ufffd\ufffd[31m\ufffd"
    assert shown.name("a\nb") == "'a\\nb'"
    assert shown.name("\udcff.txt") == "'\\udcff.txt'"
    assert shown.name(7) == "7"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("model", "large", "large"),
        ("languages", ["en", "fr"], "en, fr"),
        ("model", None, "none"),
        ("api_key", "abc", "(hidden)"),
        ("HF_TOKEN", "abc", "(hidden)"),
        ("db-password", "abc", "(hidden)"),
        ("keyframes", "abc", "abc"),
    ],
)
def test_params_are_shown_unless_they_are_secrets(key, value, text):
    assert shown.param(key, value) == text
