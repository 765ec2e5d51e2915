"""The router on a real server: a job's life over HTTP, who may see it, and what never leaves."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import math
import time
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import uuid4

import aiohttp
import pytest
from fastapi import Depends, FastAPI
from patience import PATIENCE
from PIL import Image
from web import KEY, SMALL, Caller, caller, eventually, make_app, online, quick_limiter, served

from nanobanana_async import Client, ConfigurationError
from nanobanana_async.emulator import Emulator, Fault, FaultPlan
from nanobanana_async.integrations.fastapi import ClientDep, _sse, generations_router, nanobanana_lifespan
from nanobanana_async.integrations.fastapi._callers import owner_id
from nanobanana_async.integrations.fastapi._places import Live

ENDLESS = {"duration": math.inf}


# ---- a job's life


async def test_a_job_from_its_order_to_its_image():
    """202 and where to ask; then the images, from this server."""
    async with online() as (_, ann):
        job = await ann.submit("a fox", aspect_ratio="16:9", quantity=2)
        assert (job["status"], job["prompt"], job["aspect_ratio"], job["ended"]) == ("queued", "a fox", "16:9", False)
        done = await ann.end(job)
        assert (done["status"], done["progress"], done["credits_used"]) == ("completed", 100, 2)
        assert (await ann.get(job["links"]["status"])).json == done
        for link in done["images"]:
            answer = await ann.get(link)
            assert Image.open(io.BytesIO(answer.body)).format == "PNG"
            assert answer.headers["Content-Type"] == "image/png"
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert len(done["images"]) == 2


async def test_a_job_that_waits_tells_its_place():
    """And how long it will be, once a generation has shown how long they take."""
    async with online(emulator=ENDLESS) as (emulator, ann):
        first, second, third = [await ann.submit(prompt) for prompt in "abc"]
        await ann.until(first["links"]["status"], lambda job: job["status"] == "running")
        assert (await ann.get(second["links"]["status"])).json["position"] == 0
        told = (await ann.get(third["links"]["status"])).json
        assert told["position"] == 1
        assert told["expected_wait"] > 0
        emulator.finish()
        await ann.end(first)
        await ann.until(second["links"]["status"], lambda job: job["status"] == "running")
        assert (await ann.get(third["links"]["status"])).json["position"] == 0


async def test_jobs_are_listed_newest_first():
    async with online() as (_, ann):
        jobs = [await ann.submit(prompt) for prompt in "abc"]
        for job in jobs:
            await ann.end(job)
        listed = (await ann.get("/generations?limit=2")).json["jobs"]
        assert [job["prompt"] for job in listed] == ["c", "b"]
        assert (await ann.named("bob").get("/generations")).json == {"jobs": []}


async def test_waiting_for_the_end_answers_with_it():
    async with online() as (_, ann):
        answer = await ann.ask("POST", "/generations?wait=20", json={"prompt": "a cat"})
        assert answer.status == 200
        assert answer.json["status"] == "completed"


async def test_waiting_in_vain_answers_with_the_job():
    async with online(emulator=ENDLESS) as (_, ann):
        answer = await ann.ask("POST", "/generations?wait=0.05", json={"prompt": "a cat"})
        assert answer.status == 202
        assert not answer.json["ended"]


async def test_progress_rises_until_the_end():
    told = []
    streaming = online(emulator=ENDLESS, router={"auth": caller, "mode": "stream"})
    async with streaming as (emulator, ann), asyncio.timeout(PATIENCE):
        job = await ann.submit()
        async for name, state in ann.events(job["links"]["status"]):
            told.append((name, state["progress"]))
            if 0 < state["progress"] < 100:
                emulator.finish()
    assert [progress for _, progress in told] == sorted(progress for _, progress in told)
    assert told[-1] == ("end", 100)
    assert any(0 < progress < 100 for _, progress in told)


async def test_images_are_kept_in_the_apps_own_folder(tmp_path):
    """Also when nobody asks for them; and they are served from there when their links have ended."""
    async with online(images=tmp_path / "images") as (emulator, ann):
        done = await ann.end(await ann.submit())
        stored = tmp_path / "images" / f"{done['generation_id']}.png"
        await eventually(stored.exists)
        emulator.clock.advance(16 * 86_400)
        assert (await ann.get(done["images"][0])).status == 200
        assert [*(tmp_path / "images").iterdir()] == [stored]


async def test_an_image_is_fetched_once_for_all_who_ask_at_once():
    async with online() as (emulator, ann):
        done = await ann.end(await ann.submit())
        answers = await asyncio.gather(*(ann.get(done["images"][0]) for _ in range(5)))
        assert {answer.status for answer in answers} == {200}
        assert sum(count for what, count in emulator.ledger.requests.items() if "image" in what.lower()) == 1


async def test_images_written_into_their_links_are_asked_for_again():
    """They are large, and not remembered."""
    async with online(emulator={"url_style": "data"}) as (_, ann):
        done = await ann.end(await ann.submit())
        assert (await ann.get(done["images"][0])).headers["Content-Type"] == "image/png"


# ---- whose it is


def test_it_is_not_mounted_without_a_word_on_who_may_use_it():
    """It spends credits."""
    with pytest.raises(ConfigurationError, match="public=True"):
        generations_router()
    with pytest.raises(ConfigurationError, match="one of the two"):
        generations_router(auth=caller, public=True)


@pytest.mark.parametrize(("who", "owner"), [("ann", "ann"), (7, "7"), (uuid4(), None)])
def test_an_owner_is_what_names_somebody(who, owner):
    assert owner_id(who) == (owner or str(who))


@pytest.mark.parametrize("who", [None, "", True, {"id": 1}, object(), "x" * 2000])
def test_a_sign_in_that_names_nobody_is_a_mistake(who):
    """Otherwise all callers would share their jobs."""
    with pytest.raises(RuntimeError, match="caller's id"):
        owner_id(who)


ROUTES = [("GET", ""), ("DELETE", ""), ("GET", "/events"), ("GET", "/images/1")]


@pytest.mark.parametrize("named", ["status", "receipt"])
async def test_to_anybody_else_a_job_does_not_exist(named):
    """By its id as by its receipt, which is worth nothing in other hands; nor is the bare generation's id."""
    async with online() as (_, ann):
        done = await ann.end(await ann.submit())
        link = done["links"][named]
        for method, more in ROUTES:
            answer = await ann.named("bob").ask(method, link + more)
            assert answer.status == 404, (method, more)
            assert done["generation_id"] not in answer.text
            assert (await ann.ask(method, "/generations/" + done["generation_id"] + more)).status == 404


