"""Which row comes next, and that none comes once the brake is pulled."""

from __future__ import annotations

import asyncio

from nanobanana_async import GenerateRequest
from nanobanana_async.batch import Journal, Row
from nanobanana_async.batch._brake import Brake
from nanobanana_async.batch._feeding import Feed
from nanobanana_async.batch._journal_rows import JobState


async def test_a_row_that_is_read_while_the_brake_is_pulled_is_not_handed_out(tmp_path):
    """Its job would wait for a slot, unnoticed by whoever withdraws those that wait, and the run for its job."""
    async with Journal.open(tmp_path) as journal:
        await journal.add_rows([Row(0, 1, None, GenerateRequest(prompt="a cat"), {})])
        brake = Brake()
        feed = Feed(journal, brake, JobState.READY, width=lambda: 1)
        reading = asyncio.create_task(feed.next())
        await asyncio.sleep(0)  # it has asked the journal
        brake.pull()
        assert await reading is None
        await feed.all_done()
