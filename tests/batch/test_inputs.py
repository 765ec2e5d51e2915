"""Inputs: what is read, and how each fault is told."""

from __future__ import annotations

import io
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanobanana_async._exceptions import InputError, InvalidRequestError
from nanobanana_async.batch._columns import FIELDS, meant
from nanobanana_async.batch._inputs import MAX_OWN, ModelCounts, RowDefaults, check_input, read_rows, spool
from nanobanana_async.batch._keys import MAX_TOLD, KeyHashes, RepeatedKey, name_keys

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def write(tmp_path):
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def fault(source, **options) -> InputError:
    with pytest.raises(InputError) as caught:
        check_input(source, **options)
    return caught.value


def only(source, **options):
    [row] = read_rows(source, **options)
    return row


# ---- what is read


def test_text_gives_a_row_a_line_and_skips_blank_ones(write):
    rows = list(read_rows(write("p.txt", "a cat\n\n  \na fox\n")))
    assert [(row.index, row.line, row.request.prompt) for row in rows] == [(0, 1, "a cat"), (1, 4, "a fox")]


def test_json_lines_take_every_field(write):
    row = {"key": "k", "prompt": "a", "model": "m", "aspect_ratio": "16:9", "quantity": 2}
    source = write("p.jsonl", json.dumps(row | {"reference_images": ["https://x/a.png"]}))
    request = only(source).request
    assert (request.model, request.aspect_ratio, request.quantity) == ("m", "16:9", 2)
    assert request.reference_images == ("https://x/a.png",)


def test_the_wires_names_are_taken_too(write):
    row = {"prompt": "a", "selectedModel": "m", "aspectRatio": "1:1", "referenceImageUrls": ["data:image/png;,"]}
    request = only(write("p.jsonl", json.dumps(row))).request
    assert (request.model, request.aspect_ratio) == ("m", "1:1")
    assert request.reference_images == ("data:image/png;,",)


def test_other_columns_are_kept_in_order(write):
    row = only(write("p.jsonl", '{"z": [1], "prompt": "a", "a": null, "m": {"n": 2}}'))
    assert list(row.extra.items()) == [("z", [1]), ("a", None), ("m", {"n": 2})]


def test_own_columns_are_told_by_their_names(write):
    rows = [{"prompt": "a", "ratio": 1}, {"prompt": "b", "count": 2, "ratio": 3, "models_seen": 1}]
    assert check_input(write("p.jsonl", "\n".join(map(json.dumps, rows)))).own == ["ratio", "count", "models_seen"]
    many = {"prompt": "a"} | {f"tag {number}": number for number in range(100)}
    assert check_input(write("p.jsonl", json.dumps(many))).own == [f"tag {number}" for number in range(MAX_OWN)]


def test_csv_cells_may_span_lines_and_the_row_keeps_its_first_line(write):
    source = write("p.csv", 'prompt,tag\r\n"a cat,\r\non a wall",x\r\na fox,y\r\n')
    rows = list(read_rows(source))
    assert [(row.line, row.request.prompt) for row in rows] == [(2, "a cat,\non a wall"), (4, "a fox")]
    assert [row.extra for row in rows] == [{"tag": "x"}, {"tag": "y"}]


def test_csv_empty_cells_are_left_to_the_defaults(write):
    row = only(write("p.csv", "prompt,model,quantity\na,,\n"), defaults=RowDefaults(model="m", quantity=3))
    assert (row.request.model, row.request.quantity) == ("m", 3)


@pytest.mark.parametrize("cell", ["a.png|b c.png", '"[""a.png"", ""b c.png""]"'])
def test_csv_lists_references_by_bars_or_as_json(write, tmp_path, cell):
    for name in ("a.png", "b c.png"):
        write(name, b"x")
    row = only(write("p.csv", f"prompt,reference_images\np,{cell}\n"))
    assert row.request.reference_images == (tmp_path / "a.png", tmp_path / "b c.png")


def test_csv_lists_references_by_spaces(write):
    row = only(write("p.csv", "prompt,reference_images\np,https://x/a.png  https://x/b.png\n"))
    assert row.request.reference_images == ("https://x/a.png", "https://x/b.png")


def test_one_reference_with_a_space_in_its_name_is_one(write, tmp_path):
    write("my cat.png", b"x")
    row = only(write("p.jsonl", '{"prompt": "a", "reference_images": "my cat.png"}'))
    assert row.request.reference_images == (tmp_path / "my cat.png",)