async def test_every_route_but_health_asks_who_it_is():
    async with online() as (_, ann):
        nobody = ann.named("")
        paths = json.loads((await ann.get("/openapi.json")).body)["paths"]
        asked = [(path, method) for path, methods in paths.items() for method in methods]
        assert len(asked) == 9
        for path, method in asked:
            where = path.replace("{id}", "x").replace("{place}", "1")
            answer = await nobody.ask(method.upper(), where, json={"prompt": "a"} if method == "post" else None)
            assert answer.status == (200 if path.endswith("/health") else 401), path


async def test_a_public_router_lists_nothing():
    async with online(router={"public": True}) as (_, ann):
        done = await ann.end(await ann.submit())
        assert (await ann.named("bob").get(done["images"][0])).status == 200
        assert (await ann.get("/generations")).status == 405


# ---- what a caller may not do


@pytest.mark.parametrize(
    "order",
    [
        {},
        {"prompt": ""},
        {"prompt": " \n"},
        {"prompt": "x" * 8001},
        {"prompt": "a", "quantity": 5},
        {"prompt": "a", "quantity": 0},
        {"prompt": "a", "aspect_ratio": "wide"},
        {"prompt": "a", "mode": "sync"},
        {"prompt": "a", "reference_images": ["/etc/passwd"]},
        {"prompt": "a", "reference_images": ["file:///etc/passwd"]},
        {"prompt": "a", "reference_images": ["http://169.254.169.254/"]},
        {"prompt": "a", "reference_images": ["data:text/html;base64,AAAA"]},
        {"prompt": "a", "reference_images": ["https://example.com/a.png"] * 10},
    ],
    ids=str,
)
async def test_an_order_that_can_t_be_sent_is_refused(order):
    """Above all, a path: the client would read it."""
    async with online() as (emulator, ann):
        assert (await ann.ask("POST", "/generations", json=order)).status == 422
        assert emulator.ledger.charges == 0


