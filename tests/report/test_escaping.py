"""Text of the run (names of files, warnings, settings) cannot become markup, wherever it stands."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_samples import Page, full, picture, ring

import splat.report.templating as templating
from splat.report import ReportData, ViewScore
from splat.report.charts import curve_chart, stage_bars
from splat.report.report import report_html

HOSTILE = [
    "<script>alert(1)</script>",
    '"><script>alert(1)</script>',
    '" onload=alert(1) x="',
    "'><img src=x onerror=alert(1)>",
    "</title></style><script>",
    "{{ 7 * 7 }}{% raw %}",
]


def everywhere(text: str) -> ReportData:
    """A run in which each string that comes from outside is `text`."""
    views = tuple(replace(v, name=f"{i}{text}") for i, v in enumerate(ring([0.0, 90.0, 180.0, 270.0]).views))
    scores = tuple(
        ViewScore(v.name, role, 20.0 + i, 0.9, 21.0, 0.1, picture(i), picture(i + 9))
        for i, v in enumerate(views)
        for role in ("test", "train")
    )
    many = tuple(ViewScore(f"{i}{text}", "test", 40.0) for i in range(60))
    return replace(
        full(),
        title=text,
        views=scores + many,
        capture=ring([0.0]).with_views(views),
        unregistered={f"a{text}": text, f"b{text}": text},
        warnings=(text,),
        method=text,
        seconds={text: 3.0},
        exposure_ev={f"a{text}": 0.0, f"b{text}": 3.0, f"c{text}": 1.0},
        stills=((text, picture(7)),),
        files=((text, text),),
        settings={text: text, "list": [text]},
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_that_comes_from_outside_becomes_markup(text: str):
    harmless, page = Page(report_html(everywhere("plain"))), Page(report_html(everywhere(text)))
    assert page.tags == harmless.tags, "the page has the elements and attributes that it has with a harmless name"
    assert "<script" not in report_html(everywhere(text))


@pytest.mark.parametrize("text", HOSTILE)
def test_what_was_written_is_what_is_read(text: str):
    words = Page(report_html(everywhere(text))).words
    assert words.count(text) == Page(report_html(everywhere("plain"))).words.count("plain") > 50


def test_a_link_leads_to_a_file_beside_the_page():
    data = replace(full(), files=(("x", "javascript:alert(1)"), ("y", 'a" b/#?.ply')))
    assert Page(report_html(data)).links == ["javascript%3Aalert%281%29", "a%22%20b/%23%3F.ply"]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_charts_is_escaped(text: str):
    module = templating.environment().get_template("charts.html").module
    chart = curve_chart(text, {text: ((0, 1.0), (9, 2.0))}, unit=text)
    for svg in (module.curves(chart), module.bars(stage_bars({text: 1.0}))):
        assert not {tag for tag, _ in Page(svg).tags} & {"script", "img"}
        assert text in Page(svg).words
    assert Page(module.curves(chart)).labels == [text]


def test_escaping_is_never_switched_off():
    """Neither in a template nor by marking a value as HTML."""
    folder = Path(templating.__file__).parent
    for file in [*folder.glob("*.py"), *folder.glob("templates/*")]:
        found = re.search(r"\|\s*safe\b|Markup\(|autoescape\s+false|autoescape=False|tojson|xmlattr", file.read_text())
        assert found is None, f"{file.name}: {found}"
