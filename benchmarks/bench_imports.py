"""How long things take to start, in fresh processes. Run: python benchmarks/bench_imports.py [--check]

Our import with every public name used (they load when first asked for), beside the four libraries that it stands on
with the names used that a program needs of them; the peers' imports; `nanobanana --help`, one press of the tab key,
and the time from `nanobanana generate` to its POST, beside `import aiohttp`. Bytecode is compiled before, as pip does.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec

from measuring.first_post import Listener
from measuring.report import Table, options_of
from measuring.rounds import Figure
from measuring.turns import cpu_seconds

ROUNDS = 15
NOTHING, AIOHTTP, OURS, LIBRARIES = (
    "python",
    "import aiohttp",
    "import nanobanana_async, all names",
    "the four libraries",
)
HELP, TAB, POST = "nanobanana --help", "tab after `nanobanana generate --m`", "nanobanana generate, to its POST"
IMPORTS = {
    NOTHING: "pass",
    AIOHTTP: "import aiohttp",
    LIBRARIES: "import aiohttp, aiofiles; from anyio import create_task_group; from pydantic import BaseModel, Field",
    OURS: "from nanobanana_async import *",
}
PEERS = ("fal_client", "replicate", "openai")
MOST = {(OURS, LIBRARIES): 1.15, (HELP, AIOHTTP): 0.65}
PROGRAM = "from nanobanana_async.cli import main; main()"
WORDS = {"_NANOBANANA_COMPLETE": "complete_bash", "COMP_WORDS": "nanobanana generate --m", "COMP_CWORD": "2"}

Times = Mapping[str, float]


def main() -> int:
    parser = options_of(__doc__)
    parser.set_defaults(rounds=ROUNDS)
    options = parser.parse_args()
    rows = measure(options)
    misses = list(check(rows))
    if options.json:
        print(json.dumps({"rows": rows, "misses": misses}))
    else:
        tell(rows, misses)
    return 1 if options.check and misses else 0


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """By what was started: milliseconds of wall and processor, and wall over that of each base in the same round."""
    [package] = find_spec("nanobanana_async").submodule_search_locations
    compileall.compile_dir(package, quiet=1)
    with tempfile.TemporaryDirectory() as home, Listener() as listener:
        starts = started(home, listener)
        rounds = list(alternated(starts, options.rounds))
    return {name: figures(name, rounds) for name in starts}


def started(home: str, listener: Listener) -> dict[str, Callable[[], Times]]:
    """What can be started, and how."""
    code = IMPORTS | {f"import {peer}": f"import {peer}" for peer in PEERS if find_spec(peer)}
    starts: dict[str, Callable[[], Times]] = {
        name: lambda text=text: run([sys.executable, "-c", text]) for name, text in code.items()
    }
    own = [sys.executable, "-c", PROGRAM]
    post = [*own, "generate", "a lighthouse", "--base-url", listener.base_url, "-o", home]
    known = {"HOME": home, "XDG_STATE_HOME": home, "XDG_CACHE_HOME": home, "NANO_BANANA_API_KEY": "nb_0123456789abcdef"}
    return starts | {
        HELP: lambda: run([*own, "--help"]),
        TAB: lambda: run(own, **WORDS),
        POST: lambda: run(post, ended=listener.asked, **known),
    }


def alternated(starts: Mapping[str, Callable[[], Times]], rounds: int) -> Iterator[Mapping[str, Times]]:
    """One of each a round, the order turning, after one that warms the files."""
    names = list(starts)
    for place in range(-1, rounds):
        shift = place % len(names)
        times = {name: starts[name]() for name in names[shift:] + names[:shift]}
        if place >= 0:
            yield times


def run(command: list[str], *, ended: Callable[[], float] = time.perf_counter, **environment: str) -> Times:
    """A process from its start until `ended` says when, and what it took of the processor."""
    quiet = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began, cpu = time.perf_counter(), cpu_seconds()
    subprocess.run(command, env=quiet | environment, capture_output=True, check=False, timeout=60)
    return {"wall": ended() - began, "cpu": cpu_seconds() - cpu}


def figures(name: str, rounds: list[Mapping[str, Times]]) -> dict[str, float]:
    wall = Figure.of([times[name]["wall"] * 1000 for times in rounds])
    over = {
        f"over {base}": Figure.of([times[name]["wall"] / times[base]["wall"] for times in rounds]).median
        for base in (AIOHTTP, LIBRARIES)
    }
    cpu = Figure.of([times[name]["cpu"] * 1000 for times in rounds]).median
    return {"wall_ms": wall.median, "spread": wall.spread, "cpu_ms": cpu} | over


def check(rows: dict[str, dict[str, float]]) -> Iterator[str]:
    """What is over the bar."""
    for (name, base), most in MOST.items():
        found = rows[name][f"over {base}"]
        if found > most:
            yield f"{name}: {found:.2f} x {base}, wanted {most}"


def tell(rows: dict[str, dict[str, float]], misses: list[str]) -> None:
    table = Table("fresh process", "wall ms", "CPU ms", "over aiohttp", "over the four")
    for name, row in rows.items():
        wall = f"{row['wall_ms']:.0f} ±{row['spread']:.0%}"
        table.add(name, wall, f"{row['cpu_ms']:.0f}", *(f"{row[f'over {base}']:.2f}" for base in (AIOHTTP, LIBRARIES)))
    table.print()
    for miss in misses:
        print(f"MISSED {miss}")


if __name__ == "__main__":
    sys.exit(main())