async def test_a_reference_image_may_come_as_a_link_or_as_itself():
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    picture = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    async with online() as (_, ann):
        job = await ann.submit("a fox", reference_images=["https://example.com/a.png", picture])
        assert (await ann.end(job))["status"] == "completed"


async def test_a_body_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr("nanobanana_async.integrations.fastapi._routes.MAX_BODY", 100_000)
    async with online() as (emulator, ann):
        answer = await ann.ask("POST", "/generations", json={"prompt": "x" * 150_000})
        assert (answer.status, answer.json["type"]) == (413, "urn:nanobanana:too-large")
        assert emulator.ledger.charges == 0


async def test_more_jobs_than_may_wait_are_refused_with_the_time_to_come_back():
    """Each caller's own share first, then everybody's."""
    async with online(emulator=ENDLESS, max_queued=3, max_queued_per_owner=2) as (_, ann):
        running = await ann.submit()
        await ann.until(running["links"]["status"], lambda job: job["status"] == "running")
        waiting = [await ann.submit() for _ in range(2)]
        answer = await ann.ask("POST", "/generations", json={"prompt": "one more"})
        assert (answer.status, answer.json["detail"]) == (429, "2 of your jobs wait already")
        assert int(answer.headers["Retry-After"]) >= 1
        await ann.named("bob").submit()
        refused = await ann.named("eve").ask("POST", "/generations", json={"prompt": "one more"})
        assert refused.json["detail"] == "3 jobs wait already"
        assert len((await ann.get("/generations")).json["jobs"]) == 3
        await ann.ask("DELETE", waiting[0]["links"]["status"])
        await ann.submit()


# ---- going away, and cancelling


async def test_a_job_that_waits_is_cancelled_for_free():
    """Twice is as good as once."""
    async with online(emulator=ENDLESS) as (emulator, ann):
        first, second = await ann.submit("a"), await ann.submit("b")
        await ann.until(first["links"]["status"], lambda job: job["status"] == "running")
        for _ in range(2):
            answer = await ann.ask("DELETE", second["links"]["status"])
            assert (answer.status, answer.json["status"]) == (200, "cancelled")
        emulator.finish()
        await ann.end(first)
        assert emulator.ledger.charges == 1


async def test_a_job_that_was_submitted_can_t_be_cancelled():
    """It is paid: it runs on, and its images come."""
    async with online(emulator=ENDLESS) as (emulator, ann):
        job = await ann.submit()
        running = await ann.until(job["links"]["status"], lambda job: job["status"] == "running")
        answer = await ann.ask("DELETE", job["links"]["status"])
        assert (answer.status, answer.json["generation_id"]) == (409, running["generation_id"])
        emulator.finish()
        assert (await ann.end(job))["status"] == "completed"
        assert (await ann.ask("DELETE", job["links"]["status"])).json["detail"] == "It has ended."


async def test_who_stops_reading_events_cancels_nothing():
    async with online(emulator=ENDLESS) as (emulator, ann):
        first, second = await ann.submit("a"), await ann.submit("b")
        for job in (first, second):
            events = ann.events(job["links"]["status"])
            await anext(events)
            await events.aclose()
        await ann.until(first["links"]["status"], lambda job: job["status"] == "running")
        assert (await ann.get(second["links"]["status"])).json["status"] == "queued"
        emulator.finish()
        assert (await ann.end(first))["status"] == "completed"


@asynccontextmanager
async def hanging_up(ann: Caller, prompt: str):
    """A caller who waits for the end of a job, until the block is left."""
    asking = asyncio.create_task(ann.ask("POST", "/generations?wait=60", json={"prompt": prompt}))
    yield
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def find(ann: Caller, prompt: str, status: str):
    """The caller's job of that prompt, once it is so far."""
    async with asyncio.timeout(PATIENCE):
        while True:
            jobs = (await ann.get("/generations")).json["jobs"]
            for job in jobs:
                if (job["prompt"], job["status"]) == (prompt, status):
                    return job
            await asyncio.sleep(0.005)


