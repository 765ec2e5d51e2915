"""First bytes, file names and links."""

import base64
import os
import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from nanobanana_async import _images
from nanobanana_async._exceptions import DownloadError, NotAnImageError
from nanobanana_async._images import (
    ImageFormat,
    data_uri,
    decode_data_uri,
    resolve_url,
    safe_stem,
    show_url,
    slug,
    sniff,
)

BASE_URL = "https://www.nananobanana.com/api/v1"
HEADS = {
    ImageFormat.PNG: b"\x89PNG\r\n\x1a\n",
    ImageFormat.JPEG: b"\xff\xd8\xff\xe0",
    ImageFormat.WEBP: b"RIFF\x00\x01\x00\x00WEBP",
}
HOSTILE = st.text(st.characters(), max_size=150) | st.text(st.sampled_from("./\\.~-_ a\0:é"), max_size=40)


@given(st.sampled_from(list(ImageFormat)), st.binary(max_size=64))
def test_a_format_is_known_by_its_first_bytes(image_format, rest):
    """What follows the signature does not matter."""
    assert sniff(HEADS[image_format] + rest) is image_format


@given(st.binary(max_size=64))
@example(b"")
@example(b"RIFF\x00\x00\x00\x00WAVE")
@example(b"<!doctype html>")
@example(b'{"error":"not here"}')
@example(b"GIF89a")
def test_other_bytes_are_no_image(head):
    """Only the three formats that the service sends are images."""
    assume(not head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")) and head[8:12] != b"WEBP")
    assert sniff(head) is None


@given(st.sampled_from(list(ImageFormat)), st.binary(min_size=12, max_size=64))
def test_twelve_bytes_are_enough(image_format, rest):
    """The verdict on the first bytes is the verdict on the whole file."""
    data = HEADS[image_format] + rest
    assert sniff(data[: _images.SNIFF_BYTES]) is sniff(data)


@pytest.mark.parametrize(
    ("image_format", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("WEBP", "image/webp")]
)
def test_a_format_knows_its_mime(image_format, mime):
    """As data URIs need it."""
    assert ImageFormat[image_format].mime == mime


@pytest.mark.parametrize("text", ["clx9abc", "000001-an-orange-cat", "Cat 2.5", "橙色的猫", "गुलाबी", "a_b-c.d", "_x"])
def test_a_safe_name_is_left_alone(text):
    """Ids and slugs are readable as they are."""
    assert safe_stem(text) == text


@pytest.mark.parametrize(
    "text", ["", ".", "..", "../../x", "/etc/passwd", "C:\\x", "a\0b", "con", "NUL.txt", "com1", "lpt²", "CON .x",
             ".hidden", "-rf", "x.", "x ", "a/b", "a:b", "a~b", "e\u0301", "\ud800", "\u202egnp", "a" * 400, "猫" * 99]
)  # fmt: skip
def test_an_unsafe_name_is_cleaned_and_marked(text):
    """What was changed carries a hash of what it was."""
    stem = safe_stem(text)
    assert stem != text
    assert stem[-9] == "~"
    assert set(stem[-8:]) <= set(string.hexdigits)


@given(HOSTILE)
@example("../../x")
@example("con")
@example("a\0b")
def test_a_stem_stays_in_its_folder(text):
    """No separator, no dots at the edges, no control character, no more bytes than a file system takes."""
    stem = safe_stem(text)
    assert stem == os.path.basename(stem)  # noqa: PTH119  a Path would hide what it cleans away
    assert not set(stem) & set('\0/\\:*?"<>|\n\r')
    assert stem[0] not in ". -"
    assert stem[-1] not in ". "
    assert len(stem.encode()) <= _images.MAX_STEM_BYTES + 1 + 1 + _images.HASH_DIGITS


@given(st.lists(HOSTILE, min_size=2, max_size=12, unique=True))
def test_different_texts_never_share_a_name(texts):
    """Not even where cleaning makes them alike."""
    assert len({safe_stem(text) for text in texts}) == len(texts)


@pytest.mark.parametrize(("one", "other"), [("a/b", "a_b"), ("a/b", "a\\b"), ("x", "x."), ("a" * 200, "a" * 201)])
def test_texts_that_clean_alike_stay_apart(one, other):
    """The hash is that of the original."""
    assert safe_stem(one) != safe_stem(other)


def test_a_marked_name_can_not_be_forged():
    """A text that looks like the outcome of cleaning is cleaned itself."""
    assert safe_stem(safe_stem("a/b")) != safe_stem("a/b")


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("An orange cat, sitting!", "an-orange-cat-sitting"),
        ("  ", "image"),
        ("../../etc", "etc"),
        ("橙色 猫", "橙色-猫"),
        ("word " * 30, "-".join(["word"] * 12)),
        ("x" * 99, "x" * 60),
    ],
)
def test_a_prompt_becomes_a_readable_slug(prompt, expected):
    """Words with dashes between them, cut after a whole word."""
    assert slug(prompt) == expected


