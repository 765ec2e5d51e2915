"""The witness: what was charged, for which prompt, how many ran at once; and the admin API that tells it."""

from __future__ import annotations

import math
from typing import Any

from calling import Caller, Open

from nanobanana_async.emulator import Emulator


async def admin(caller: Caller, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Status and JSON of a call to the admin API."""
    url = caller.emulator.url.replace("/api/v1", f"/admin/{path}")
    async with caller.session.request(method, url, json=body) as response:
        return response.status, await response.json()


async def test_an_entry_tells_what_was_asked_and_paid(calling: Open) -> None:
    """Prompt, mode, model, quantity, references, credits, and both moments."""
    async with calling() as caller:
        references = ["https://example.com/a.png"] * 2
        _, told = await caller.post("a fox", quantity=2, referenceImageUrls=references, aspectRatio="16:9")
        await caller.emulator.idle()
        (entry,) = caller.emulator.ledger.entries
        assert (entry.generation_id, entry.account) == (told["generationId"], "nb_test")
        assert (entry.prompt, entry.mode, entry.model) == ("a fox", "async", "nano-banana")
        assert (entry.quantity, entry.references, entry.credits, entry.aspect_ratio) == (2, 2, 4, "16:9")
        assert (entry.status, entry.state) == ("charged", "completed")
        assert entry.finished_at is not None
        assert entry.finished_at >= entry.created_at


async def test_a_prompt_paid_twice_stands_there_twice(calling: Open) -> None:
    """That is what the ledger is for."""
    async with calling(limit=None) as caller:
        for prompt in ("a", "b", "a"):
            await caller.post(prompt)
        assert caller.emulator.ledger.charged_prompts() == ["a", "b", "a"]


async def test_peaks_are_kept(calling: Open) -> None:
    """The most generations at once, of all and of each account."""
    async with calling(limit=None, duration=math.inf) as caller:
        for _ in range(3):
            await caller.post()
        caller.emulator.finish()
        await caller.post()
        ledger = caller.emulator.ledger
        assert (ledger.active, ledger.peak_active, ledger.peak_active_by_account["nb_test"]) == (1, 3, 3)
        assert (ledger.open_requests, ledger.peak_open_requests) == (0, 1)


async def test_polls_and_downloads_are_counted(calling: Open) -> None:
    """Per generation, and per endpoint."""
    async with calling() as caller:
        url = await caller.image()
        (entry,) = caller.emulator.ledger.entries
        for _ in range(3):
            await caller.get("generate", id=entry.generation_id)
        await caller.download(url)
        assert (entry.polls, entry.downloads) == (3, 1)
        assert caller.emulator.ledger.requests == {"POST /generate": 1, "GET /generate": 3, "GET /images": 1}


async def test_totals_stay_exact_when_entries_are_let_go(calling: Open) -> None:
    """A cap on memory, not on the truth."""
    async with calling(limit=None, max_entries=2) as caller:
        for number in range(5):
            await caller.post(f"prompt {number}", mode="sync")
        ledger = caller.emulator.ledger
        assert ledger.charged_prompts() == ["prompt 3", "prompt 4"]
        assert (ledger.charges, ledger.credits_charged, ledger.states["completed"]) == (5, 5, 5)


async def test_running_generations_are_never_let_go(calling: Open) -> None:
    """However small the cap."""
    async with calling(limit=None, max_entries=1, duration=math.inf) as caller:
        ids = [(await caller.post())[1]["generationId"] for _ in range(3)]
        assert [(await caller.get("generate", id=known))[0] for known in ids] == [200, 200, 200]


async def test_durations_follow_the_seed(calling: Open) -> None:
    """The same seed, the same durations; ids never repeat."""
    seen: list[list[float]] = []
    ids: set[str] = set()
    for seed in (1, 1, 2):
        async with calling(limit=None, sigma=0.35, seed=seed) as caller:
            ids |= {(await caller.post())[1]["generationId"] for _ in range(5)}
            seen.append([entry.duration for entry in caller.emulator.ledger.entries])
    assert seen[0] == seen[1] != seen[2]
    assert len(ids) == 15


async def test_ten_thousand_generations_run_at_once(calling: Open) -> None:
    """Timers, not tasks: each ends by itself."""
    async with calling(limit=None, credits=10_000, duration=0.2) as caller:
        emulator = caller.emulator
        account, order = emulator.account("nb_test"), _order(emulator)
        for _ in range(10_000):
            emulator._generations.accept(account, order)
        assert emulator.ledger.peak_active == 10_000
        await emulator.idle()
        assert emulator.ledger.states["completed"] == 10_000


async def test_the_admin_api_tells_the_ledger(calling: Open) -> None:
    """The entries, a page at a time, and the totals."""
    async with calling(limit=None) as caller:
        for number in range(3):
            await caller.post(f"prompt {number}", mode="sync")
        _, told = await admin(caller, "GET", "ledger?offset=1&limit=1")
        assert [entry["prompt"] for entry in told["entries"]] == ["prompt 1"]
        assert (told["charges"], told["credits_charged"], told["peak_active"]) == (3, 3, 1)
        assert (await admin(caller, "GET", "statistics"))[1]["requests"] == {"POST /generate": 3}


async def test_the_admin_api_changes_accounts(calling: Open) -> None:
    """Credits, limit, access and keys; nonsense changes nothing."""
    async with calling() as caller:
        status, told = await admin(caller, "PATCH", "accounts/nb_test", {"credits": 5, "limit": None, "access": False})
        assert (status, told["credits"], told["limit"], told["access"]) == (200, 5, None, False)
        nonsenses: list[Any] = [{"credits": "many"}, {"name": "x"}, {"limit": True}, []]
        for nonsense in nonsenses:
            assert (await admin(caller, "PATCH", "accounts/nb_test", nonsense))[0] == 400
        for number in range(2, 7):
            status, told = await admin(caller, "POST", "accounts/nb_test/keys", {"key": f"nb_{number}"})
        assert status == 400
        assert "5 keys" in told["error"]


async def test_the_admin_api_moves_the_clock_and_sets_faults(calling: Open) -> None:
    """As the Python attributes do."""
    async with calling() as caller:
        before = caller.emulator.clock.now()
        await admin(caller, "POST", "clock", {"advance": 3600})
        assert caller.emulator.clock.now() - before >= 3600
        plan = {"faults": [{"stage": "credits", "kind": "error_500", "times": 1}], "seed": 3}
        assert (await admin(caller, "PUT", "faults", plan))[0] == 200
        assert (await caller.get("credits"))[0] == 500
        assert (await admin(caller, "PUT", "faults", {"faults": [{"stage": "x", "kind": "y"}]}))[0] == 400


def _order(emulator: Emulator) -> Any:
    from nanobanana_async.emulator._orders import Order

    return Order.from_json({"prompt": "a cat", "mode": "async"}, emulator)
