"""`get`, `models` and `credits`: reading what is there."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from .._addresses import find_base_url
from .._api import Api
from .._client import Client
from .._exceptions import InvalidRequestError
from .._models import GenerationStatus
from .._transport import Transport
from .._wire import failure_of
from ._output import error_json, generation_json, print_generation, print_json, print_models
from ._run import OK, SOME_FAILED, Connection, output_folder, report
from ._terminal import out, say


async def get(connection: Connection, generation_id: str, *, wait: bool, output: Path | None, as_json: bool) -> int:
    """One look, or a wait; then its images, if a folder is given."""
    if not generation_id.strip():
        raise InvalidRequestError("the generation's id is blank; it looks like clx0123456789abcdef")
    client = connection.client()
    with output_folder(output) if output is not None else nullcontext():
        return await _get(client, generation_id, wait=wait, output=output, as_json=as_json)


async def _get(client: Client, generation_id: str, *, wait: bool, output: Path | None, as_json: bool) -> int:
    async with client:
        generation = await (client.wait(generation_id) if wait else client.get(generation_id))
        failure = failure_of(generation)
        ready = failure is None and generation.status is GenerationStatus.COMPLETED
        files = await client.download(generation, output) if ready and output is not None else None
    if as_json:
        told = generation_json(generation, files)
        print_json(told if failure is None else {**told, "error": error_json(failure)})
    elif files is not None:
        out("\n".join(map(str, files)))
    else:
        print_generation(generation)
    if failure is not None:
        return report(failure)
    if output is not None and not ready:
        say(f"Still processing; wait for it with: nanobanana get {generation_id} --wait -o {output}")
        return SOME_FAILED
    return OK


async def models(connection: Connection, *, as_json: bool) -> int:
    """The model table, which needs no key."""
    transport = Transport(None, base_url=find_base_url(connection.base_url))
    try:
        found = await Api(transport).models()
    finally:
        await transport.aclose()
    if as_json:
        print_json([model.model_dump() for model in found])
    else:
        print_models(found)
    return OK


async def credits_left(connection: Connection, *, as_json: bool) -> int:
    """The balance."""
    async with connection.client() as client:
        balance = await client.credits()
    if as_json:
        print_json({"credits": balance})
    else:
        out(str(balance))
    return OK
