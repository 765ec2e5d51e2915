"""How long a job will wait for its slot, from how long slots were held so far. Pure."""

from __future__ import annotations

from ._admission import AdmissionStatistics

PRESUMED_LENGTH = 10.0  # seconds of a generation, while none has ended: the least that the service tells of
MEMORY = 20  # slots that the mean looks back on: as many as a drift of the durations is followed within


class SlotLengths:
    """How many seconds a slot is held, on average over about the last MEMORY of them."""

    def __init__(self) -> None:
        self.mean: float | None = None
        self._seen = 0

    def add(self, seconds: float) -> None:
        """One more was held for so long."""
        self._seen = min(self._seen + 1, MEMORY)
        before = self.mean if self.mean is not None else seconds
        self.mean = before + (seconds - before) / self._seen


def expected_wait(ahead: int, slots: AdmissionStatistics, mean: float | None) -> float | None:
    """Seconds until a slot is free for one with `ahead` others before it; None while nobody can know.

    The slots in use come free one after the other, each `mean / slots` after the one before; the first is on average
    half of that away.
    """
    taken = slots.running + slots.submitting + slots.forsaken
    free = slots.limit - taken if slots.limit is not None else int(not slots.submitting)
    if ahead < free:
        return slots.cool_down
    if mean is None:
        return None
    width = slots.limit if slots.limit is not None else taken
    return slots.cool_down + (ahead - max(0, free) + 0.5) * mean / max(1, width)


def slot_interval(slots: AdmissionStatistics, mean: float | None) -> float:
    """Seconds from one slot's coming free to the next one's, on average, when all are in use."""
    return (PRESUMED_LENGTH if mean is None else mean) / max(1, slots.slots)