async def test_who_hangs_up_while_waiting_cancels_what_is_free():
    async with online(emulator=ENDLESS) as (emulator, ann):
        first = await ann.submit("a")
        await ann.until(first["links"]["status"], lambda job: job["status"] == "running")
        async with hanging_up(ann, "b"):
            await find(ann, "b", "queued")
        await find(ann, "b", "cancelled")
        emulator.finish()
        await ann.end(first)
        assert emulator.ledger.charges == 1


async def test_who_hangs_up_while_it_runs_finds_it_again():
    """It is paid."""
    async with online(emulator=ENDLESS) as (emulator, ann):
        async with hanging_up(ann, "a"):
            job = await find(ann, "a", "running")
        emulator.finish()
        assert (await ann.end(job))["status"] == "completed"


# ---- ends


@pytest.mark.parametrize(
    ("prompt", "status", "code"), [("[fail] a", "failed", 502), ("[unsafe] a", "rejected", 422)], ids=["fail", "unsafe"]
)
async def test_a_generation_that_ends_without_images_is_told_with_its_price(prompt, status, code):
    async with online() as (_, ann):
        done = await ann.end(await ann.submit(prompt))
        assert (done["status"], done["error"]["status"], done["error"]["paid"]) == (status, code, "yes")
        assert done["error"]["generation_id"] == done["generation_id"]
        assert (await ann.get(f"{done['links']['status']}/images/1")).status == 404


async def test_a_lost_answer_is_told_as_maybe_paid():
    """And never sent again."""
    faults = FaultPlan(Fault("submit", "reset_after", times=1))
    async with online(emulator={"faults": faults}) as (emulator, ann):
        done = await ann.end(await ann.submit())
        assert (done["status"], done["error"]["paid"]) == ("uncertain", "maybe")
        assert emulator.ledger.requests["POST /generate"] == 1


async def test_an_empty_account_is_a_402():
    async with online(emulator={"credits": 0}) as (_, ann):
        done = await ann.end(await ann.submit())
        assert (done["status"], done["error"]["status"]) == ("failed", 402)


async def test_a_bad_key_is_not_the_callers_business():
    async with online(emulator={"keys": ["nb_another"]}) as (_, ann):
        done = await ann.end(await ann.submit())
        assert done["error"]["status"] == 503
        assert "key" not in json.dumps(done["error"])


async def test_a_generation_that_takes_too_long_runs_on_and_is_found(monkeypatch):
    """Nobody waits for it any more; who asks sees it end."""
    monkeypatch.setattr("nanobanana_async.integrations.fastapi._looks.FRESH_SECONDS", 0.01)
    monkeypatch.setattr("nanobanana_async.integrations.fastapi._jobs.TICK_SECONDS", 0.01)
    async with online(emulator=ENDLESS, router={"auth": caller, "timeout": 0.05}) as (emulator, ann):
        job = await ann.submit()
        late = await ann.until(job["links"]["status"], lambda job: "error" in job)
        assert (late["status"], late["error"]["status"]) == ("running", 504)
        assert late["error"]["generation_id"] == late["generation_id"]
        emulator.finish()
        done = await ann.end(job)
        assert done["status"] == "completed"
        assert "error" not in done
        assert (await ann.get(done["images"][0])).status == 200


async def test_a_link_that_has_ended_is_gone():
    async with online() as (emulator, ann):
        done = await ann.end(await ann.submit())
        emulator.clock.advance(16 * 86_400)
        answer = await ann.get(done["images"][0])
        assert answer.status in (404, 410)
        assert answer.json["type"] == "urn:nanobanana:expired"


async def test_a_forgotten_job_is_still_found_by_its_receipt():
    """Memory is bounded; a paid image stays within reach."""
    async with online(max_finished=1) as (_, ann):
        first = await ann.end(await ann.submit("a fox"))
        await ann.end(await ann.submit("an owl"))
        await ann.end(await ann.submit("a whale"))
        assert (await ann.get(first["links"]["status"])).status == 404
        again = (await ann.get(first["links"]["receipt"])).json
        assert (again["prompt"], again["status"], again["generation_id"]) == (
            "a fox",
            "completed",
            first["generation_id"],
        )
        assert (await ann.get(again["images"][0])).status == 200
        assert [name async for name, _ in ann.events(first["links"]["receipt"])] == ["end"]
        assert (await ann.ask("DELETE", first["links"]["receipt"])).status == 409
        forged = first["links"]["receipt"][:-3] + "AAA"
        assert (await ann.get(forged)).status == 404


