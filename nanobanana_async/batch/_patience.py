"""How long a batch waits for what, in one place. Seconds."""

from __future__ import annotations

from dataclasses import dataclass

HASTE = 0.5  # of the time in which a slot comes free: so empty ones fill while half a generation runs


@dataclass(frozen=True, slots=True)
class Patience:
    """The waits of a batch.

    `confirm_delay`: before an unchanged balance is believed: the service takes a submission by then, or never.
    `network_interval`: between looks whether the network is back.
    `answer_timeout`: after which a submission without an answer holds up the others in no case; also how long a batch
    that is cancelled waits for the answers to those on their way.
    `overtake_delay`: before which it holds them up in any case; between the two it depends on the slots, see `hold_up`.
    `outputs_interval`: between two writings of the manifest and the gallery while the batch runs.
    `memory_interval`: between two records of the account's limit and of how long its generations take.
    `shared_memory`: how long an account counts as shared after somebody else has moved its balance.
    """

    confirm_delay: float = 10.0
    network_interval: float = 5.0
    answer_timeout: float = 10.0
    overtake_delay: float = 0.05
    outputs_interval: float = 30.0
    memory_interval: float = 60.0
    shared_memory: float = 900.0

    def hold_up(self, slot_interval: float) -> float:
        """How long one submission may hold up the others, where every `slot_interval` seconds a slot comes free.

        No longer than slots can wait for it; and no shorter, for submissions that are unanswered together when the
        process dies can only be judged together.
        """
        return min(self.answer_timeout, max(self.overtake_delay, HASTE * slot_interval))
