"""The commands and their options. Each imports its work only when it runs, so that --help is quick."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from .._version import __version__

_EPILOG = """\b
Start here:
  nanobanana demo                            no key, no network, 20 seconds
  nanobanana generate "an orange cat" -o out
  nanobanana batch prompts.jsonl -o out      run it again to go on

\b
Environment:
  NANO_BANANA_API_KEY     your key, or NB_API_KEY
  NANO_BANANA_BASE_URL    another server, such as the emulator

\b
Exit codes:
  0  all stored               3  key or access
  1  some without files       4  credits
  2  bad input or usage     130  interrupted
"""


class _Plain:
    """Help without the braces and types that typer puts around arguments which already have a name."""

    def get_help(self, ctx: Any) -> str:
        return _plain(super().get_help(ctx))  # type: ignore[misc]  # mixed into typer's classes

    def get_usage(self, ctx: Any) -> str:
        return _plain(super().get_usage(ctx))  # type: ignore[misc]  # mixed into typer's classes


class _Group(_Plain, TyperGroup):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read a command's name. To read that there is no --help before it, typer would load pydantic."""
        self.add_help_option = not (args and args[0] in self.commands)
        return super().parse_args(ctx, args)


class _Command(_Plain, TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the options. A program that asked for JSON gets it of bad usage, too."""
        as_json = "--json" in args
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if as_json and (told := getattr(error, "format_message", None)):  # click's, which newer typers bring along
                from ._output import error_json, print_json

                print_json({"error": error_json(error, kind="UsageError", message=told())})
            raise


def _plain(text: str) -> str:
    return re.sub(r"\{([A-Z]+)\}", r"\1", text).replace(" <str>", "").replace(" <path>", "")


app = typer.Typer(
    name="nanobanana",
    cls=_Group,
    help="Prompts to image files through the Nano Banana API: every slot busy, no credit spent twice, no image lost.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,  # its options make typer load pydantic, which takes longer than all the rest of --help
    rich_markup_mode=None,  # without rich, --help takes half the time
    pretty_exceptions_enable=False,  # they print local variables, the key among them
    context_settings={"help_option_names": ["-h", "--help"]},
)


@cache
def command() -> TyperGroup:
    """The commands, ready to be called: built once a process."""
    built = typer.main.get_command(app)
    assert isinstance(built, TyperGroup)
    return built


Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more on stderr.")]
BaseUrl = Annotated[str | None, typer.Option("--base-url", metavar="URL", help="Instead of NANO_BANANA_BASE_URL.")]
NoBaseUrl = Annotated[  # every command takes it, so that scripts may pass it to all; these talk to no server
    str | None, typer.Option("--base-url", metavar="URL", hidden=True)
]
FirstPoll = Annotated[
    float | None, typer.Option("--first-poll", metavar="S", min=0, help="Seconds before the first look at a job.")
]
PollInterval = Annotated[
    float | None, typer.Option("--poll-interval", metavar="S", min=0.001, help="Fixed seconds between looks.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, of failures too.")]
ModelName = Annotated[str | None, typer.Option("-m", "--model", metavar="MODEL", help="See `nanobanana models`.")]
Ratio = Annotated[str | None, typer.Option("-a", "--aspect-ratio", metavar="RATIO", help="Like 16:9.")]
Quantity = Annotated[int | None, typer.Option("-n", "--quantity", metavar="N", min=1, help="Images for a prompt.")]


Account = Annotated[
    str | None, typer.Option(metavar="NAME", help="The account's name among workers, for keys that share it.")
]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False) -> None:
    if show:
        typer.echo(f"nanobanana_async {__version__}")
        raise typer.Exit


@app.command(cls=_Command)
def generate(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="What to draw.")],
    model: ModelName = None,
    aspect_ratio: Ratio = None,
    references: Annotated[
        list[str] | None, typer.Option("-r", "--reference", metavar="REF", help="Image file, URL or data URI.")
    ] = None,
    quantity: Quantity = None,
    mode: Annotated[Literal["async", "sync", "stream"], typer.Option(help="How to wait for it.")] = "async",
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the images go.")] = Path(),
    as_json: Json = False,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    base_url: BaseUrl = None,
    verbose: Verbose = False,
) -> None:
    """Draw one prompt; print the paths of its images."""
    from ._generate import GenerateOptions, generate
    from ._run import Connection, run

    options = GenerateOptions(prompt, model, aspect_ratio, tuple(references or ()), quantity, mode, output, as_json)
    run(generate(Connection(base_url, first_poll, poll_interval), options), verbose=verbose, as_json=as_json)


@app.command(cls=_Command)
def batch(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="A .txt, .jsonl or .csv file, or - for stdin.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The batch's folder.")],
    model: ModelName = None,
    aspect_ratio: Ratio = None,
    quantity: Quantity = None,
    max_credits: Annotated[int | None, typer.Option(metavar="N", min=0, help="Spend no more than this.")] = None,
    max_concurrency: Annotated[int | None, typer.Option(metavar="N", min=1, help="Use no more slots.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would cost, and leave.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask before spending.")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="Run as far as the credits go.")] = False,
    dedupe: Annotated[bool, typer.Option("--dedupe", help="Leave out rows that were there before.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Send failed and lost rows again, if a free look finds no images.")
    ] = False,
    uncertain: Annotated[
        Literal["hold", "retry"], typer.Option(help="What to do with rows that may be paid already.")
    ] = "hold",
    distributed: Annotated[
        str | None, typer.Option(metavar="REDIS_URL", help="Let workers draw, here and elsewhere.")
    ] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="Where workers put images: s3://…, gs://…")] = None,
    account: Account = None,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    base_url: BaseUrl = None,
    verbose: Verbose = False,
) -> None:
    """Draw every prompt of a file into a folder. Running it again goes on where it stopped."""
    from ._batch import batch
    from ._options import BatchOptions
    from ._run import Connection, run

    options = BatchOptions(
        source=source,
        output=output,
        model=model,
        aspect_ratio=aspect_ratio,
        quantity=quantity,
        max_credits=max_credits,
        max_concurrency=max_concurrency,
        dry_run=dry_run,
        yes=yes,
        partial=partial,
        dedupe=dedupe,
        retry_failed=retry_failed,
        uncertain=uncertain,
        distributed=distributed,
        store=store,
        account=account,
    )
    run(batch(Connection(base_url, first_poll, poll_interval), options), verbose=verbose)


@app.command(cls=_Command)
def worker(
    url: Annotated[str, typer.Argument(metavar="URL", help="That of Redis, as in batch --distributed.")],
    folder: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Where the batch's folder is mounted here.")
    ] = None,
    account: Account = None,
    max_concurrency: Annotated[int | None, typer.Option(metavar="N", min=1, help="Use no more slots.")] = None,
    slices: Annotated[int, typer.Option(metavar="N", min=1, help="Shards at once.")] = 2,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    base_url: BaseUrl = None,
    verbose: Verbose = False,
) -> None:
    """Draw for distributed batches until Ctrl-C. Start as many as you like."""
    from ._run import Connection, run
    from ._worker import WorkerOptions, worker

    options = WorkerOptions(url=url, folder=folder, account=account, max_concurrency=max_concurrency, slices=slices)
    run(worker(Connection(base_url, first_poll, poll_interval), options), verbose=verbose)


@app.command(cls=_Command)
def gallery(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A batch's folder.")],
    _base_url: NoBaseUrl = None,
    verbose: Verbose = False,
) -> None:
    """Rebuild a batch's index.html, also while it runs."""
    from ._batch import gallery
    from ._run import run

    run(gallery(folder), verbose=verbose)


@app.command(cls=_Command)
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The demo's folder.")] = Path(
        "nanobanana-demo"
    ),
    _base_url: NoBaseUrl = None,
    verbose: Verbose = False,
) -> None:
    """Draw 24 prompts without key or network.

    The emulator runs in this process. An earlier demo in the folder is drawn again.
    """
    from ._demo import demo
    from ._run import run

    run(demo(output), verbose=verbose)


