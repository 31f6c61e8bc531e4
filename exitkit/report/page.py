"""The report: one HTML file that asks nothing of the network, and one PNG."""

import base64
import html
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from exitkit.atomic import write_text
from exitkit.report import figures, frontier, sections
from exitkit.report.collect import Findings, Leaver
from exitkit.report.frontier import Verdict
from exitkit.report.theme import DARK, LIGHT

HTML, PNG = "report.html", "report.png"


def write(findings: Findings, pictures: Mapping[int, bytes], folder: Path) -> tuple[Path, Path]:
    """Write report.html and report.png into a folder, replacing older ones; return their paths.

    Args:
        findings: what is to be said.
        pictures: PNG file of test images by their row in the scores; those that the findings
            name and that are missing here are left out.
        folder: is made where it is not there.
    """
    verdict = frontier.verdict(findings)
    page, poster = folder / HTML, folder / PNG
    figures.poster(findings, verdict.headline, poster)
    write_text(page, render(findings, verdict, pictures))
    return page, poster


def render(findings: Findings, verdict: Verdict, pictures: Mapping[int, bytes]) -> str:
    """Return the whole page."""
    evidence = findings.evidence
    title = f"{evidence.card.method} on {evidence.card.arch}, {evidence.data}"
    parts = [
        f"<header><p>exitkit report, run {_safe(evidence.run)}</p><h1>{_safe(title)}</h1></header>",
        _verdict(verdict),
        sections.tiles(findings),
        _charts(findings),
        sections.operating(findings),
        sections.segments(findings),
        sections.trained(findings),
        _reliability(findings),
        _images(findings, pictures),
        sections.conditions(findings),
    ]
    style = files("exitkit.report").joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_safe(title)}: exitkit report</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _verdict(verdict: Verdict) -> str:
    kind = "verdict" if verdict.pays else "verdict no"
    reasons = "".join(f"<li>{_safe(reason)}</li>" for reason in verdict.reasons)
    return f'<div class="{kind}"><strong>{_safe(verdict.headline)}</strong><ul>{reasons}</ul></div>'


def _charts(findings: Findings) -> str:
    charts = [
        (figures.latency, "accuracy against measured time per image"),
        (figures.macs, "accuracy against multiply-adds per image"),
        (figures.shares, "share of images per exit as the threshold sweeps"),
        (figures.exits, "what each exit answers at the recommended threshold"),
    ]
    return (
        '<div class="two">'
        + "".join(
            "<section>"
            + _picture(figures.svg(draw, findings, LIGHT), figures.svg(draw, findings, DARK), text)
            + "</section>"
            for draw, text in charts
        )
        + "</div>"
    )


def _reliability(findings: Findings) -> str:
    return (
        "<section><h2>Can the confidence be trusted?</h2>"
        "<p>Each bar holds the test images that an exit answers with that confidence, after its "
        "temperature; on the dashed line the confidence is exactly the share of right answers. "
        "Faint bars hold few images. All images are counted, also those that would have left "
        "before.</p>"
        + _picture(
            figures.reliability_svg(findings, LIGHT),
            figures.reliability_svg(findings, DARK),
            "reliability of each exit",
        )
        + "</section>"
    )


def _picture(light: str, dark: str, text: str) -> str:
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{_safe(text)}"></picture></figure>'
    )


def _images(findings: Findings, pictures: Mapping[int, bytes]) -> str:
    groups = [
        (f"Left first, at exit {findings.evidence.manifest.exits[0]}",
         "The images of which the first exit was surest, the classes in turn.", findings.first),
        (f"Left last, at exit {findings.evidence.manifest.exits[-1]}",
         "The test images of which the first exit was least sure.", findings.last),
    ]  # fmt: skip
    shown = [
        f"<h2>{title}</h2><p>{text}</p>{_gallery(leavers, pictures)}"
        for title, text, leavers in groups
        if any(leaver.row in pictures for leaver in leavers)
    ]
    return f"<section>{''.join(shown)}</section>" if shown else ""


def _gallery(leavers: Sequence[Leaver], pictures: Mapping[int, bytes]) -> str:
    shown = []
    for leaver in leavers:
        if leaver.row not in pictures:
            continue
        source = base64.b64encode(pictures[leaver.row]).decode()
        right = leaver.answer == leaver.truth
        words = (
            _safe(leaver.answer)
            if right
            else (f'<span class="wrong">{_safe(leaver.answer)}</span>, is {_safe(leaver.truth)}')
        )
        shown.append(
            f'<figure><img src="data:image/png;base64,{source}" alt="{_safe(leaver.truth)}">'
            f"<figcaption>{words}<br>{leaver.probability:.1%}</figcaption></figure>"
        )
    return f'<div class="images">{"".join(shown)}</div>'


def _safe(text: str) -> str:
    return html.escape(text)
