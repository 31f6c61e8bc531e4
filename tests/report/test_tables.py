from exitkit.report import tables
from exitkit.report.tables import Column

ROWS = [
    {"name": "deep|2", "share": 0.5, "ms": 12.345, "kept": True},
    {"name": "a", "share": None, "ms": 3.0, "kept": False},
]
COLUMNS = [
    Column("name", "policy"),
    Column("share", "share", ".1%"),
    Column("ms", "ms", ".2f"),
    Column("kept", "kept"),
]


def test_text_sets_numbers_right_and_words_left() -> None:
    assert tables.text(ROWS, COLUMNS) == (
        "policy  share     ms  kept\n"
        "deep|2  50.0%  12.35  yes\n"
        "a               3.00  no"
    )  # fmt: skip


def test_markdown_escapes_what_would_end_a_cell() -> None:
    assert tables.markdown(ROWS, COLUMNS) == (
        "| policy | share | ms | kept |\n"
        "| --- | ---: | ---: | --- |\n"
        "| deep\\|2 | 50.0% | 12.35 | yes |\n"
        "| a |  | 3.00 | no |"
    )


def test_without_rows_the_headings_remain() -> None:
    assert tables.text([], COLUMNS[:2]) == "policy  share"