@app.command(cls=_Command)
def get(
    generation_id: Annotated[str, typer.Argument(metavar="ID", help="A generation's id.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it has ended.")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="DIR", help="Save its images.")] = None,
    as_json: Json = False,
    first_poll: FirstPoll = None,
    poll_interval: PollInterval = None,
    base_url: BaseUrl = None,
    verbose: Verbose = False,
) -> None:
    """Look at a generation by its id, wait for it, save it."""
    from ._look import get
    from ._run import Connection, run

    connection = Connection(base_url, first_poll, poll_interval)
    run(get(connection, generation_id, wait=wait, output=output, as_json=as_json), verbose=verbose, as_json=as_json)


@app.command(cls=_Command)
def models(as_json: Json = False, base_url: BaseUrl = None, verbose: Verbose = False) -> None:
    """List the models and what an image costs with each."""
    from ._look import models
    from ._run import Connection, run

    run(models(Connection(base_url), as_json=as_json), verbose=verbose, as_json=as_json)


@app.command(cls=_Command)
def credits(as_json: Json = False, base_url: BaseUrl = None, verbose: Verbose = False) -> None:  # noqa: A001
    """Print the account's balance."""
    from ._look import credits_left
    from ._run import Connection, run

    run(credits_left(Connection(base_url), as_json=as_json), verbose=verbose, as_json=as_json)


@app.command(cls=_Command)
def emulator(
    port: Annotated[int, typer.Option(metavar="P", min=0, max=65535, help="0 takes a free one.")] = 8765,
    limit: Annotated[int, typer.Option(metavar="L", min=0, help="Slots of each account; 0 is no limit.")] = 1,
    scope: Annotated[Literal["generation", "request"], typer.Option(help="What holds a slot.")] = "generation",
    credit: Annotated[int, typer.Option("--credits", metavar="N", min=0, help="Of each new account.")] = 1000,
    duration: Annotated[float, typer.Option(metavar="S", min=0, help="Median seconds of a generation.")] = 12.0,
    sigma: Annotated[float, typer.Option(min=0, help="Spread of the log-normal durations.")] = 0.35,
    capacity: Annotated[int | None, typer.Option(min=1, help="Generations of all accounts; then 503.")] = None,
    keys: Annotated[
        list[str] | None, typer.Option("--key", metavar="KEY", help="An account's key; without, any nb_… will do.")
    ] = None,
    announce: Annotated[
        Literal["always", "refusals", "never"], typer.Option(help="When X-RateLimit-* is told.")
    ] = "always",
    seed: Annotated[int, typer.Option(help="Of the durations.")] = 0,
    _base_url: NoBaseUrl = None,
    verbose: Verbose = False,
) -> None:
    """Serve the whole API on this machine, at no cost."""
    from ._emulator import serve
    from ._run import run

    run(
        serve(
            port=port,
            limit=limit or None,
            scope=scope,
            credits=credit,
            duration=duration,
            sigma=sigma,
            capacity=capacity,
            keys=keys or None,
            announce=announce,
            seed=seed,
        ),
        verbose=verbose,
    )
