"""What is kept of a job: enough to tell its caller, and to go on with it in another process. Pure."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from ..._job import JobStatus
from ..._models import GenerateRequest, Generation, GenerationStatus, Mode
from ._errors import Problem

ID_BYTES = 15  # 120 bits: in a public router to know the id is to be let in
ENDS = frozenset(
    status.value
    for status in (
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.REJECTED,
        JobStatus.UNCERTAIN,
        JobStatus.CANCELLED,
    )
)
"""The states that a job stays in. One whose wait timed out is still running: so it is told."""


@dataclass(slots=True)
class JobRecord:
    """One job of one owner. Times are seconds since the epoch; `status` is a JobStatus's value."""

    id: str
    owner: str
    request: dict[str, Any]
    priority: float = 0
    mode: Mode = "async"
    timeout: float | None = None
    status: str = JobStatus.QUEUED.value
    created_at: float = field(default_factory=time.time)
    started_at: float | None = None
    ended_at: float | None = None
    generation_id: str | None = None
    credits_used: int | None = None
    images: int = 0
    image_urls: list[str] = field(default_factory=list)
    expires_at: float | None = None
    problem: dict[str, Any] | None = None
    """Why it ended without images; while it runs: why nobody waits for it any more."""

    @classmethod
    def new(cls, owner: str, request: dict[str, Any], **options: Any) -> JobRecord:
        """A job with an id that can't be guessed."""
        return cls(secrets.token_urlsafe(ID_BYTES), owner, request, **options)

    @property
    def ended(self) -> bool:
        """Whether nothing changes any more."""
        return self.status in ENDS

    @property
    def completed(self) -> bool:
        """Whether there are images."""
        return self.status == JobStatus.COMPLETED.value

    def generate_request(self) -> GenerateRequest:
        """What was asked for, to send it."""
        return GenerateRequest(**self.request)

    def generation(self) -> Generation:
        """The generation, as far as it is remembered; its links may have to be asked for again."""
        return Generation(
            id=self.generation_id or "",
            prompt=self.request["prompt"],
            model=self.request.get("model") or "",
            image_urls=tuple(self.image_urls),
        )

    def accepted(self, generation_id: str | None, credits_used: int | None) -> None:
        """The service took it."""
        self.status = JobStatus.RUNNING.value
        self.generation_id = generation_id
        self.credits_used = credits_used
        self.started_at = time.time()

    def learn(self, generation: Generation) -> None:
        """Take over what a look at the generation told."""
        self.generation_id = generation.id or self.generation_id
        if generation.credits_used is not None:
            self.credits_used = generation.credits_used
        if generation.status is not GenerationStatus.COMPLETED or not generation.image_urls:
            return
        self.images = len(generation.image_urls)
        # Images inside their links are large: the record stays small, and asks again when they are wanted.
        inside = any(url[:5].lower() == "data:" for url in generation.image_urls)
        self.image_urls = [] if inside else list(generation.image_urls)
        self.expires_at = generation.expires_at.timestamp() if generation.expires_at else None
        self.end(JobStatus.COMPLETED)

    def end(self, status: JobStatus, problem: Problem | None = None) -> None:
        """Nothing more comes; what was only needed to send the request is dropped."""
        self.status = status.value
        self.ended_at = time.time()
        self.problem = problem.model_dump(exclude_none=True) if problem else None
        self.request.pop("reference_images", None)

    def dump(self) -> str:
        """As JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> JobRecord:
        """From JSON."""
        return cls(**json.loads(text))
