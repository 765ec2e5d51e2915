"""Reference images: what is sent, and what is refused before anything is spent."""

import base64
import io
import os

import pytest
from PIL import Image

from nanobanana_async._exceptions import InvalidRequestError
from nanobanana_async._references import MAX_REFERENCE_BYTES, MAX_REFERENCES, check_references, encode_references

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 40
WEBP = b"RIFF\x20\0\0\0WEBP" + b"\0" * 40
GIF = b"GIF89a" + b"\0" * 40


def expected_uri(mime, data):
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


async def refusal(images):
    """The message of a refusal, which is the same before and at sending."""
    with pytest.raises(InvalidRequestError) as checked:
        check_references(images)
    with pytest.raises(InvalidRequestError) as encoded:
        await encode_references(images)
    assert str(checked.value) == str(encoded.value)
    return str(checked.value)


async def test_links_pass_through():
    """URLs and data URIs are sent as they are."""
    links = ["https://x.example/a.png?s=1", "HTTP://x.example/b", "data:image/heic;base64,AAAA"]
    check_references(links)
    assert await encode_references(links) == links


@pytest.mark.parametrize(
    ("data", "mime"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp"), (GIF, "image/gif")]
)
async def test_bytes_become_a_data_uri(data, mime):
    """The type is that of the first bytes."""
    check_references([data, bytearray(data), memoryview(data)])
    assert await encode_references([data, bytearray(data), memoryview(data)]) == [expected_uri(mime, data)] * 3


async def test_a_file_is_named_by_its_content(tmp_path):
    """A suffix may lie; a path may be a str or a Path."""
    path = tmp_path / "really-a-jpeg.png"
    path.write_bytes(JPEG)
    check_references([path, str(path)])
    assert await encode_references([path, str(path)]) == [expected_uri("image/jpeg", JPEG)] * 2


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "L", "1", "P", "LA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "La", "RGBa"]
)
async def test_a_picture_becomes_a_png(mode):
    """Also in modes that PNG can't hold."""
    picture = Image.new(mode, (3, 2))
    check_references([picture])
    (uri,) = await encode_references([picture])
    sent = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))
    assert (sent.format, sent.size) == ("PNG", (3, 2))


async def test_a_broken_picture_is_refused(tmp_path):
    """PIL decodes on use, so a truncated file shows up at encoding."""
    path = tmp_path / "cut.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:500])
    with Image.open(path) as picture, pytest.raises(InvalidRequestError, match="reference image 1 can't be encoded"):
        await encode_references([picture])


async def test_order_is_kept(tmp_path):
    """The service is told the references in the order given."""
    path = tmp_path / "x.webp"
    path.write_bytes(WEBP)
    encoded = await encode_references([GIF, "https://x.example/a", path])
    assert [uri[:15] for uri in encoded] == ["data:image/gif;", "https://x.examp", "data:image/webp"]


async def test_a_tenth_reference_is_refused():
    """The API takes nine."""
    check_references([PNG] * MAX_REFERENCES)
    assert "10 reference images" in await refusal([PNG] * (MAX_REFERENCES + 1))


@pytest.mark.parametrize("as_file", [True, False])
async def test_a_large_image_is_refused_with_its_size(tmp_path, as_file):
    """The message says what to do about it."""
    data = PNG.ljust(MAX_REFERENCE_BYTES + 100_000, b"\0")
    path = tmp_path / "large.png"
    path.write_bytes(data)
    message = await refusal([PNG, path if as_file else data])
    assert message.startswith("reference image 2")
    assert "1.6 MB" in message
    assert "shrink it" in message


async def test_an_image_of_the_full_size_is_taken(tmp_path):
    """The bound itself is allowed."""
    path = tmp_path / "full.png"
    path.write_bytes(PNG.ljust(MAX_REFERENCE_BYTES, b"\0"))
    check_references([path])
    assert len(await encode_references([path])) == 1


async def test_a_large_data_uri_is_refused():
    """Its size is that of the image, not of the text."""
    assert "MB" in await refusal([f"data:image/png;base64,{'A' * (MAX_REFERENCE_BYTES * 4 // 3 + 8)}"])
    check_references([f"data:image/png;base64,{'A' * (MAX_REFERENCE_BYTES * 4 // 3)}"])


@pytest.mark.parametrize("uri", ["data:text/plain;base64,AAAA", "data:image/png,AAAA", "data:,"])
async def test_a_data_uri_must_be_an_image(uri):
    """And base64, which is all that the API was seen to take."""
    assert "no data URI of an image" in await refusal([uri])


async def test_a_missing_file_is_named():
    """So that a batch's typing error is found before it is paid."""
    assert "'no/such/cat.png') does not exist" in await refusal(["no/such/cat.png"])


async def test_a_folder_is_named(tmp_path):
    """A folder is no image."""
    message = await refusal([tmp_path])
    assert str(tmp_path) in message
    assert "folder" in message


async def test_a_pipe_is_not_read(tmp_path):
    """Reading it might never end."""
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a file" in await refusal([tmp_path / "pipe.png"])


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000])
async def test_an_impossible_name_is_refused(name):
    """With the same error as any other path."""
    assert "reference image 1" in await refusal([name])


async def test_a_text_file_is_named(tmp_path):
    """What is no image is refused by its first bytes, whatever its suffix."""
    path = tmp_path / "page.png"
    path.write_bytes(b"<!doctype html>")
    assert str(path) in await refusal([path])


@pytest.mark.parametrize("data", [b"", b"hello world, I am text"])
async def test_bytes_that_are_no_image_are_refused(data):
    """Bytes have no name but their place."""
    assert "reference image 1 is no image" in await refusal([data])


async def test_any_other_object_is_refused():
    """The message says what may be given."""
    with pytest.raises(InvalidRequestError, match="is a int; give a URL"):
        check_references([7])
    with pytest.raises(InvalidRequestError, match="is a int; give a URL"):
        await encode_references([7])
