"""The router: images over HTTP for the callers of your own application.

Every route is a few lines over the JobService. A job belongs to the caller who made it: to anybody else it does not
exist. What leaves here is a job's view, an image or a problem; never the API key, nor anything of the account.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse

from ..._exceptions import ConfigurationError, InvalidRequestError
from ..._models import GenerateRequest, Mode
from ._callers import OwnerDep, identify
from ._images import MEDIA_TYPES
from ._jobs import JobService
from ._lifespan import get_service
from ._records import JobRecord
from ._routes import EVENTS, FOUND, IMAGE, NO_STORE, SUBMITTED, THE_END, OwnedRoutes, ProblemRoute, problems
from ._schemas import Health, JobList, JobView, Order, Statistics, view
from ._sse import LAST_ID, event_stream, nothing_more, owner_stream
from ._waiting import wait_for_end

INTERACTIVE = 10.0  # a caller who waits goes before a batch, which has priority 0
MAX_WAIT = 120.0  # seconds that a caller may hold a request open
_IMAGE_HEADERS = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}

ServiceDep: TypeAlias = Annotated[JobService, Depends(get_service)]
Name: TypeAlias = Annotated[
    str, Path(alias="id", max_length=300, pattern="^[A-Za-z0-9_~.-]+$", description="A job's id or receipt.")
]


def generations_router(
    *,
    auth: Callable[..., Any] | None = None,
    public: bool = False,
    prefix: str = "/generations",
    priority: float = INTERACTIVE,
    mode: Mode = "async",
    timeout: float | None = None,
    max_quantity: int = 4,
) -> APIRouter:
    """A router for `app.include_router`, on an app with `nanobanana_lifespan`.

    `auth` is a dependency that returns the caller's id (a string, number or UUID), or raises an HTTPException; jobs
    belong to that id. Without one, `public=True` lets everybody in: then who knows a job's id may see it, and jobs
    can't be listed. `priority`, `mode` ("stream" for the service's own progress) and `timeout` are those of the jobs.

    Raises: ConfigurationError without `auth` and `public`, or with both.
    """
    if (auth is None) is not public:
        raise ConfigurationError(
            "generations_router spends your credits: give it auth=, a dependency that returns the caller's id, "
            "or public=True, and only one of the two"
        )
    router = APIRouter(prefix=prefix, tags=["generations"], route_class=ProblemRoute)
    own = OwnedRoutes(router, identify(auth), {} if auth is None else problems(401))
    submit_job = _submitting(priority, mode, timeout, max_quantity)
    own.add("POST", "", submit_job, "Make images", SUBMITTED, status_code=202, response_model=JobView)
    if not public:
        own.add("GET", "", list_jobs, "Your newest jobs")
        own.add("GET", "/events", get_all_events, "Live progress of all your jobs", EVENTS, response_class=Response)
    router.add_api_route("/health", health, summary="Whether the server works", responses=problems(503))
    own.add("GET", "/statistics", statistics, "The queue and the slots", response_model_exclude_none=False)
    own.add("GET", "/{id}", get_job, "A job", FOUND)
    own.add("DELETE", "/{id}", cancel_job, "Cancel a job", FOUND | problems(409))
    own.add("GET", "/{id}/images/{place}", get_image, "An image", IMAGE, response_class=FileResponse)
    own.add("GET", "/{id}/events", get_events, "Live progress", FOUND | EVENTS | THE_END, response_class=Response)
    return router


# ---- what is answered


def _submitting(priority: float, mode: Mode, timeout: float | None, max_quantity: int) -> Callable[..., Any]:
    async def submit_job(
        order: Order,
        request: Request,
        response: Response,
        service: ServiceDep,
        owner: OwnerDep,
        wait: Annotated[float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for the end.")] = 0,
    ) -> JobView:
        """Queue a job and tell where to ask for it.

        With `wait`, answer when it has ended. Who goes away meanwhile cancels a job that was not submitted yet; one
        that was is paid, runs on, and is found by its id.
        """
        if order.quantity > max_quantity:
            raise InvalidRequestError(f"quantity: at most {max_quantity} images at once (got {order.quantity})")
        fields = order.fields()
        GenerateRequest.of(**fields)
        state = await service.submit(JobRecord.new(owner, fields, priority=priority, mode=mode, timeout=timeout))
        if wait:
            state = await wait_for_end(service, state, request, wait)
        told = view(state, _base(request))
        response.headers.update({"Location": told.links.status, **NO_STORE})
        response.status_code = 200 if state.record.ended else 202
        return told

    return submit_job


async def list_jobs(
    request: Request,
    response: Response,
    service: ServiceDep,
    owner: OwnerDep,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> JobList:
    """What you asked for lately, the newest first."""
    response.headers.update(NO_STORE)
    states = await service.newest(owner, limit)
    return JobList(jobs=[view(state, _base(request)) for state in states])


async def get_job(name: Name, request: Request, response: Response, service: ServiceDep, owner: OwnerDep) -> JobView:
    """Where a job is: its place in the queue, its progress, and links to its images.

    To go away and come back later changes nothing. A job's id is remembered for some time; its receipt, the link
    `receipt`, works for as long as the image service knows the generation.
    """
    response.headers.update(NO_STORE)
    return view(await service.find(name, owner), _base(request, 1))


async def cancel_job(name: Name, request: Request, response: Response, service: ServiceDep, owner: OwnerDep) -> JobView:
    """Cancel a job for free, as long as it was not submitted. Afterwards it is paid and can't be stopped: 409."""
    response.headers.update(NO_STORE)
    return view(await service.cancel(name, owner), _base(request, 1))


async def get_image(
    name: Name,
    place: Annotated[int, Path(ge=1, le=100, description="The first is 1.")],
    service: ServiceDep,
    owner: OwnerDep,
) -> FileResponse:
    """One image of a job, fetched by this server, checked and whole."""
    path = await service.image(name, owner, place)
    return FileResponse(
        path,
        media_type=MEDIA_TYPES[path.suffix],
        filename=path.name,
        content_disposition_type="inline",
        headers=_IMAGE_HEADERS,
    )


async def get_events(
    name: Name,
    request: Request,
    service: ServiceDep,
    owner: OwnerDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Events `status`, each with the whole job, and a last one, `end`. To stop reading never cancels the job."""
    state = await service.find(name, owner)
    if state.record.ended and last_event_id == LAST_ID:
        return nothing_more()
    return event_stream(service, state, owner, _base(request, 2))


async def get_all_events(
    request: Request,
    service: ServiceDep,
    owner: OwnerDep,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Events `job`, each with one of your jobs: first those that are open, then every change of any.

    One connection for a whole page. Ends that happened while a browser was away are told when it comes back.
    """
    return owner_stream(service, owner, _base(request, 1), last_event_id)


async def health(response: Response, service: ServiceDep) -> Health:
    """For a load balancer; it tells nothing else and needs no sign-in."""
    response.headers.update(NO_STORE)
    service.check_open()
    return Health()


async def statistics(response: Response, service: ServiceDep) -> Statistics:
    """This worker's queue and slots."""
    response.headers.update(NO_STORE)
    return Statistics.of(service.client.statistics(), service.states.lengths.median)


def _base(request: Request, depth: int = 0) -> str:
    """The path the router stands on, as the caller sees it: below a mount or a proxy's prefix, too."""
    parts = request.url.path.rstrip("/").split("/")
    return "/".join(parts[: len(parts) - depth])
