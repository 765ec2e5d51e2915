"""How long a batch waits for what, in one place. Seconds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """The waits of a batch.

    `confirm_delay`: before an unchanged balance is believed, for a submission may still be on its way.
    `network_interval`: between looks whether the network is back.
    `answer_timeout`: after which a submission without an answer no longer holds up the others; also how long a batch
    that is cancelled waits for the answer to the one on its way.
    `outputs_interval`: between two writings of the manifest and the gallery while the batch runs.
    `memory_interval`: between two records of the account's limit and of how long its generations take.
    `shared_memory`: how long an account counts as shared after somebody else has moved its balance.
    """

    confirm_delay: float = 2.0
    network_interval: float = 5.0
    answer_timeout: float = 10.0
    outputs_interval: float = 30.0
    memory_interval: float = 60.0
    shared_memory: float = 900.0
