"""Foreign text is fit for a document before it is escaped."""

from __future__ import annotations

from secateur.report.text import block_list, listed, one_line, parted, plural, printable


def test_controls_surrogates_and_overrides_are_replaced() -> None:
    assert printable("a\x00b\x1b[31mc\ud800d\u202ee\uffff") == "a\ufffdb\ufffd[31mc\ufffdd\ufffde\ufffd"
    assert printable("tab\tand\r\nline\rends") == "tab\tand\nline\nends"


def test_one_line_is_cut_in_the_middle() -> None:
    assert one_line("a\n b\t c") == "a b c"
    assert one_line("x" * 50 + "y" * 50, limit=11) == "xxxxx…yyyyy"


def test_block_lists_draw_runs_together() -> None:
    assert block_list([9, 3, 4, 5]) == "3–5, 9"
    assert block_list([1, 2]) == "1, 2"
    assert block_list([]) == "none"


def test_what_stands_between_backticks_is_code() -> None:
    assert parted("gate `max_kl` of `a b`") == [("gate ", False), ("max_kl", True), (" of ", False), ("a b", True)]
    assert parted("a lone ` stays") == [("a lone ` stays", False)]
    assert parted("") == []


def test_words() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert plural(1, "block") == "1 block"
    assert plural(6000, "block") == "6,000 blocks"
