"""An image studio in the browser: prompt, queue, live progress, gallery.

    python examples/fastapi_app/main.py

Without NANO_BANANA_API_KEY it starts a local emulator, so it needs neither a key nor a network. Jobs and images are
kept in the folder `studio`; with a key, what ran when you stopped it is found when you start it again.
"""

from __future__ import annotations

import argparse
import os
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import uvicorn
from fastapi import Cookie, FastAPI, HTTPException, Response
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from nanobanana_async.integrations.fastapi import add_error_handlers, generations_router, nanobanana_lifespan

PAGE = Path(__file__).parent / "page"
YEAR = 365 * 86_400
NAME_LENGTH = 32  # characters of 24 random bytes
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


VisitorCookie = Annotated[str, Cookie(alias="visitor")]


async def visitor(name: VisitorCookie = "") -> str:
    """Who asks: the cookie that the page sets. An application with accounts returns the user's id here."""
    if len(name) < NAME_LENGTH:
        raise HTTPException(401, "open the page first")
    return name


def make_app(folder: Path) -> FastAPI:
    """The page, and the router that it talks to."""
    app = FastAPI(title="Image studio", lifespan=nanobanana_lifespan(jobs=folder / "jobs.db", images=folder / "images"))
    add_error_handlers(app)
    app.include_router(generations_router(auth=visitor))

    @app.get("/", include_in_schema=False)
    async def page(name: VisitorCookie = "") -> Response:
        response = FileResponse(PAGE / "index.html", headers=HEADERS)
        name = name if len(name) >= NAME_LENGTH else secrets.token_urlsafe(24)
        response.set_cookie("visitor", name, max_age=YEAR, httponly=True, samesite="strict")
        return response

    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


def main() -> None:
    options = argparse.ArgumentParser(description="An image studio in the browser.")
    options.add_argument("--port", type=int, default=8000)
    options.add_argument("--folder", type=Path, default=Path("studio"), help="where jobs and images are kept")
    options.add_argument("--duration", type=float, default=6, help="seconds of an emulated generation")
    chosen = options.parse_args()
    with ExitStack() as stack:
        if not (os.environ.get("NANO_BANANA_API_KEY") or os.environ.get("NB_API_KEY")):
            from nanobanana_async.emulator import Emulator

            emulator = stack.enter_context(Emulator(limit=2, duration=chosen.duration).in_thread())
            os.environ |= {"NANO_BANANA_API_KEY": "nb_studio", "NANO_BANANA_BASE_URL": emulator.url}
            print("no API key is set: images come from a local emulator")
        print(f"open http://127.0.0.1:{chosen.port}", flush=True)
        # Pages keep a connection open; this is how long they may hold up the end.
        uvicorn.run(
            make_app(chosen.folder), port=chosen.port, log_level="warning", timeout_graceful_shutdown=5, ws="none"
        )


if __name__ == "__main__":
    main()