def test_a_csv_cell_may_hold_a_large_data_uri(write):
    uri = "data:image/png;base64," + "A" * 300_000
    assert only(write("p.csv", f'prompt,reference_images\np,"{uri}"\n')).request.reference_images == (uri,)


def test_defaults_fill_only_what_a_row_leaves_open(write):
    source = write("p.jsonl", '{"prompt": "a", "model": "own"}\n{"prompt": "b"}\n')
    defaults = RowDefaults(model="m", aspect_ratio="1:1", quantity=2)
    requests = [row.request for row in read_rows(source, defaults=defaults)]
    assert [(r.model, r.aspect_ratio, r.quantity) for r in requests] == [("own", "1:1", 2), ("m", "1:1", 2)]


def test_defaults_that_no_request_could_carry_are_refused_at_once():
    with pytest.raises(InvalidRequestError, match="quantity"):
        RowDefaults(quantity=0)


def test_a_byte_order_mark_is_no_part_of_the_first_prompt(write):
    assert only(write("p.txt", b"\xef\xbb\xbfa cat\r\n")).request.prompt == "a cat"


def test_lines_end_at_newlines_only(write):
    prompt = "one\u2028two\u2029three\x85four\x0cfive\x1csix"
    assert only(write("p.jsonl", json.dumps({"prompt": prompt}, ensure_ascii=False))).request.prompt == prompt
    assert only(write("p.txt", prompt)).request.prompt == prompt


@pytest.mark.parametrize(
    ("text", "prompts"), [(b"\n{not json\n", None), (b'\n {"prompt": "a"}\n', ["a"]), (b"a\nb", ["a", "b"])]
)
def test_standard_input_is_json_when_its_first_line_opens_an_object(text, prompts):
    if prompts is None:
        assert "standard input, line 2, column 2: not JSON" in str(fault("-", stdin=io.BytesIO(text)))
    else:
        assert [row.request.prompt for row in read_rows("-", stdin=io.BytesIO(text))] == prompts


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b'\nkey,prompt\nk,"a cat, asleep"\n', [("k", "a cat, asleep")]),
        (b"prompt\na cat\n", [(None, "a cat")]),
        (b'"prompt", key\na cat,k\n', [("k", "a cat")]),
        (b"prompt me, please\na cat\n", [(None, "prompt me, please"), (None, "a cat")]),
    ],
)
def test_standard_input_is_csv_when_its_first_line_names_the_prompts_column(text, found):
    """Or the header would be drawn and paid, and every row's key with its prompt."""
    assert [(row.key, row.request.prompt) for row in read_rows("-", stdin=io.BytesIO(text))] == found


def test_lines_of_csv_on_standard_input_are_counted_from_its_first():
    assert "line 4: 2 cells" in str(fault("-", stdin=io.BytesIO(b"\nprompt\na cat\nanother, asleep\n")))


def test_spooled_standard_input_can_be_checked_and_then_read():
    with spool(io.BytesIO(b"a\nb\n")) as stdin:
        assert check_input("-", stdin=stdin).rows == 2
        stdin.seek(0)
        assert [row.request.prompt for row in read_rows("-", stdin=stdin)] == ["a", "b"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), min_size=1))
def test_any_prompt_survives_json_lines(write, prompts):
    source = write("p.jsonl", "\n".join(json.dumps({"prompt": p}, ensure_ascii=False) for p in prompts))
    assert [row.request.prompt for row in read_rows(source)] == prompts


def test_counts_are_what_a_preflight_needs(write):
    row = {"prompt": "a", "model": "m", "quantity": 2, "reference_images": ["data:,a", "data:,b", "data:,c"]}
    counts = check_input(write("p.jsonl", json.dumps(row) + '\n{"prompt": "b"}\n'))
    assert (counts.rows, counts.images) == (2, 3)
    assert counts.by_model == {"m": ModelCounts(1, 2, 4), "nano-banana": ModelCounts(1, 1, 0)}


def test_memory_stays_flat(write):
    source = write("p.txt", "a cat on a wall\n" * 10_000)
    tracemalloc.start()
    try:
        assert check_input(source).rows == 10_000
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


def test_keys_that_come_twice_are_named_with_their_lines(write):
    rows = [{"prompt": "a", "key": key} for key in ("cat", "dog", None, "cat", None, "owl", "dog", *["cat"] * 9)]
    source = write("p.jsonl", "\n".join(map(json.dumps, rows)))
    number, some = check_input(source).keys.repeated()
    assert number == 2
    assert name_keys(((row.key, row.line) for row in read_rows(source)), some) == [
        RepeatedKey("cat", [1, 4, 8, 9, 10], 11),
        RepeatedKey("dog", [2, 7], 2),
    ]


