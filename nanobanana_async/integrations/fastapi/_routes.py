"""What all routes of the router share: how they answer problems, bound bodies, and describe both for OpenAPI."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from ..._exceptions import NanoBananaError
from ._errors import PROBLEM_JSON, ProblemError, answer_error, problem, problem_response
from ._images import MEDIA_TYPES
from ._lifespan import get_service
from ._schemas import JobView

Responses: TypeAlias = dict[int | str, dict[str, Any]]  # what a route answers, as OpenAPI describes it

MAX_BODY = 20 * 2**20  # bytes: nine reference images of 1.5 MB, in base64
NO_STORE = {"Cache-Control": "no-store"}
_MEANINGS = {
    400: "The image service does not accept these parameters.",
    401: "As the application's own sign-in says.",
    402: "Too few credits are left.",
    404: "There is no such job, image or generation, or it is not yours.",
    409: "It has been submitted: it is paid, runs on, and can't be stopped.",
    410: "The image's link has ended.",
    413: "The request is too large.",
    429: "Too many jobs wait. `Retry-After` tells when to try again.",
    502: "The image service failed, or its answer was lost; with the generation's id, where it is known.",
    503: "Images can't be made at the moment. It is nothing that the caller did.",
    504: "The image service does not answer in time.",
}


def problems(*statuses: int) -> Responses:
    """The `responses` of a route that answers with these problems."""
    content = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _MEANINGS[status], "content": content} for status in statuses}


SUBMITTED: Responses = {
    202: {"description": "Queued. `Location` is where to ask for it."},
    200: {"model": JobView, "description": "It ended while `wait` lasted."},
    **problems(400, 413, 429, 503),
}
FOUND = problems(404, 502, 503, 504)
_BINARY = {"schema": {"type": "string", "format": "binary"}}
IMAGE: Responses = {
    200: {"description": "The image.", "content": dict.fromkeys(sorted(MEDIA_TYPES.values()), _BINARY)},
    **FOUND,
    **problems(410),
}
EVENTS: Responses = {
    200: {
        "description": "Events, each with a whole job as its data.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
THE_END: Responses = {204: {"description": "To a browser that comes back after the end: there is nothing more."}}


class OwnedRoutes:
    """Adds routes to a router that all know who asks, and may answer as the application's own sign-in does."""

    def __init__(self, router: APIRouter, identify: Callable[..., Any], denied: Responses) -> None:
        self._router = router
        self._dependencies = [Depends(identify)]
        self._denied = denied

    def add(
        self,
        method: str,
        path: str,
        endpoint: Callable[..., Any],
        summary: str,
        responses: Responses | None = None,
        **options: Any,
    ) -> None:
        """A route; `options` are FastAPI's. What there is nothing to tell of is left out, unless they say otherwise."""
        self._router.add_api_route(
            path,
            endpoint,
            methods=[method],
            summary=summary,
            responses={**(responses or {}), **self._denied},
            dependencies=self._dependencies,
            **{"response_model_exclude_none": True, **options},
        )


class ProblemRoute(APIRoute):
    """Answers with problem details, whatever the application does with exceptions, and bounds a request's body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own handler, inside ours."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                await (await get_service(request)).turns.next()
                return await handle(_bounded(request))
            except ProblemError as error:
                return problem_response(error.problem)
            except NanoBananaError as error:
                return answer_error(error)

        return answer


def _bounded(request: Request) -> Request:
    """The same request; reading more of its body than MAX_BODY is a 413."""
    received = 0

    async def receive() -> Any:
        nonlocal received
        message = await request.receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise problem(413, "too-large", "Too large", f"A request may have {MAX_BODY:,} bytes.", paid="no")
        return message

    return Request(request.scope, receive)
