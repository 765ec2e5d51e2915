"""The gallery: its data is only ever text, and a real browser shows it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import driving
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from nanobanana_async.batch._gallery import image_size, rebuild_gallery, write_gallery
from nanobanana_async.batch._manifest import ManifestRow, ManifestStatus, write_manifest

EVIL = "</script><script>alert(1)</script><!--<img src=x onerror=alert(2)>&lt;\u2028\u2029\"'"


class Page(HTMLParser):
    """What a browser's parser makes of the page: scripts with their content, elements with their classes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[str | None, str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("id"), ""))

    def handle_data(self, data):
        if self.lasttag == "script":
            name, text = self.scripts[-1]
            self.scripts[-1] = (name, text + data)

    def data(self, name: str):
        return json.loads(dict(self.scripts)[name])

    def with_class(self, name: str) -> list[dict[str, str | None]]:
        return [attrs for _, attrs in self.elements if name in (attrs.get("class") or "").split()]


def pending(prompt: str, index: int = 0) -> ManifestRow:
    return ManifestRow(index=index, prompt=prompt, status=ManifestStatus.PENDING)


def page_of(folder: Path, *rows: ManifestRow, **options) -> Page:
    return Page(write_gallery(folder, rows, **options).read_text("utf-8"))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text())
@example(EVIL)
@example("<!--<script>")
@example("{{rows}}{{summary}}{{title}}{{script}}")
@example("\ud800")
def test_any_prompt_comes_back_from_the_page(tmp_path, prompt):
    row = pending(prompt)
    page = page_of(tmp_path, row, title=prompt or None)
    assert [entry["row"] for entry in page.data("rows")] == [row.to_json()]
    assert len(page.scripts) == 3


def test_no_markup_of_a_prompt_stands_in_the_page(tmp_path):
    text = write_gallery(tmp_path, [pending(EVIL)], title=EVIL, note=EVIL).read_text("utf-8")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    assert "\u2028" not in re.sub(r"<title>.*</title>|<h1>.*</h1>", "", text)


def test_the_header_counts_rows_images_and_credits(tmp_path):
    stored = ManifestRow(index=0, prompt="a", status=ManifestStatus.STORED, credits=2, files=("a.png", "b.png"))
    failed = ManifestRow(index=1, prompt="b", status=ManifestStatus.FAILED, credits=1, error="no")
    summary = page_of(tmp_path, stored, failed, pending("c", 2), title="zoo", note="a note").data("summary")
    assert summary["statuses"] == {"stored": 1, "failed": 1, "pending": 1}
    assert (summary["rows"], summary["images"], summary["credits"]) == (3, 2, 3)
    assert (summary["title"], summary["note"]) == ("zoo", "a note")


def test_a_batch_too_long_for_a_page_is_counted_whole(tmp_path):
    page = page_of(tmp_path, *(pending("a", index) for index in range(5)), max_rows=2)
    assert len(page.data("rows")) == 2
    assert (page.data("summary")["rows"], page.data("summary")["shown_rows"]) == (5, 2)


def test_an_empty_batch_still_makes_a_page(tmp_path):
    assert page_of(tmp_path).data("rows") == []


def test_making_time_is_told_from_the_links_end(tmp_path):
    made = datetime(2025, 3, 1, tzinfo=UTC)
    row = ManifestRow(index=0, prompt="a", status=ManifestStatus.STORED, expires_at=made + timedelta(days=15))
    assert page_of(tmp_path, row).data("rows")[0]["made_at"] == made.isoformat()


def test_the_page_is_rebuilt_from_its_manifest(tmp_path):
    write_manifest(tmp_path, [pending("a cat")])
    page = Page(rebuild_gallery(tmp_path).read_text("utf-8"))
    assert page.data("rows")[0]["row"]["prompt"] == "a cat"
    assert page.data("summary")["title"] == tmp_path.name


def test_the_page_loads_nothing_from_elsewhere(tmp_path):
    page = page_of(tmp_path, pending("a"))
    loaded = [attrs.get("src") or attrs.get("href") or "" for _, attrs in page.elements]
    assert all(target == "" or target.startswith(("#", "data:")) for target in loaded)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.jpg", {}),
        ("b.jpg", {"progressive": True, "exif": b"Exif\0\0" + b"x" * 9000}),
        ("a.webp", {}),
        ("b.webp", {"lossless": True}),
        ("c.webp", {"exif": b"Exif\0\0"}),
    ],
)
def test_sizes_are_read_from_the_header(tmp_path, name, options):
    Image.new("RGB", (70, 33), "red").save(tmp_path / name, **options)
    assert image_size(tmp_path / name) == (70, 33)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0\0", b"RIFF1234WEBPVP8 ", b"<html>"])
def test_what_is_no_image_has_no_size(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert image_size(tmp_path / "a.png") is None


# ---- in a browser


@pytest.fixture
def batch(tmp_path):
    """Three images (one with a name that must be quoted in a URL), a failure, an attack and a pending row."""
    (tmp_path / "images").mkdir()
    rows = []
    for index, name in enumerate(["images/a.png", "images/b #1%20?.jpg", "images/c.webp"]):
        Image.new("RGB", (90, 60 + 30 * index), "orange").save(tmp_path / name)
        rows.append(ManifestRow(index=index, prompt=f"fox {index}", status=ManifestStatus.STORED, files=(name,)))
    rows.append(ManifestRow(index=3, prompt="a fox", status=ManifestStatus.FAILED, error="the reason"))
    rows.append(ManifestRow(index=4, prompt=EVIL, status=ManifestStatus.REJECTED))
    return write_gallery(tmp_path, [*rows, pending("a cat", 5)])


async def browse(chromium: str, address: str, shown: str) -> Page:
    """The page as the browser has it, as soon as so much is shown."""
    async with driving(chromium) as browser:
        page = await browser.window()
        await page.look(width=1200, height=1600)
        await page.go(address)
        await page.until(shown)
        text = await page.run("document.documentElement.outerHTML")
        assert browser.complaints == []
    return Page(text)


async def test_a_browser_shows_every_image_and_keeps_prompts_text(batch, chromium):
    page = await browse(chromium, batch.as_uri(), "document.querySelectorAll('.loaded').length === 3")
    assert len(page.with_class("card")) == 6
    assert [image["alt"] for image in page.with_class("loaded")] == ["fox 0", "fox 1", "fox 2"]
    assert len(page.scripts) == 3


async def test_a_browser_filters_and_enlarges_by_address(batch, chromium):
    address = batch.as_uri() + "#q=FOX&status=stored&view=2"
    page = await browse(chromium, address, "document.querySelector('dialog').open")
    assert len(page.with_class("card")) == 3
    [viewer] = [attrs for tag, attrs in page.elements if tag == "dialog"]
    assert "open" in viewer