@given(st.lists(st.text(max_size=2), max_size=60))
def test_a_key_counts_as_repeated_exactly_when_it_is(keys):
    hashes = KeyHashes()
    for key in keys:
        hashes.add(key)
    number, some = hashes.repeated()
    repeated = {key for key in keys if keys.count(key) > 1}
    assert number == len(repeated)
    assert some <= {hash(key) for key in repeated}
    assert len(some) == min(number, MAX_TOLD)


def test_keys_take_little_memory():
    """8 bytes each, and what an array sets aside to grow."""
    tracemalloc.start()
    try:
        hashes = KeyHashes()
        for number in range(100_000):
            hashes.add(f"key-{number}")
        assert hashes.repeated() == (0, frozenset())
        assert tracemalloc.get_traced_memory()[1] < 100_000 * 10
    finally:
        tracemalloc.stop()


def test_the_example_is_a_good_input():
    counts = check_input(EXAMPLES / "prompts.jsonl")
    assert counts.rows == 24
    assert 28 <= counts.images <= 36
    assert len({row.key for row in read_rows(EXAMPLES / "prompts.jsonl")}) == 24


# ---- how faults are told


def test_a_fault_names_file_line_and_column_and_says_what_to_do(write):
    source = write("p.jsonl", '{"prompt": "a"}\n\n{"prompt": "b", "quantity": 0}\n')
    error = fault(source)
    assert str(error) == f"{source}, line 3, quantity: must be at least 1 (got 0); fix the line and run again"
    assert (error.source, error.line, error.column) == (str(source), 3, "quantity")


JSON_FAULTS = {
    '{"prompt": }': ("column 12: not JSON", "12"),
    '{"prompt": "a"} x': ("column 17: not JSON", "17"),
    '{"prompt": "a", "x": NaN}': ("NaN is no JSON number", None),
    '{"prompt": "a", "x": 1e999}': ("1e999 is no JSON number", None),
    "[" * 100_000: ("not JSON", None),
    '["a"]': ("a row must be an object", None),
    '"a cat"': ("a row must be an object", None),
    "{}": ("prompt: the prompt is missing or blank", "prompt"),
    '{"prompt": "  "}': ("prompt: the prompt is blank", "prompt"),
    '{"prompt": 3}': ("prompt: Input should be a valid string", "prompt"),
    '{"prompt": "\\ud800"}': ("not JSON ('utf-8' codec can't encode", None),
    '{"prompt": "a", "quantity": "two"}': ("quantity: must be a whole number (got 'two')", "quantity"),
    '{"prompt": "a", "quantity": 1.5}': ("quantity: must be a whole number (got 1.5)", "quantity"),
    '{"prompt": "a", "quantity": true}': ("quantity: must be a whole number (got True)", "quantity"),
    '{"prompt": "a", "quantity": [1]}': ("quantity: must be a whole number (got [1])", "quantity"),
    '{"prompt": "a", "aspectRatio": "wide"}': ("aspectRatio: 'wide' is no aspect ratio", "aspectRatio"),
    '{"prompt": "a", "model": 3}': ("model: Input should be a valid string", "model"),
    '{"prompt": "a", "model": "m", "selectedModel": "n"}': ("same field under two names", "selectedModel"),
    '{"prompt": "a", "key": {}}': ("key: must be a text", "key"),
    '{"prompt": "a", "status": "new"}': ("the manifest has its own column of this name", "status"),
    '{"prompt": "a", "Model": "m"}': ("Model: did you mean 'model'? It is too near", "Model"),
    '{"prompt": "a", "model": "m", "models": 1}': ("models: did you mean 'model'?", "models"),
    '{"prompt": "a", "reference_images": [1]}': ("must be a list of URLs", "reference_images"),
    '{"prompt": "a", "reference_images": ["no.png"]}': ("no image file at", "reference_images"),
    '{"prompt": "a", "reference_images": ["' + "A" * 5000 + '/no.png"]}': ("AA/no.png'; fix", "reference_images"),
}


@pytest.mark.parametrize("line", JSON_FAULTS, ids=lambda line: line[:40])
def test_a_bad_json_line_is_told(write, line):
    message, column = JSON_FAULTS[line]
    error = fault(write("p.jsonl", '{"prompt": "fine"}\n' + line + "\n"))
    assert message in str(error)
    assert (error.line, error.column) == (2, column)


