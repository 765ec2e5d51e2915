"""The example's page in a real browser: two people at once, a reload in the middle, and what goes wrong."""

from __future__ import annotations

import asyncio
import math
import os
import re
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from browser import Browser, Page, driving
from patience import PATIENCE
from web import SMALL, served

from nanobanana_async.emulator import Emulator

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "fastapi_app"
ENTER = 13


@dataclass
class Studio:
    """Everything that a test touches."""

    emulator: Emulator
    browser: Browser
    url: str

    async def visitor(self) -> Page:
        """Somebody who opens the page in a browser of their own."""
        page = await self.browser.window()
        await page.go(self.url)
        await page.until("!document.querySelector('#empty').hidden")
        return page


@asynccontextmanager
async def studio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chromium: str, **emulator: Any
) -> AsyncIterator[Studio]:
    monkeypatch.syspath_prepend(ROOT)
    from examples.fastapi_app.main import make_app

    settings = {**SMALL, "image_size": 64, "duration": math.inf, **emulator}
    async with Emulator(**settings) as running:
        monkeypatch.setenv("NANO_BANANA_API_KEY", "nb_test")
        monkeypatch.setenv("NANO_BANANA_BASE_URL", running.url)
        # The browser goes first: its pages' event streams end with it.
        async with served(make_app(tmp_path)) as url, driving(chromium) as browser:
            yield Studio(running, browser, f"{url}/")


async def ask(page: Page, prompt: str) -> None:
    """As with the keyboard alone: the prompt has the focus."""
    cards = await page.run("document.querySelectorAll('.card').length")
    await page.until("document.activeElement.id === 'prompt' && !document.activeElement.value")
    await page.type(prompt)
    await page.press("Enter", ENTER, control=True)
    await page.until(f"document.querySelectorAll('.card').length === {cards + 1}")


def card(status: str) -> str:
    return f"document.querySelector('.card[data-status={status}]')"


def texts(selector: str) -> str:
    return f"[...document.querySelectorAll('{selector}')].map((element) => element.textContent)"


async def test_two_people_at_once_see_their_own_images_and_their_place(tmp_path, monkeypatch, chromium):
    """One slot: the other one waits, is told so, and comes next."""
    async with studio(tmp_path, monkeypatch, chromium) as here:
        ann, bob = [await here.visitor() for _ in "ab"]
        await ask(ann, "a fox")
        await ann.until(card("running"))
        await ask(bob, "an owl")
        await ask(bob, "a whale")
        await bob.until(
            "[...document.querySelectorAll('.what')].map((e) => e.textContent).join() === '1 ahead,Next in line'"
        )
        assert await ann.run(texts(".prompt")) == ["a fox"]
        here.emulator.finish()
        await ann.until(f"{card('completed')}?.querySelector('img.there')?.naturalWidth === 64")
        assert await ann.run("document.querySelector('.open img').alt") == "a fox"
        assert await ann.run("document.querySelector('#announce').textContent") == "Done: a fox"
        await bob.until(card("running"))
        assert await bob.run("document.querySelector('[role=progressbar]').getAttribute('aria-valuemax')") == "100"
        await bob.click(".card[data-status=queued] .cancel")
        await bob.until(card("cancelled"))
        here.emulator.finish()
        await bob.until(card("completed"))
        assert await bob.run(texts(".prompt")) == ["a whale", "an owl"]
        assert here.emulator.ledger.charges == 2
        assert here.browser.complaints == []


async def test_a_reload_in_the_middle_finds_the_job_again(tmp_path, monkeypatch, chromium):
    async with studio(tmp_path, monkeypatch, chromium) as here:
        ann = await here.visitor()
        await ask(ann, "a fox")
        await ann.until(card("running"))
        await ann.reload()
        await ann.until(card("running"))
        here.emulator.finish()
        await ann.until(f"{card('completed')}?.querySelector('img.there')")
        await ann.reload()
        await ann.until(f"{card('completed')}?.querySelector('img.there')")
        assert here.emulator.ledger.charges == 1
        await ann.click(".open")
        assert await ann.run("document.querySelector('dialog').open && document.activeElement.id") == "viewer-close"
        assert here.browser.complaints == []


