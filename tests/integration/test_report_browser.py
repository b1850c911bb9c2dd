"""The page of a report in a real browser: drawn, readable, quiet, and safe."""

import json
import os

import pytest
from browsers import CHROMIUM, Look, a_browser
from journals import SPEECH, write_run

from tigerflow.report.page.publish import publish

PHONE = {"width": 390, "height": 844}
CHARTS = 3 + len(SPEECH)


@pytest.fixture(scope="module")
def browser():
    """A browser for this module: while it is there, its event loop runs.

    Where there is none, tests skip; in CI they fail.
    """
    if CHROMIUM is None:
        message = "no Chromium: sh tests/system-packages.sh browser"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(message)
    with a_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of 3,000 files, with names and messages that would break out of it."""
    out = tmp_path_factory.mktemp("report") / "results"
    write_run(out, 3000)
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    error = {"exception_type": "Sly<b>", "message": hostile, "traceback": hostile}
    (out / "embed" / "clip_000001.npy").unlink()
    (out / "embed" / "clip_000001.err").write_text(json.dumps(error))
    target = out.parent / "report.html"
    publish(out, target)
    return target


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [{"width": 1200, "height": 900}, PHONE])
def test_a_page_draws_its_charts_and_says_and_asks_nothing(browser, page, scheme, size):
    with Look(browser, page, viewport=size, color_scheme=scheme) as look:
        assert look.page.locator(".chart svg").count() == CHARTS
        assert look.said == []
        assert look.asked == [page.as_uri()]
        # Nothing sticks out, and charts take the width there is.
        width = look.page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"]
        for number in range(CHARTS):
            box = look.page.locator(".chart svg").nth(number).bounding_box()
            assert 0.8 * min(size["width"], 950) < box["width"] <= size["width"]


def test_charts_and_texts_follow_the_scheme_at_once(browser, page):
    bar = ".chart .mark-rect path"
    with Look(browser, page, color_scheme="light") as look:
        light = look.style("body", "backgroundColor"), look.style(bar, "fill")
        look.page.emulate_media(color_scheme="dark")
        dark = look.style("body", "backgroundColor"), look.style(bar, "fill")
        label = look.style(".chart .role-axis-label text", "fill")
        quiet = look.style("figcaption", "color")

    assert light == ("rgb(255, 255, 255)", "rgb(58, 118, 176)")
    assert dark == ("rgb(21, 24, 28)", "rgb(106, 165, 220)")
    assert label == quiet


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_have_enough_contrast(browser, page, scheme):
    names = ["--ink", "--quiet", "--link", "--failed"]
    with Look(browser, page, color_scheme=scheme) as look:
        style = "getComputedStyle(document.documentElement)"
        colours = {
            name: look.page.evaluate(f"{style}.getPropertyValue('{name}')")
            for name in [*names, "--page", "--raised"]
        }

    for name in names:
        for ground in ("--page", "--raised"):
            assert _contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def _contrast(one, other):
    """Return the ratio of luminance, as WCAG 2 has it."""
    low, high = sorted(map(_luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour):
    parts = [int(colour.strip()[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return sum(p * w for p, w in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_everything_can_be_reached_and_opened_by_the_keyboard(browser, page):
    ask = """() => {
      const at = document.activeElement;
      const style = getComputedStyle(at);
      return [at.tagName, at.className, at.textContent.trim().slice(0, 40),
              style.outlineStyle];
    }"""
    with Look(browser, page) as look:
        keyboard = look.page.keyboard
        reached = []
        keyboard.press("Tab")
        # Until it goes round.
        while (at := look.page.evaluate(ask)) not in reached[:1] and len(reached) < 99:
            reached.append(at)
            if at[2] == "The numbers":
                keyboard.press("Enter")
            keyboard.press("Tab")
        opened = look.page.locator("details.numbers[open]").count()
        rows = look.page.locator("details.numbers[open] tbody tr").count()

    assert reached[0][2] == "Skip to the report"
    texts = [text for _, _, text, _ in reached]
    for link in ("Pipeline", "Over time", "Failures", "Versions and parameters"):
        assert link in texts
    tags = [tag for tag, _, _, _ in reached]
    assert tags.count("SUMMARY") == page.read_text().count("<summary>")
    assert "PRE" in tags
    assert opened == 2
    assert rows > 15
    # Where one is can be seen.
    assert {outline for tag, _, _, outline in reached if tag != "BODY"} == {"solid"}


def test_charts_say_what_they_are_to_those_who_cannot_see_them(browser, page):
    with Look(browser, page) as look:
        labels = look.page.locator(".chart").evaluate_all(
            "all => all.map(each => each.ariaLabel)"
        )

    assert labels[0] == "Files done and failed over time"
    assert len([label for label in labels if label]) == CHARTS


def test_a_bar_says_what_it_stands_for(browser, page):
    with Look(browser, page) as look:
        look.page.locator(".chart .mark-rect path").nth(20).hover()
        tip = look.page.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        text = tip.inner_text()

    assert "done" in text
    assert "Nov 22, 2026 05:" in text


def test_on_paper_all_failures_are_open_and_no_numbers_are(browser, page):
    with Look(browser, page, color_scheme="dark") as look:
        look.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        look.page.emulate_media(media="print")
        opened = look.page.locator("details.failure:not([open])").count()
        shown = look.page.locator("details.numbers").first.is_visible()
        ground = look.style("body", "backgroundColor")
        nav = look.page.locator("nav").is_visible()
        printed = look.page.pdf(format="A4")

    assert (opened, shown, nav) == (0, False, False)
    # Ink on white, whatever the screen has.
    assert ground == "rgb(255, 255, 255)"
    assert printed.startswith(b"%PDF")


def test_numbers_are_shown_without_javascript(browser, page):
    context = browser.new_context(java_script_enabled=False)
    sight = context.new_page()
    sight.goto(page.as_uri())

    assert sight.locator("noscript").inner_text().startswith("The charts need")
    assert sight.locator("details.numbers").count() == 2
    context.close()


def test_the_page_of_very_many_files_is_small_and_opens_soon(browser, tmp_path):
    out = tmp_path / "results"
    write_run(out, 20_000)
    target = tmp_path / "report.html"
    publish(out, target)

    with Look(browser, target) as look:
        assert look.said == []
        assert look.page.locator(".chart svg").count() == CHARTS
        marks = look.page.locator(".chart svg path").count()

    # 100,000 take no more: see the benchmarks, which time it as well.
    assert target.stat().st_size < 1_500_000
    assert marks < 5000