def test_a_missing_reference_is_named_however_deep_its_folder(write):
    name = "/".join(["folder"] * 20) + "/no.png"
    row = json.dumps({"prompt": "a", "reference_images": [name]})
    assert "folder/no.png'" in str(fault(write("p.jsonl", row + "\n")))


CSV_FAULTS = {
    "text,tag\na,b\n": (1, "prompt", "no column is named prompt (found: text, tag)"),
    "prompt,\na,b\n": (1, "2", "this column has no name"),
    "prompt,tag,tag\na,b,c\n": (1, "tag", "two columns have this name"),
    "prompt,credits\na,1\n": (2, "credits", "the manifest has its own column of this name"),
    "prompt,tag\na,b,c\n": (2, None, "3 cells for 2 columns"),
    "prompt,tag\na,b\n ,x\n": (3, "prompt", "the prompt is blank"),
    "prompt,quantity\na,\nb,many\n": (3, "quantity", "must be a whole number (got 'many')"),
    "prompt,aspect ratio\na,16:9\n": (1, "aspect ratio", "did you mean 'aspect_ratio'? Rename it in the first row"),
    "Prompt,tag\na,b\n": (1, "Prompt", "did you mean 'prompt'?"),
    'prompt\na\n"never closed\nb\n': (3, None, "a double quote that is not closed"),
    "prompt,reference_images\na,[\n": (2, "reference_images", "not a JSON list"),
}


@pytest.mark.parametrize("text", CSV_FAULTS)
def test_a_bad_csv_row_is_told(write, text):
    line, column, message = CSV_FAULTS[text]
    error = fault(write("p.csv", text))
    assert message in str(error)
    assert (error.line, error.column) == (line, column)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Model", "model"),
        ("MODELS", "model"),
        ("aspect ratio", "aspect_ratio"),
        ("Aspect-Ratio", "aspect_ratio"),
        ("aspectratio", "aspect_ratio"),
        ("reference_image", "reference_images"),
        ("referenceImages", "reference_images"),
        ("reference_image_urls", "reference_images"),
        ("selected_model", "model"),
        ("Keys", "key"),
        ("ratio", None),
        ("count", None),
        ("model_notes", None),
        ("M" * 10_000, None),
        *((name, None) for name in FIELDS),
    ],
)
def test_a_name_that_is_nearly_one_of_ours_is_known_for_it(name, near):
    """It differs by case, spaces, hyphens, underscores or the plural only; any other is a column of one's own."""
    assert meant(name) == near


def test_a_header_that_nearly_names_the_prompts_column_is_none_of_the_prompts():
    """On standard input it would be drawn and paid."""
    assert "line 1, Prompt: did you mean 'prompt'?" in str(fault("-", stdin=io.BytesIO(b"Prompt,Model\na,m\n")))


@pytest.mark.parametrize("name", ["p.txt", "p.jsonl", "p.csv"])
def test_what_is_not_utf8_is_told_with_its_line_and_offset(write, name):
    first = b'{"prompt": "a"}\n' if name == "p.jsonl" else b"prompt\n"
    error = fault(write(name, first + b"caf\xe9\n"))
    assert error.line == 2
    assert f"line 2: not UTF-8 (byte 0xe9 at offset {len(first) + 3})" in str(error)


@pytest.mark.parametrize(
    ("name", "text"), [("p.txt", ""), ("p.txt", "\n \n"), ("p.jsonl", "\n"), ("p.csv", ""), ("p.csv", "prompt\n\n")]
)
def test_an_input_without_a_prompt_is_told(write, name, text):
    assert "no prompt in it" in str(fault(write(name, text)))


def test_an_unknown_suffix_is_told(write):
    assert ".xlsx files can't be read; use .txt" in str(fault(write("p.xlsx", "a")))


def test_a_missing_file_is_told(tmp_path):
    assert "p.txt: no such file" in str(fault(tmp_path / "p.txt"))


def test_a_folder_is_told(tmp_path):
    assert "this is a folder" in str(fault(tmp_path))


def test_an_unreadable_file_is_told(tmp_path):
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    assert "can't be read (" in str(fault(tmp_path / "loop.txt"))


def test_rows_before_a_fault_are_still_given(write):
    rows = read_rows(write("p.jsonl", '{"prompt": "a"}\n{bad\n'))
    assert next(rows).request.prompt == "a"
    with pytest.raises(InputError, match="line 2"):
        next(rows)