async def test_a_receipt_outlives_the_server():
    async with Emulator(**SMALL) as emulator, aiohttp.ClientSession() as session:
        async with served(make_app(emulator)) as url:
            done = await (ann := Caller(session, url)).end(await ann.submit())
        async with served(make_app(emulator)) as url:
            assert (await Caller(session, url).get(done["links"]["receipt"])).json["status"] == "completed"


# ---- events


async def test_a_browser_that_comes_back_after_the_end_is_told_to_stop():
    async with online() as (_, ann):
        done = await ann.end(await ann.submit())
        events = done["links"]["events"]
        assert (await ann.get(events, headers={"Last-Event-ID": "end"})).status == 204
        assert [name async for name, _ in ann.events(done["links"]["status"], **{"Last-Event-ID": "42"})] == ["end"]


async def test_silence_is_filled_and_long_streams_end_by_themselves(monkeypatch):
    """A page that stays open holds no server up: browsers come back."""
    monkeypatch.setattr("nanobanana_async.integrations.fastapi._jobs.TICK_SECONDS", 0.01)
    monkeypatch.setattr(_sse, "HEARTBEAT_SECONDS", 0.02)
    monkeypatch.setattr(_sse, "STREAM_SECONDS", 0.1)
    async with online(emulator=ENDLESS) as (_, ann):
        first, second = await ann.submit("a"), await ann.submit("b")
        await ann.until(first["links"]["status"], lambda job: job["status"] == "running")
        ann.heard.clear()
        names = [name async for name, _ in ann.events(second["links"]["status"])]
        assert set(names) == {"status"}
        assert ": heartbeat\n" in ann.heard


async def test_all_jobs_of_a_caller_come_over_one_connection():
    """Nobody else's; and each end once."""
    async with online() as (_, ann):
        jobs = [await ann.submit(prompt) for prompt in "abc"]
        await ann.named("bob").submit("d")
        ended = []
        async for name, job in ann.events("/generations"):
            assert (name, job["prompt"] in "abc") == ("job", True)
            ended += [job["id"]] * job["ended"]
            if len(ended) == 3:
                break
        assert sorted(ended) == sorted(job["id"] for job in jobs)


@pytest.mark.parametrize("last", ["", "nonsense", "nan", "inf", "-1e999", "end"])
async def test_any_last_event_id_is_harmless(last):
    async with online(emulator=ENDLESS) as (_, ann):
        job = await ann.submit()
        _, told = await anext(ann.events("/generations", **{"Last-Event-ID": last}))
        assert told["id"] == job["id"]


async def test_an_end_that_was_missed_is_told_to_who_comes_back(monkeypatch):
    monkeypatch.setattr(_sse, "OVERLAP_SECONDS", 0)
    async with online() as (_, ann):
        missed = str(time.time())
        done = await ann.end(await ann.submit())
        _, told = await anext(ann.events("/generations", **{"Last-Event-ID": missed}))
        assert told == done


# ---- the application around it


async def test_links_hold_below_a_mount():
    async with Emulator(**SMALL) as emulator, aiohttp.ClientSession() as session:
        inner = make_app(emulator)
        outer = FastAPI(lifespan=inner.router.lifespan_context)
        outer.mount("/art", inner)
        async with served(outer) as url:
            ann = Caller(session, url)
            job = await ann.submit(path="/art/generations")
            assert job["links"]["status"].startswith("/art/generations/")
            assert (await ann.get((await ann.end(job))["images"][0])).status == 200


async def test_your_own_lifespan_runs_inside():
    """Its state is kept, and the client is closed after it has ended."""
    seen: list[object] = []

    @asynccontextmanager
    async def mine(app):
        yield {"mine": 7}
        seen.append("ended")

    async with Emulator(**SMALL) as emulator, aiohttp.ClientSession() as session:
        app = make_app(emulator, lifespan=mine)

        @app.get("/credits")
        async def credits_left(client: ClientDep) -> int:
            seen.append(client)
            return await client.credits()

        async with served(app) as url, session.get(f"{url}/credits") as answer:
            assert await answer.json() == 1000
    client, ended = seen
    assert isinstance(client, Client)
    assert ended == "ended"
    with pytest.raises(RuntimeError, match="closed"):
        await client.credits()


