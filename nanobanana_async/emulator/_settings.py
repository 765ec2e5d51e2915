"""Every option of the emulator, with its default and its reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from ._catalog import DEFAULT_MODELS, Model
from ._faults import FaultPlan

Scope = Literal["generation", "request"]
Announce = Literal["always", "refusals", "never"]
UrlStyle = Literal["absolute", "relative", "protocol-relative", "data"]
ImageFormat = Literal["png", "jpeg", "webp", "mixed"]

_CHOICES: dict[str, tuple[Any, ...]] = {
    "scope": get_args(Scope),
    "announce": get_args(Announce),
    "url_style": get_args(UrlStyle),
    "image_format": get_args(ImageFormat),
}

DAY = 86_400.0
MEBIBYTE = 2**20

UNSAFE_MARKER = "[unsafe]"
"""A prompt with this word gets the content warning: charged, no image."""
FAIL_MARKER = "[fail]"
"""A prompt with this word ends as a failed generation: charged, not refunded."""


class _Faults:
    """An attribute whose None is the default: no faults."""

    def __get__(self, settings: Settings | None, owner: type[Settings]) -> FaultPlan:
        return cast("FaultPlan", None if settings is None else vars(settings)["faults"])  # the class has the default

    def __set__(self, settings: Settings, plan: FaultPlan | None) -> None:
        vars(settings)["faults"] = FaultPlan() if plan is None else plan


@dataclass(kw_only=True, eq=False, repr=False)
class Settings:
    """The options. Those marked *live* may be set on a running emulator; the next request sees the change."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 takes a free port, here and for the images."""
    image_port: int = 0

    limit: int | None = 1
    """Slots of each account; None is unlimited. Afterwards: `emulator.account(key).limit`."""
    scope: Scope = "generation"
    """What holds a slot: a running generation, or an open request to `/generate`."""
    capacity: int | None = None
    """Generations of all accounts at once, above which an async POST meets the 503. Live."""
    credits: int = 1000
    access: bool = True
    keys: Iterable[str] | None = None
    """An account for each; None lets every key that begins with `nb_` be an account of its own."""

    duration: float = 12.0
    """Median seconds of a generation; `math.inf` runs until `finish()` is called. Live."""
    sigma: float = 0.35
    """Spread of the log-normal durations; 0 makes them all alike. Live."""
    latency: float = 0.0
    """Seconds between accepting a request to `/generate` and answering it. Live."""
    seed: int = 0
    """Of the durations; faults have their own."""
    faults: _Faults = _Faults()
    """A `FaultPlan`; None is one without faults. Live."""

    announce: Announce = "always"
    """When `X-RateLimit-*` is told; `never` also strips the 429 of its numbers. Live."""
    counts_itself: bool = False
    """Whether `X-RateLimit-Active` counts the very request that it answers, where requests hold the slots. Live."""
    retry_after: float | None = 1.0
    """Seconds in the `Retry-After` of 429 and 503; None leaves it out. Live."""
    models: Sequence[Model] = DEFAULT_MODELS
    max_quantity: int = 4
    max_body: int = 20 * MEBIBYTE
    """Bytes of a POST, above which it gets the 413. Live."""
    sync_as_async: bool = False
    """Answer sync calls with `"async": true` and an id, as the live service does at times. Live."""
    single_url: bool = False
    """Records carry `outputImageUrl` instead of the list. Live."""

    heartbeat: float = 15.0
    """Seconds between the stream's heartbeats. Live."""
    stream_ids: bool = True
    """Events tell the generation's id in `data`. Live."""

    url_style: UrlStyle = "absolute"
    """How image URLs are written. Live."""
    image_format: ImageFormat = "mixed"
    """What the bytes are, whatever the URL's suffix says. Live."""
    image_size: int = 1024
    """Pixels of the longer side."""
    image_life: float = 15 * DAY
    """Seconds until a link expires, on the emulator's clock. Live."""
    ranges: bool = True
    """Whether the image origin honours `Range`. Live."""

    max_entries: int | None = None
    """Keep at most this many finished generations; the ledger's totals stay exact."""

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
