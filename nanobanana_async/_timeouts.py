"""The deadlines of requests."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from ._exceptions import ConfigurationError


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds, each of them finite and above 0.

    `connect_timeout` covers DNS, TCP and TLS. `request_timeout` is for polls, models and credits, whole.
    `submit_timeout` is for a submission in async mode: generous, because a lost answer may be a paid image.
    `sync_timeout` is for the one blocking call (10 to 60 s; the vendor advises 120 or more). `idle_timeout` is the
    longest silence of a stream, three of its 15 s heartbeats; `download_timeout` that of a download, which has to bring
    1 KiB a second over such a time as well.
    `generation_timeout` is how long a generation is waited for before GenerationTimeoutError, and how long a stream
    may last.

    Raises: ConfigurationError.
    """

    connect_timeout: float = 10.0
    request_timeout: float = 30.0
    submit_timeout: float = 120.0
    sync_timeout: float = 300.0
    idle_timeout: float = 45.0
    download_timeout: float = 60.0
    generation_timeout: float = 900.0

    def __post_init__(self) -> None:
        for field in fields(self):
            seconds = getattr(self, field.name)
            if not 0 < seconds < math.inf:
                raise ConfigurationError(f"{field.name} must be seconds above 0 (got {seconds!r})")

    @classmethod
    def of(cls, timeout: Timeouts | float | None) -> Timeouts:
        """Timeouts as they are; one number for every single request; None for the defaults."""
        if timeout is None:
            return cls()
        if isinstance(timeout, Timeouts):
            return timeout
        return cls(
            connect_timeout=min(timeout, cls().connect_timeout),
            request_timeout=timeout,
            submit_timeout=timeout,
            sync_timeout=timeout,
            idle_timeout=timeout,
            download_timeout=timeout,
        )