async def test_the_limiter_is_made_in_the_worker_and_closed_by_it():
    made = []

    def make():
        limiter = quick_limiter()
        closing = limiter.aclose

        async def aclose():
            made.append("closed")
            await closing()

        limiter.aclose = aclose
        made.append(limiter)
        return limiter

    async with online(limiter=make) as (_, ann):
        await ann.end(await ann.submit())
        assert made[0].statistics().running == 0
        assert len(made) == 1
    assert made[1:] == ["closed"]


async def test_a_client_of_your_own_may_be_used():
    async with Emulator(**SMALL) as emulator, aiohttp.ClientSession() as session:
        app = FastAPI(lifespan=nanobanana_lifespan(client=lambda: Client(KEY, base_url=emulator.url, poll=0.01)))
        app.include_router(generations_router(auth=caller))
        async with served(app) as url:
            done = await (ann := Caller(session, url)).end(await ann.submit())
            assert done["status"] == "completed"
    with pytest.raises(TypeError, match="poll"):
        nanobanana_lifespan(client=Client, poll=1)


async def test_without_the_lifespan_the_mistake_is_named():
    app = FastAPI()

    @app.get("/")
    async def root(client: ClientDep) -> None: ...

    async with served(app) as url, aiohttp.ClientSession() as session, session.get(url) as answer:
        assert answer.status == 500


async def test_auth_may_depend_on_what_it_likes():
    """It is an ordinary dependency."""

    def user(name: Annotated[str, Depends(caller)]) -> int:
        return len(name)

    async with online(router={"auth": user}) as (_, ann):
        done = await ann.end(await ann.submit())
        assert (await ann.named("bob").get(done["links"]["status"])).status == 200
        assert (await ann.named("anna").get(done["links"]["status"])).status == 404


async def test_health_and_statistics():
    async with online(emulator={"limit": 3}) as (_, ann):
        await ann.end(await ann.submit())
        assert (await ann.get("/generations/health")).json == {"status": "ok"}
        told = (await ann.get("/generations/statistics")).json
        assert (told["completed"], told["limit"], told["queued"]) == (1, 3, 0)
        assert "credits" not in " ".join(told)


async def test_the_page_describes_every_answer():
    """Each route has a summary, and each of its answers a description and a schema."""
    async with online() as (_, ann):
        page = (await ann.get("/openapi.json")).json
        routes = [route for methods in page["paths"].values() for route in methods.values()]
        assert all(route["summary"] and route["description"] for route in routes)
        assert all(answer["description"] for route in routes for answer in route["responses"].values())
        problem = page["components"]["schemas"]["Problem"]
        assert problem["properties"]["retry_after"]["description"]
        assert (await ann.get("/docs")).status == 200


# ---- the key


async def test_no_answer_of_any_route_has_the_key(tmp_path):
    """Whatever ends how it may."""
    faults = FaultPlan(Fault("submit", "reset_after", times=1), Fault("image", "wrong_image", times=20))
    async with online(emulator={"faults": faults}) as (emulator, ann):
        for prompt in ("a", "b", "[fail]", "[unsafe]"):
            done = await ann.end(await ann.submit(prompt))
            for method, more in ROUTES:
                await ann.ask(method, done["links"]["status"] + more)
        await anext(ann.events("/generations", **{"Last-Event-ID": "0"}))
        for path in ("", "/health", "/statistics", "/nothing", "?limit=x"):
            await ann.get("/generations" + path)
        await ann.ask("POST", "/generations", json={})
        await ann.get("/openapi.json")
        assert len(ann.heard) > 30
        assert not emulator.ledger.image_authorization_seen
    async with online(emulator={"keys": ["nb_another"]}) as (_, bob):
        await bob.end(await bob.submit())
    assert not [text for text in ann.heard + bob.heard if KEY in text or "nb_" in text]


async def test_an_ended_job_is_in_no_cycle():
    """A busy server's memory is freed at once, not by collections that hold the loop up."""
    async with online() as (_, ann):
        gc.collect()
        gc.disable()
        try:
            for _ in range(3):
                await ann.end(await ann.submit())
            assert not [held for held in gc.get_objects() if isinstance(held, Live)]
        finally:
            gc.enable()
