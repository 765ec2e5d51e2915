"""A batch that several workers drain, on several machines, with one Redis between them.

Theory of operation.

**Who has what.** A coordinator (`DistributedBatch`) keeps the batch's folder and journal as for any batch. It hands the
open rows out in *shards*: a file of requests in the storage (a shared folder, or an object store), written once, and
an entry in the *book* in Redis. From then on the book decides, and the journal follows: every changed row is taken over
into it. When all shards have ended the book is dropped, and the folder is a batch as any other. Until then the journal
says so, and no other run may send its rows.

**Who may submit.** Workers (`Worker`) are told of shards by messages, which may come twice, late, or never: a message
only says "look at this shard". Whoever looks claims it: one worker at a time owns a shard, proven by a *fence* that
every claim raises, for as long as its *lease* lasts, by Redis's clock. One step needs the fence: `intend`, before each
POST, which also reserves the cost within the budget. It is refused to a worker whose lease ended or whose shard has
a newer fence, and the lease is looked at once more between its answer and the POST. All other steps record what the
service did or what is on disk. They are true whoever tells them, so they are never refused: an id that is paid and
told late is still a paid id.

**When a worker dies** between intent and acceptance, nobody knows whether it was paid. The row stays `intent` until no
answer can come any more: the lease and then the deadline of a submission must have passed, for the worker may be
stopped and go on. Where it can be seen that its process is gone (same machine), that is at once. Then the row is in
doubt and is judged by the balance, while no worker submits (`_judging`): not taken, it is ready again; taken, it is
`lost`; if the balance can't tell, `uncertain`. It is never sent again unless it is known not to be taken, or the user
asked for it.

**What comes late** is never refused. A worker that slept wakes with the answer to a submission that was judged
meanwhile, or with its image: the truth replaces the judgement. If the whole batch is over by then, Redis keeps it for a
month, and the next run of the same folder takes it over before it sends anything (`_late`).

What is left: a worker that is stopped for longer than lease and deadline together, exactly between the look at its
lease and the kernel's taking of the request, microseconds later, and then goes on, sends a request that was judged not
taken. No client can close that gap, since the service knows no fences. The book tells of it (`twice`).

**When Redis goes away** no intent is possible, so nothing is submitted; what runs is watched and downloaded, and what
came of it is told when Redis is back. When Redis has forgotten the batch, workers tell again what they told lately
(`_retelling`), and the coordinator waits until no submission can be on its way and reads the balance. If it is what the
rows explain, nothing else was taken: what nobody told of is handed out anew. If not (a worker died as well, or
somebody else spends on the account), those rows are `uncertain` (`_recovery`). Redis should keep an append-only file
(`appendonly yes`); with `appendfsync everysec` a power cut of its machine may lose a second.

    _batch      hands out and finishes         _worker    lease, claims, slices
    _handing    which row in which shard       _slice     one slice of one shard
    _watching   sums; rows into the journal    _shard     its rows and their steps    _ledger  one row's steps
    _sweeping   shards that nobody works on    _judging   lost answers                _lease   who may submit
    _book       all steps, one script each (lua/)         _storage   where shards and images are
    _late       what came when all was over    _recovery  a Redis that has forgotten       _retelling  its workers' part
    _beside     tasks that end with a block    _pages     a journal's rows
"""

from .._account import account_id
from ._batch import DistributedBatch
from ._book import Book, BookError, ShardLostError
from ._sweeping import Kick, Sweeper, tell
from ._worker import SliceEnd, Terms, Worker

__all__ = [
    "Book",
    "BookError",
    "DistributedBatch",
    "Kick",
    "ShardLostError",
    "SliceEnd",
    "Sweeper",
    "Terms",
    "Worker",
    "account_id",
    "tell",
]