async def test_what_goes_wrong_is_told_in_words(tmp_path, monkeypatch, chromium):
    """A blank prompt, and a generation that fails."""
    async with studio(tmp_path, monkeypatch, chromium, duration=0.05) as here:
        ann = await here.visitor()
        await ann.click("#send")
        await ann.until("!document.querySelector('#problem').hidden")
        assert await ann.run("document.querySelector('#prompt').getAttribute('aria-invalid')") == "true"
        await ask(ann, "[fail] a fox")
        await ann.until(card("failed"))
        assert "The credits were taken." in await ann.run("document.querySelector('.more').textContent")
        assert await ann.run("!document.querySelector('.again').hidden")
        assert here.browser.complaints == []


async def test_a_server_that_stops_leaves_the_page_standing_and_is_not_held_up_by_it(tmp_path, chromium):
    """It ends cleanly with the page open; the page says so, keeps what was typed, and comes back by itself."""
    with free_port() as port, Emulator(**{**SMALL, "duration": math.inf}).in_thread() as emulator:
        environment = os.environ | {"NANO_BANANA_API_KEY": "nb_test", "NANO_BANANA_BASE_URL": emulator.url}
        async with driving(chromium) as browser:
            ann = await browser.window()
            async with started(port, tmp_path, environment):
                await ann.go(f"http://127.0.0.1:{port}/")
                await ann.until("!document.querySelector('#empty').hidden")
                await ask(ann, "a fox")
                await ann.until(card("running"))
            await ann.until("!document.querySelector('#offline').hidden")
            await ann.type("an owl")
            await ann.press("Enter", ENTER, control=True)
            await ann.until("document.querySelector('#problem').textContent.includes('Nothing was sent')")
            assert await ann.run("document.querySelector('#prompt').value") == "an owl"
            async with started(port, tmp_path, environment):
                await ann.until("document.querySelector('#offline').hidden")
                emulator.finish()
                await ann.until(card("completed"))
            assert emulator.ledger.charges == 1


@pytest.mark.parametrize("name", ["index.html", "studio.css", "studio.js"])
def test_the_page_needs_no_network(name):
    assert not re.findall(
        r"(?:src|href|url|import|fetch)[=(\s]*[\"'(]\s*(?:https?:)?//", (EXAMPLE / "page" / name).read_text()
    )


async def test_one_command_starts_it(tmp_path):
    """No key, no network: it brings the emulator along."""
    environment = {name: value for name, value in os.environ.items() if not name.endswith(("API_KEY", "BASE_URL"))}
    with free_port() as port:
        async with started(port, tmp_path, environment) as session, session.get(f"http://127.0.0.1:{port}/") as page:
            assert "Image studio" in await page.text()
            assert "default-src 'self'" in page.headers["Content-Security-Policy"]


# Uvicorn's word for a connection without a request: one that a browser opens ahead in the moment of the stop, say.
IDLE_CONNECTION = b"ERROR:    Cancel 0 running task(s), timeout graceful shutdown exceeded\n"


@contextmanager
def free_port() -> Iterator[int]:
    """One that nobody else gets meanwhile: it is bound here, but nobody listens."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@asynccontextmanager
async def started(port: int, folder: Path, environment: dict[str, str]) -> AsyncIterator[aiohttp.ClientSession]:
    """The example as it is started by hand, answering; at the end it stops without a word."""
    command = [sys.executable, "-W", "error", str(EXAMPLE / "main.py"), f"--port={port}"]
    pipe = asyncio.subprocess.PIPE
    server = await asyncio.create_subprocess_exec(*command, cwd=folder, env=environment, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
            while not await answers(session, port):  # noqa: ASYNC110  # another process
                await asyncio.sleep(0.05)
            yield session
    finally:
        if server.returncode is None:
            server.terminate()
        _, errors = await asyncio.wait_for(server.communicate(), PATIENCE)
    assert errors.replace(IDLE_CONNECTION, b"") == b"", errors.decode()


async def answers(session: aiohttp.ClientSession, port: int) -> bool:
    with suppress(aiohttp.ClientError):
        async with session.get(f"http://127.0.0.1:{port}/generations/health") as answer:
            return answer.status == 200
    return False
