"""Pictures, and the origin that serves them."""

from __future__ import annotations

import base64
import io
import sys
from typing import Any

import pytest
from calling import Open
from PIL import Image

from nanobanana_async.emulator import _images

DAY = 86_400


def opened(data: bytes) -> Image.Image:
    """A picture, decoded whole."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_every_format_can_be_drawn(image_format: str) -> None:
    """At the size asked for."""
    picture = opened(_images.draw("a cat", 0, "default", 256, image_format))
    assert (picture.format or "").lower() == image_format
    assert picture.size == (256, 256)


@pytest.mark.parametrize(
    ("ratio", "size"),
    [("auto", (96, 96)), ("16:9", (96, 54)), ("9:16", (54, 96)), ("1:8", (12, 96)), ("8:1", (96, 12))],
)
def test_the_aspect_ratio_is_kept(ratio: str, size: tuple[int, int]) -> None:
    """The longer side has the size asked for."""
    assert opened(_images.draw("a cat", 0, ratio, 96, "png")).size == size


def test_the_same_prompt_gives_the_same_bytes_and_another_index_others() -> None:
    """Pictures are a function of prompt and index."""
    one, again, second = (_images.draw("a cat", index, "default", 128, "png") for index in (0, 0, 1))
    assert one == again != second


@pytest.mark.parametrize(
    "prompt", ["日本の山", "🦊 and 👩‍🚀", "\x00\x07", "\ud800", "x" * 9000, "عربي", "e\u0301", "word " * 900]
)
def test_no_prompt_is_too_odd_to_be_drawn(prompt: str) -> None:
    """The font knows Latin only; the rest is told by dots and names."""
    assert opened(_images.draw(prompt, 0, "21:9", 128, "png")).size == (128, 55)


def test_the_prompt_is_written_in_the_lightest_tone() -> None:
    """Light on the dark ground: the tones between are few there, without a prompt as with one."""
    tones = [
        opened(_images.draw(prompt, 0, "1:1", 512, "png")).crop((0, 450, 512, 512)).getextrema()[1]
        for prompt in ("a cat", "\u200b")
    ]
    assert tones[0] > 200 > 100 > tones[1]  # type: ignore[operator]


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra, by its name."""
    for name in ("_lettering", "_scenery"):
        monkeypatch.delattr(f"nanobanana_async.emulator.{name}", raising=False)
        monkeypatch.setitem(sys.modules, f"nanobanana_async.emulator.{name}", None)
    with pytest.raises(RuntimeError, match=r"nanobanana_async\[emulator\]"):
        _images.draw("a cat", 0, "1:1", 64, "png")


async def test_the_suffix_lies_about_the_format(calling: Open) -> None:
    """Always `.png`; the bytes and the Content-Type tell the truth."""
    async with calling(image_format="webp") as caller:
        url = await caller.image()
        assert url.endswith(".png")
        assert opened((await caller.download(url))[1]).format == "WEBP"


async def test_images_live_on_another_origin(calling: Open) -> None:
    """Another port, no key needed; a key that comes along is noticed."""
    async with calling() as caller:
        url = await caller.image()
        assert url.startswith(caller.emulator.image_url)
        assert not caller.emulator.url.startswith(caller.emulator.image_url)
        await caller.download(url)
        assert caller.emulator.ledger.image_authorization_seen is False
        await caller.download(url, Authorization="Bearer nb_test")
        assert caller.emulator.ledger.image_authorization_seen is True


async def test_links_expire_after_fifteen_days(calling: Open) -> None:
    """By the emulator's own clock."""
    async with calling() as caller:
        url = await caller.image()
        caller.emulator.clock.advance(14 * DAY)
        assert (await caller.download(url))[0] == 200
        caller.emulator.clock.advance(1 * DAY)
        assert (await caller.download(url))[0] == 410


async def test_an_unknown_image_is_a_404(calling: Open) -> None:
    """As is an index beyond the quantity."""
    async with calling() as caller:
        url = await caller.image()
        assert (await caller.download(url.replace("-0.png", "-1.png")))[0] == 404
        assert (await caller.download(f"{caller.emulator.image_url}/images/clx.png"))[0] == 404


async def test_a_range_continues_a_download(calling: Open) -> None:
    """206 from the byte asked for, under the same ETag."""
    async with calling() as caller:
        url = await caller.image()
        async with caller.session.get(url) as response:
            whole, etag = await response.read(), response.headers["ETag"]
        async with caller.session.get(url, headers={"Range": "bytes=100-", "If-Range": etag}) as response:
            assert (response.status, response.headers["ETag"]) == (206, etag)
            assert response.headers["Content-Range"] == f"bytes 100-{len(whole) - 1}/{len(whole)}"
            assert await response.read() == whole[100:]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Range": "bytes=0-9"}, 206),
        ({"Range": "bytes=9999999-"}, 416),
        ({"Range": "bytes=5-", "If-Range": '"another"'}, 200),
        ({"Range": "pages=1"}, 200),
    ],
)
async def test_a_range_is_honoured_only_where_it_fits(calling: Open, headers: dict[str, str], status: int) -> None:
    """Out of the file: 416; of another version: the whole."""
    async with calling() as caller:
        assert (await caller.download(await caller.image(), **headers))[0] == status


async def test_ranges_can_be_switched_off(calling: Open) -> None:
    """Then every answer is the whole."""
    async with calling(ranges=False) as caller:
        status, data = await caller.download(await caller.image(), Range="bytes=5-")
        assert status == 200
        assert opened(data)


@pytest.mark.parametrize(("style", "start"), [("relative", "/images/"), ("protocol-relative", "//127.0.0.1:")])
async def test_urls_can_be_relative(calling: Open, style: Any, start: str) -> None:
    """A relative one points at the API's own host, which serves it too."""
    async with calling(url_style=style) as caller:
        url = await caller.image()
        assert url.startswith(start)
        root = caller.emulator.url.removesuffix("/api/v1")
        assert (await caller.download(root + url if style == "relative" else f"http:{url}"))[0] == 200


async def test_urls_can_carry_the_picture_themselves(calling: Open) -> None:
    """`data:` URIs."""
    async with calling(url_style="data", image_format="png") as caller:
        head, _, data = (await caller.image()).partition(",")
        assert head == "data:image/png;base64"
        assert opened(base64.b64decode(data)).format == "PNG"


async def test_each_of_several_images_differs(calling: Open) -> None:
    """One URL and one picture for each."""
    async with calling(image_format="png") as caller:
        _, told = await caller.post(mode="sync", quantity=3)
        assert len({(await caller.download(url))[1] for url in told["imageUrls"]}) == 3
