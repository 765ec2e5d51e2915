"""The manifest: fixed names, whole files, lenient reading."""

from __future__ import annotations

import json
import logging
import math
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobanana_async._exceptions import InputError
from nanobanana_async.batch._manifest import (
    MANIFEST_NAMES,
    ManifestRow,
    ManifestStatus,
    read_manifest,
    relative_files,
    replacing,
    write_manifest,
)

STORED = ManifestRow(
    index=0,
    key="k",
    prompt="a cat",
    model="m",
    status=ManifestStatus.STORED,
    generation_id="clx1",
    credits=2,
    files=("images/a.png",),
    urls=("https://x/a.png",),
    expires_at=datetime(2025, 3, 1, tzinfo=UTC),
    extra={"tag": "cat", "n": [1, None]},
)
texts = st.text(max_size=40)
values = st.none() | st.booleans() | st.integers() | texts | st.lists(texts, max_size=2)


def rows() -> st.SearchStrategy[ManifestRow]:
    extras = st.dictionaries(texts.filter(lambda name: name not in MANIFEST_NAMES), values, max_size=3)
    statuses = st.sampled_from(ManifestStatus)
    return st.builds(
        ManifestRow, index=st.integers(0), prompt=texts, status=statuses, error=st.none() | texts, extra=extras
    )


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows(), max_size=4))
def test_any_rows_come_back_as_they_were(tmp_path, given_rows):
    write_manifest(tmp_path, given_rows)
    assert list(read_manifest(tmp_path)) == given_rows


def test_line_separators_quotes_and_lone_surrogates_come_back(tmp_path):
    row = ManifestRow(index=0, prompt='"\u2028\u2029\x85 \ud800 \\', status=ManifestStatus.PENDING)
    write_manifest(tmp_path, [row, STORED])
    assert list(read_manifest(tmp_path)) == [row, STORED]


def test_the_fixed_names_come_first_and_in_order():
    assert list(STORED.to_json()) == [*MANIFEST_NAMES, "tag", "n"]


def test_a_column_of_a_fixed_name_never_hides_the_fact():
    row = ManifestRow(index=0, prompt="a", status=ManifestStatus.FAILED, extra={"status": "fine"})
    assert row.to_json()["status"] == "failed"


def test_the_file_is_utf8_that_people_can_read(tmp_path):
    path = write_manifest(tmp_path, [ManifestRow(index=0, prompt="猫 & été", status=ManifestStatus.PENDING)])
    assert "猫 & été" in path.read_text("utf-8")


def test_no_column_can_make_a_line_that_is_not_json(tmp_path):
    row = ManifestRow(index=0, prompt="a", status=ManifestStatus.PENDING, extra={"x": math.nan, "y": Path("z")})
    text = write_manifest(tmp_path, [row]).read_text()
    assert json.loads(text, parse_constant=pytest.fail) | {"x": None, "y": "z"} == json.loads(text)


def test_a_torn_last_line_is_left_out_and_logged(tmp_path, caplog):
    path = write_manifest(tmp_path, [STORED, STORED])
    path.write_bytes(path.read_bytes()[:-40])
    with caplog.at_level(logging.WARNING):
        assert list(read_manifest(tmp_path)) == [STORED]
    assert "line 2 can't be read" in caplog.text


@pytest.mark.parametrize("line", [b"", b"[]", b"3", b"{}", b'{"index": 0, "prompt": "a", "status": "new"}', b"\xff"])
def test_a_line_that_is_no_row_is_left_out(tmp_path, line):
    path = write_manifest(tmp_path, [STORED])
    path.write_bytes(line + b"\n" + path.read_bytes())
    assert list(read_manifest(tmp_path)) == [STORED]


def test_odd_facts_become_none(tmp_path):
    odd = {"index": 0, "prompt": "a", "status": "stored", "credits": "x", "files": "x", "expires_at": "soon"}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(odd))
    assert list(read_manifest(tmp_path)) == [ManifestRow(index=0, prompt="a", status=ManifestStatus.STORED)]


def test_a_folder_without_a_manifest_is_told(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.jsonl: no manifest can be read here"):
        list(read_manifest(tmp_path))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_manifest(tmp_path, [STORED])
    before = path.read_bytes()

    def rows_that_break():
        yield STORED
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_manifest(tmp_path, rows_that_break())
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writers_file_is_removed_once_it_is_old(tmp_path):
    old, new = tmp_path / ".a.txt.0.part", tmp_path / ".a.txt.1.part"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    with replacing(tmp_path / "a.txt") as file:
        file.write(b"x")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.txt.1.part", "a.txt"]


def test_files_are_named_from_the_folder(tmp_path):
    assert relative_files(tmp_path, [tmp_path / "images" / "a.png"]) == ("images/a.png",)
    with pytest.raises(ValueError, match="subpath"):
        relative_files(tmp_path, [Path("/elsewhere/a.png")])


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")
def test_a_part_that_vanishes_disturbs_no_other_writer(tmp_path):
    """Another writer renames its own at any moment: here it is gone when its age is looked up."""
    (tmp_path / ".a.txt.0123abcd.part").symlink_to(tmp_path / "gone")
    with replacing(tmp_path / "a.txt") as file:
        file.write(b"whole")
    assert (tmp_path / "a.txt").read_bytes() == b"whole"
