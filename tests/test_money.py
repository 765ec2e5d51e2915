"""No credit spent twice, no paid image lost: lost answers, refusals, failing polls and broken downloads."""

import asyncio
from functools import partial

import pytest
from PIL import Image

from nanobanana_async import (
    AccountLimiter,
    Backoff,
    BadRequestError,
    BlockedError,
    Client,
    ConnectError,
    GenerationFailedError,
    RetryPolicy,
    SubmissionUncertainError,
    Timeouts,
)
from nanobanana_async._job import Destination
from nanobanana_async.emulator import Emulator, Fault, FaultPlan

pytestmark = pytest.mark.usefixtures("leaks_nothing")

PATIENT_BUT = Timeouts(submit_timeout=2.0)  # far from what an answer takes on a busy machine
LOST = ["reset_after", "error_500_after", "garbage_200", "truncate", "stall"]


async def outcomes_of(client, count):
    calls = (client.generate(f"cat {number}") for number in range(count))
    return await asyncio.gather(*calls, return_exceptions=True)


async def test_a_lost_answer_is_uncertain_and_never_sent_again(online):
    """10 % of the answers are lost, in every way there is: as many uncertain jobs, and no prompt is paid twice."""
    lost = [Fault("submit", kind, times=1, after=8 * place) for place, kind in enumerate(LOST)]
    plan = FaultPlan(*lost, Fault("submit", "refuse", times=2, after=5))
    async with online(limit=8, faults=plan, client={"timeout": PATIENT_BUT}) as (emulator, client):
        outcomes = await outcomes_of(client, 50)
        uncertain = [outcome for outcome in outcomes if isinstance(outcome, SubmissionUncertainError)]
        assert len(uncertain) == len(LOST)
        assert all("not sent again" in str(error) for error in uncertain)
        assert sum(not isinstance(outcome, BaseException) for outcome in outcomes) == 45
        assert emulator.ledger.requests["POST /generate"] == 52
        assert sorted(emulator.ledger.charged_prompts()) == sorted(f"cat {number}" for number in range(50))


@pytest.mark.parametrize("kind", ["error_500", "reset_before"])
async def test_what_may_have_been_taken_is_not_sent_again(online, kind):
    """The service knows that it charged nothing; the client can't."""
    async with online(faults=FaultPlan(Fault("submit", kind, times=1))) as (emulator, client):
        with pytest.raises(SubmissionUncertainError):
            await client.generate("a cat")
        assert emulator.ledger.requests["POST /generate"] == 1


async def test_a_bad_request_is_final(online):
    """400: raised at once, uncharged."""
    async with online() as (emulator, client):
        with pytest.raises(BadRequestError):
            await client.generate("a cat", model="no-such-model")
        assert emulator.ledger.requests["POST /generate"] == 1
        assert emulator.ledger.charges == 0


async def test_a_service_that_comes_up_late(unused_tcp_port, recorder, new_job):
    """A refused connection means that nothing was sent: tried again until somebody listens."""
    patience = RetryPolicy(max_attempts=100, backoff=Backoff(initial_delay=0.01, max_delay=0.01))
    nobody = f"http://127.0.0.1:{unused_tcp_port}/api/v1"
    async with Client("nb_test", base_url=nobody, poll=0.01, retry=patience) as client:
        ledger = recorder()
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        await ledger.until("withdrawn")
        async with Emulator(port=unused_tcp_port, duration=0.01) as emulator:
            assert (await job.result()).image_urls
            assert emulator.ledger.charges == 1
        assert ledger.hooks[-3:] == ["intend", "accepted", "finished"]


async def test_failing_polls_and_broken_downloads_lose_no_paid_image(online, tmp_path, new_job):
    """15 % of the polls fail and a quarter of the bodies are cut short: 60 jobs, 60 whole images, 60 credits."""
    polls = [Fault("poll", kind, rate=0.04) for kind in ("error_500", "html_wall", "reset_before", "garbage_200")]
    plan = FaultPlan(*polls, Fault("image", "truncate", rate=0.25), seed=3)
    async with online(limit=20, faults=plan, duration=0.02, client={"retry": None}) as (emulator, client):
        jobs = [new_job(f"cat {number}", destination=Destination(tmp_path, f"{number}")) for number in range(60)]
        for job in jobs:
            await client.enqueue(job)
        await asyncio.gather(*(job.result() for job in jobs))
        assert emulator.ledger.charges == emulator.ledger.credits_charged == 60
        assert sum(plan.fired.values()) > 20
    files = sorted(tmp_path.iterdir())
    assert files == sorted(path for job in jobs for path in job.files)
    assert len(files) == 60
    for path in files:
        with Image.open(path) as image:
            image.load()


async def test_a_failed_download_leaves_the_generation_paid_and_known(online, tmp_path, new_job):
    """The job fails with the download's error; its generation is still in hand."""
    async with online(faults=FaultPlan(Fault("image", "wrong_image"))) as (_, client):
        job = new_job(destination=Destination(tmp_path))
        await client.enqueue(job)
        with pytest.raises(Exception, match="paid, not lost"):
            await job.result()
        assert job.generation.image_urls
        assert job.status == "completed"
        assert list(tmp_path.iterdir()) == []


class BrokenSlot:
    """A slot of a user's own limiter that fails when it is told of an acceptance."""

    def __init__(self, slot):
        self._slot = slot

    def __getattr__(self, name):
        return getattr(self._slot, name)

    def accepted(self, rate_limit):
        raise LookupError("a limiter of the user's own")


class BrokenLimiter(AccountLimiter):
    async def acquire(self, *, priority=0):
        return BrokenSlot(await super().acquire(priority=priority))


