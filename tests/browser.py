"""A headless Chromium, driven over its DevTools protocol: pages that click, type, reload, and are waited for.

The tests of a session share one, in which each has windows of its own.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = """
    --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-extensions --hide-scrollbars --remote-debugging-port=0"""
PATIENCE = 20_000  # milliseconds


class Page:
    """One tab. Windows of different `Browser.window()`s share nothing: they are different people's browsers."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session

    async def call(self, method: str, **params: Any) -> Any:
        return await self._browser.call(method, self._session, **params)

    async def run(self, script: str) -> Any:
        """The value of an expression, or of the promise that it makes."""
        told = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    async def until(self, condition: str) -> Any:
        """The value of an expression, as soon as it is true."""
        waiting = f"""new Promise((done, fail) => {{
            const begun = Date.now();
            const look = () => {{
                const value = {condition};
                if (value) done(value);
                else if (Date.now() - begun > {PATIENCE}) fail({json.dumps("waited in vain for " + condition)});
                else setTimeout(look, 10);
            }};
            look();
        }})"""
        return await self.run(waiting)

    async def go(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until(f"location.href === {json.dumps(url)} && document.readyState === 'complete'")

    async def reload(self) -> None:
        await self.run("window.before = true")
        await self.call("Page.reload")
        await self.until("!window.before && document.readyState === 'complete'")

    async def type(self, text: str) -> None:
        """Into whatever has the focus."""
        await self.call("Input.insertText", text=text)

    async def press(self, key: str, code: int, *, control: bool = False, text: str = "") -> None:
        options = {"key": key, "windowsVirtualKeyCode": code, "modifiers": 2 if control else 0}
        await self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **options)
        await self.call("Input.dispatchKeyEvent", type="keyUp", **options)

    async def click(self, selector: str) -> None:
        """With the mouse, in the middle of the first such element."""
        found = f"document.querySelector({json.dumps(selector)})"
        middle = "((box) => [box.x + box.width / 2, box.y + box.height / 2])"
        await self.run(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        x, y = await self.run(f"{middle}({found}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def look(self, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Show it at this size, in this scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])

    async def picture(self, path: Path) -> None:
        told = await self.call("Page.captureScreenshot", format="png")
        await asyncio.to_thread(path.write_bytes, base64.b64decode(told["data"]))


class Browser:
    """The whole of it; `complaints` are of any page: exceptions, blocked or broken resources, words on the console."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._contexts: list[str] = []

    async def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        named = {"sessionId": session} if session else {}
        await self._socket.send_json({"id": number, "method": method, "params": params, **named})
        return await asyncio.wait_for(answer, 40)

    async def window(self) -> Page:
        """A browser of somebody else: cookies and storage of its own."""
        context = (await self.call("Target.createBrowserContext", disposeOnDetach=True))["browserContextId"]
        self._contexts.append(context)
        target = await self.call("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        return page

    async def close(self) -> None:
        """Close all its windows."""
        for context in self._contexts:
            await self.call("Target.disposeBrowserContext", browserContextId=context)

    async def read(self) -> None:
        """Hand out what it says, until it is closed."""
        async for message in self._socket:
            told = message.json()
            if "id" in told:
                answer = self._answers.pop(told["id"])
                if "error" in told:
                    answer.set_exception(RuntimeError(told["error"]["message"]))
                elif not answer.done():
                    answer.set_result(told["result"])
            elif told["method"] == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(told["params"]["exceptionDetails"])[:500])
            elif told["method"] == "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(told["params"]["args"])[:500])
            elif told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error":
                self.complaints.append(told["params"]["entry"]["text"])


@contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """A browser, until the block ends: where to drive it. Skipped where there is none."""
    if CHROMIUM is None:
        if os.environ.get("NANOBANANA_REQUIRE_BROWSER") == "1":
            pytest.fail("no chromium is installed, and NANOBANANA_REQUIRE_BROWSER=1 asks for one")
        pytest.skip("no chromium is installed; apt-get install chromium runs this test")
    said = profile / "said"
    profile.mkdir(exist_ok=True)
    with said.open("wb") as stderr:
        process = subprocess.Popen([CHROMIUM, *FLAGS.split(), f"--user-data-dir={profile}"], stderr=stderr)
    try:
        yield _address(process, said)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen[bytes], said: Path) -> str:
    """What it says once it listens."""
    until = time.monotonic() + 40
    while process.poll() is None and time.monotonic() < until:
        if (found := re.search(r"DevTools listening on (\S+)\n", said.read_text(errors="replace"))) is not None:
            return found[1]
        time.sleep(0.01)
    raise RuntimeError(f"the browser did not start: {said.read_text(errors='replace')}")


@asynccontextmanager
async def driving(address: str) -> AsyncIterator[Browser]:
    """The browser at this address, without anybody else's windows; its own are closed at the end."""
    async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
        browser = Browser(socket)
        reading = asyncio.create_task(browser.read())
        try:
            yield browser
            await browser.close()
        finally:
            await socket.close()
            await reading