@given(HOSTILE)
def test_a_slug_needs_no_cleaning(prompt):
    """Behind an index it is a safe name already, so batch names stay readable."""
    assert safe_stem(f"000001-{slug(prompt)}") == f"000001-{slug(prompt)}"


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("https://cdn.example/a%2Fb.png?sig=A%2BB", "https://cdn.example/a%2Fb.png?sig=A%2BB"),
        ("HTTP://cdn.example/x?", "HTTP://cdn.example/x?"),
        ("/files/x.png?s=1", "https://www.nananobanana.com/files/x.png?s=1"),
        ("//cdn.example/x.png", "https://cdn.example/x.png"),
        ("files/x.png", f"{BASE_URL}/files/x.png"),
        (" https://cdn.example/x \n", "https://cdn.example/x"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
    ],
)
def test_a_link_is_resolved_against_the_api(link, expected):
    """Absolute links stay as they are, to the byte; relative ones belong to the API's host."""
    assert resolve_url(link, BASE_URL) == expected


@pytest.mark.parametrize(
    "link", ["", "ftp://x/y.png", "file:///etc/passwd", "javascript:alert(1)", "https://", "http://[x"]
)
def test_other_schemes_are_refused(link):
    """Only http, https and data are fetched."""
    with pytest.raises(DownloadError, match="no image link"):
        resolve_url(link, BASE_URL)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://cdn.example/x.png?X-Signature=secret#f", "https://cdn.example/x.png"),
        ("https://user:secret@cdn.example/x.png", "https://cdn.example/x.png"),
        ("data:image/png;base64,iVBORsecret", "data:image/png;base64,…"),
    ],
)
def test_a_shown_link_tells_no_secret(url, shown):
    """Signed links carry secrets in their query."""
    assert show_url(url) == shown


@given(st.binary(max_size=200))
def test_a_data_uri_gives_its_bytes_back(data):
    """Encoding and decoding are inverse."""
    assert decode_data_uri(data_uri(data, "image/png")) == data


@pytest.mark.parametrize(
    "uri",
    [
        "DATA:image/PNG;BASE64,/+8=",
        "data:image/png;charset=utf-8;base64,/+8=",
        "data:image/png;base64,/+8",
        "data:image/png;base64,%2F%2B8%3D",
        "data:image/png;base64,/+\n8=",
    ],
)
def test_a_sloppy_data_uri_is_understood(uri):
    """Case, parameters, percent signs, line breaks and missing padding are forgiven."""
    assert decode_data_uri(uri) == base64.b64decode("/+8=")


@pytest.mark.parametrize(
    "uri", ["data:text/html;base64,AAAA", "data:image/png,AAAA", "data:image/png;base64", "data:image/png;base64,A"]
)
def test_a_data_uri_that_is_no_image_is_refused(uri):
    """And its payload is not repeated."""
    with pytest.raises(NotAnImageError) as caught:
        decode_data_uri(uri)
    assert "AAAA" not in str(caught.value)