async def test_what_a_limiter_raises_loses_no_paid_id(online, recorder, new_job):
    """It is on the job and in its ledger before the error goes on."""
    async with online(client={"limiter": BrokenLimiter()}) as (emulator, client):
        ledger = recorder()
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        with pytest.raises(LookupError):
            await job.result()
        assert emulator.ledger.charges == 1
        assert ledger.generation_id == job.generation_id is not None


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.parametrize("error", [partial(ConnectError, "no way"), partial(BlockedError, "a wall", status_code=403)])
async def test_what_a_ledger_meets_after_the_answer_sends_nothing_again(online, recorder, new_job, error, mode):
    """It may ask the service for the balance, say. As the error of a submission this means that none was taken."""

    class Asking(recorder):
        async def accepted(self, job, submission):
            await super().accepted(job, submission)
            raise error()

    async with online(duration=0.01) as (emulator, client):
        await client.generate("lets the next ones in")
        ledger = Asking()
        job = new_job(mode=mode, ledger=ledger)
        await client.enqueue(job)
        with pytest.raises(error.func) as caught:
            await job.result()
        assert ledger.hooks == ["intend", "accepted"]
        assert caught.value.generation_id == emulator.ledger.charged()[-1].generation_id
        assert emulator.ledger.charges == 2


async def test_an_error_that_is_not_ours_tells_the_paid_id(online):
    """Whoever awaits `generate` has nothing but the error."""
    async with online(client={"limiter": BrokenLimiter()}) as (emulator, client):
        with pytest.raises(LookupError) as raised:
            await client.generate("a cat")
        [entry] = emulator.ledger.charged()
        assert f"client.wait({entry.generation_id!r})" in "".join(raised.value.__notes__)


# ---- the ledger's hooks


async def test_hooks_in_order(online, tmp_path, recorder, new_job):
    """Intended before a byte is sent, accepted next, then finished and stored."""
    async with online() as (emulator, client):
        ledger = recorder(emulator)
        job = new_job(ledger=ledger, destination=Destination(tmp_path))
        await client.enqueue(job)
        await job.result()
        assert ledger.hooks == ["intend", "accepted", "finished", "stored"]
        assert ledger.posts == [0, 1, 1, 1]
        assert ledger.generation_id == job.generation_id


async def test_a_refusal_withdraws_the_intent(online, recorder, new_job):
    """And the next attempt intends again."""
    plan = FaultPlan(Fault("submit", "refuse", times=1))
    async with online(faults=plan) as (_, client):
        ledger = recorder()
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        await job.result()
        assert ledger.hooks == ["intend", "withdrawn", "intend", "accepted", "finished"]


@pytest.mark.parametrize(
    ("kind", "hooks"),
    [("html_wall", ["intend", "withdrawn"]), ("garbage_200", ["intend"]), ("error_500", ["intend"])],
)
async def test_an_intent_stands_only_where_money_may_be_spent(online, recorder, new_job, kind, hooks):
    """What was refused for good is withdrawn; what is uncertain is not."""
    async with online(faults=FaultPlan(Fault("submit", kind))) as (_, client):
        ledger = recorder()
        job = new_job(ledger=ledger)
        await client.enqueue(job)
        with pytest.raises(Exception, match="POST /generate"):
            await job.result()
        assert ledger.hooks == hooks


@pytest.mark.parametrize("mode", ["async", "stream", "sync"])
async def test_a_failed_generation_was_accepted(online, recorder, new_job, mode):
    """Its id is in the ledger, whichever way it was told."""
    async with online() as (emulator, client):
        ledger = recorder()
        job = new_job("[fail]", ledger=ledger, mode=mode)
        await client.enqueue(job)
        with pytest.raises(Exception, match="failed"):
            await job.result()
        assert ledger.hooks[:2] == ["intend", "accepted"]
        assert ledger.generation_id == job.generation_id == emulator.ledger.charged()[0].generation_id


async def test_an_error_that_names_its_generation_is_picked_up_by_it(online, recorder, new_job):
    """A 5xx with an id is no lost answer: the id is recorded, its looks say what became of it, and the slot is kept."""
    async with online() as (emulator, client):
        ledger = recorder()
        job = new_job("[fail]", ledger=ledger, mode="sync")
        await client.enqueue(job)
        with pytest.raises(GenerationFailedError) as caught:
            await job.result()
        assert ledger.hooks == ["intend", "accepted", "finished"]
        assert caught.value.generation_id == emulator.ledger.charged()[0].generation_id
        assert emulator.ledger.requests == {"POST /generate": 1, "GET /generate": 1}
        assert client.statistics().submitting == client.statistics().abandoned == 0


@pytest.mark.parametrize("mode", ["sync", "stream"])
async def test_every_mode_tells_the_ledger(online, recorder, new_job, mode):
    """Accepted as soon as the id is known, once."""
    async with online() as (_, client):
        ledger = recorder()
        job = new_job(ledger=ledger, mode=mode)
        await client.enqueue(job)
        await job.result()
        assert ledger.hooks == ["intend", "accepted", "finished"]
        assert ledger.generation_id == job.generation_id


async def test_polls_that_deny_a_generation_withdraw_nothing(online, recorder, new_job):
    """It was accepted and paid: an error while looking at it is no refusal."""
    async with online(faults=FaultPlan(Fault("poll", "expire"), Fault("stream", "truncate"))) as (_, client):
        ledger = recorder()
        job = new_job(ledger=ledger, mode="stream")
        await client.enqueue(job)
        with pytest.raises(Exception, match="not found"):
            await job.result()
        assert ledger.hooks == ["intend", "accepted"]
