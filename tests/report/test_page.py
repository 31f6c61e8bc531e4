import base64
import dataclasses
import html.parser
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from exitkit.engine.timing import Costs
from exitkit.policy import metrics
from exitkit.report import collect, page
from exitkit.report.collect import Evidence, Findings
from exitkit.report.latency import Timing


class Links(html.parser.HTMLParser):
    """Every address that a browser would load or follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        self.found += [v for k, v in attrs if k in ("src", "srcset", "href", "data") and v]

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def findings(evidence: Evidence) -> Findings:
    tune = collect.kept(evidence.tune, evidence.manifest)
    swept = {
        t: Timing(1 + i, 1.0, 2.0, 100, 5)
        for i, t in enumerate(collect.thresholds_to_measure(tune, evidence.policy))
    }
    costs = Costs(
        evidence.manifest.network, (2, 4), "private", 2, (1, 8), ((1.0, 6.0), (2.0, 9.0)),
        (3.1, 15.5), 7, "f" * 12, {},
    )  # fmt: skip
    shown = dataclasses.replace(
        evidence, swept=swept, costs=costs, conditions={"cpu": "<b>a & b</b>", "seed": 0}
    )
    return collect.findings(shown, pictures=3)


@pytest.fixture(scope="module")
def written(
    findings: Findings, digit_files: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    shown = {one.row: digit_files[one.row] for one in (*findings.first, *findings.last)}
    return page.write(findings, shown, tmp_path_factory.mktemp("report"))


def test_the_papers_rows_are_shown(findings: Findings, written: tuple[Path, Path]) -> None:
    text = re.sub(r"<td[^>]*>", "<td>", written[0].read_text())
    for row in metrics.as_published(findings.evidence.test):
        assert f"<td>{row['answer']}</td><td>{row['top1_error']:.2%}</td>" in text


def test_the_page_asks_nothing_of_the_network(written: tuple[Path, Path]) -> None:
    text = written[0].read_text()
    links = Links()
    links.feed(text)
    assert links.found
    assert all(link.startswith("data:image/") for link in links.found)
    assert "url(" not in text
    assert "@import" not in text


def test_charts_are_drawings_and_samples_are_the_test_images(
    written: tuple[Path, Path], findings: Findings, digit_files: list[bytes]
) -> None:
    links = Links()
    links.feed(written[0].read_text())
    drawings = [link for link in links.found if link.startswith("data:image/svg+xml;base64,")]
    assert len(drawings) == 10  # five charts, light and dark
    svg = base64.b64decode(drawings[0].partition(",")[2]).decode()
    assert not re.search(r'(xlink:)?href="(?!#|data:)', svg)
    samples = [link.partition(",")[2] for link in links.found if "image/png" in link]
    expected = [digit_files[one.row] for one in (*findings.first, *findings.last)]
    assert [base64.b64decode(sample) for sample in samples] == expected


def test_every_table_says_what_was_measured_and_what_computed(
    written: tuple[Path, Path],
) -> None:
    text = written[0].read_text()
    for section in re.findall(r"<section>.*?</section>", text, re.DOTALL):
        if "<table>" in section:
            assert re.search(r">(measured|computed)<", section), section[:200]


def test_words_from_outside_are_escaped(written: tuple[Path, Path]) -> None:
    assert "&lt;b&gt;a &amp; b&lt;/b&gt;" in written[0].read_text()


def test_the_verdict_and_the_recommended_threshold_stand_on_the_page(
    written: tuple[Path, Path], findings: Findings
) -> None:
    links = Links()
    links.feed(written[0].read_text())
    words = " ".join(links.text)
    assert "Early exit " in words
    assert f"threshold {findings.reached.threshold:.4g}" in words
    assert f"{findings.reached.accuracy:.2%}" in words


def test_the_poster_is_a_picture(written: tuple[Path, Path]) -> None:
    with Image.open(io.BytesIO(written[1].read_bytes())) as image:
        assert image.format == "PNG"
        assert image.width > 1000


def test_a_bundle_with_one_exit_and_no_measurements_has_a_page_too(
    evidence: Evidence, folder: Path
) -> None:
    manifest = dataclasses.replace(evidence.manifest, segments=evidence.manifest.segments[1:])
    policy = dataclasses.replace(evidence.policy, exits=(4,), thresholds=(), temperatures=(1.0,))
    alone = dataclasses.replace(
        evidence,
        manifest=manifest,
        policy=policy,
        statics=tuple(dataclasses.replace(s, timing=None) for s in evidence.statics),
    )
    path, _ = page.write(collect.findings(alone), {}, folder)
    text = path.read_text()
    assert "This bundle has one exit" in text
    assert "Left first" not in text  # no pictures were given
