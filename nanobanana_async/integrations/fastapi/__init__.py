"""FastAPI: a lifespan that owns the client, a dependency, error answers, and a router that makes images over HTTP.

app = FastAPI(lifespan=nanobanana_lifespan())
add_error_handlers(app)
app.include_router(generations_router(auth=current_user_id))

@app.get("/balance")
async def balance(client: ClientDep) -> int:
    return await client.credits()

Needs the extra `fastapi`.
"""

from ._errors import Problem, add_error_handlers, problem_of
from ._lifespan import ClientDep, get_client, nanobanana_lifespan
from ._router import generations_router
from ._schemas import Health, JobList, JobView, Links, Order, Statistics

__all__ = [
    "ClientDep",
    "Health",
    "JobList",
    "JobView",
    "Links",
    "Order",
    "Problem",
    "Statistics",
    "add_error_handlers",
    "generations_router",
    "get_client",
    "nanobanana_lifespan",
    "problem_of",
]
