"""Prompts from a file: one a line, and one sentence for every file that is none."""

from __future__ import annotations

import pytest

from edgestream.calibration.prompts import prompts_from_file
from edgestream.runtime.errors import UsageError


def test_one_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes("\ufeffWho is there?\r\n\n   \nWo ist\u2028die Tür?\n".encode())
    assert prompts_from_file(file) == ("Who is there?", "Wo ist\u2028die Tür?")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        (b"", "no line with words"),
        (b" \n\n", "no line with words"),
        (b"\xff\xfe\x00", "no UTF-8 text"),
        (b"a" * 4001, "4001 characters"),
    ],
)
def test_a_file_that_is_none(tmp_path, content, words):
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=words) as fault:
        prompts_from_file(file)
    assert fault.value.hint
