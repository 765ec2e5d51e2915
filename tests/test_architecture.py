"""The layers: a module imports only from lower rows, the pure ones no I/O, and the package no extra."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest

import nanobanana_async

PACKAGE = Path(nanobanana_async.__file__).parent
LAYERS = (
    ("_version", "_exceptions", "_leftovers", "_known", "emulator"),
    (
        "_sse",
        "_retry",
        "_images",
        "_addresses",
        "_partfile",
        "_durations",
        "_pace",
        "_gate",
        "_ranking",
        "_line",
        "_wall",
        "_credentials",
    ),
    ("_models", "_lenient", "_queue", "_calls", "_timeouts"),
    ("_answers",),
    ("_wire", "_polling", "_references", "_part", "_concern"),
    ("_cooldown", "_events", "_learned", "_scope", "_window"),
    ("_questions",),
    ("_admission",),
    ("_job", "_limiter", "_outlook", "_room"),
    ("_tally", "_untold"),
    ("_accounts",),
    ("_transport",),
    ("_api", "_downloads"),
    ("_watch",),
    ("_pipeline",),
    ("_seat",),
    ("_pool",),
    ("_scheduler",),
    ("_engine", "_map", "_stream"),
    ("_client",),
    ("__init__",),
    ("batch",),
    ("integrations",),
    ("testing", "cli"),
    ("__main__",),
)
PURE = (
    *("_exceptions", "_models", "_sse", "_retry", "_wire", "_events", "_polling", "_durations", "_pace", "_learned"),
    *("_images", "_admission", "_cooldown", "_questions", "_scope", "_window", "_job", "_queue", "_outlook"),
    *("_ranking", "_answers", "_lenient", "_known", "_timeouts", "_tally", "_credentials", "_wall", "_concern"),
)
EXTRAS = (
    "typer",
    "rich",
    "PIL",
    "fastapi",
    "redis",
    "taskiq",
    "uvloop",
    "opentelemetry",
    "requests",
    "pytest",
    "sqlite3",
)
ROW = {name: row for row, names in enumerate(LAYERS) for name in names}


def part_of(path: Path) -> str:
    """The module or subpackage that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def imports(path: Path) -> tuple[str, ...]:
    """Every import's absolute name, those inside functions included."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    package = ["nanobanana_async", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def own_imports(path: Path) -> set[str]:
    """The parts of this package that a file imports; a name from the package itself is `__init__`."""
    names = [name.split(".") for name in imports(path) if name.split(".")[0] == "nanobanana_async"]
    return {name[1] if len(name) > 1 and name[1] in ROW else "__init__" for name in names}


def foreign_imports(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - {"nanobanana_async"}


def test_every_module_has_its_place() -> None:
    """A new one must be put into the order, on purpose."""
    assert {part_of(path) for path in sources()} <= set(ROW)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_lower_rows(path: Path) -> None:
    """One direction, no cycles; inside a subpackage its own modules are free."""
    part = part_of(path)
    upward = {name for name in own_imports(path) - {part} if ROW[name] >= ROW[part]}
    assert not upward


@pytest.mark.parametrize("name", PURE)
def test_a_pure_module_does_no_io(name: str) -> None:
    """It is tested without a loop, a socket, or a disk."""
    foreign = foreign_imports(PACKAGE / f"{name}.py")
    assert not foreign & {"aiohttp", "anyio", "aiofiles", "socket", "sqlite3", "threading", "time"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "emulator").rglob("*.py")), ids=lambda path: path.name)
def test_the_emulator_is_an_independent_witness(path: Path) -> None:
    """What it shared with the client it could not testify about."""
    assert own_imports(path) <= {"emulator"}


def test_only_the_transport_touches_aiohttps_client() -> None:
    """`Client` knows its session as a type, and the emulator is a server."""
    users = {part_of(path) for path in sources() if "aiohttp" in foreign_imports(path)}
    assert users <= {"_transport", "_client", "emulator"}
    used = {
        node.attr
        for node in ast.walk(ast.parse((PACKAGE / "_client.py").read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "aiohttp"
    }
    assert used == {"ClientSession"}


def test_importing_the_package_loads_no_extra() -> None:
    """What a program does not use it need not install, nor wait for."""
    code = f"import sys; from nanobanana_async import *; print([name for name in {EXTRAS!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_all_public_names_are_listed_in_order() -> None:
    """What type checkers see, what is loaded when asked for, and the sorted `__all__` are the same names."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    seen_by_type_checkers = {
        (alias.name, node.module)
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(nanobanana_async._HOME_OF.items()) == seen_by_type_checkers
    assert set(nanobanana_async.__all__) == {*nanobanana_async._HOME_OF, "__version__"}
    assert nanobanana_async.__all__ == sorted(nanobanana_async.__all__)
    assert set(nanobanana_async.__all__) <= set(dir(nanobanana_async))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    """As for any module."""
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        nanobanana_async.Cleint  # noqa: B018


def test_every_public_name_is_documented() -> None:
    """A docstring of its own, not one it inherited."""
    public = [getattr(nanobanana_async, name) for name in nanobanana_async.__all__]
    assert [thing.__name__ for thing in public if isinstance(thing, type) and not vars(thing).get("__doc__")] == []


def test_its_types_are_shipped() -> None:
    """Type checkers look for the marker file."""
    assert files("nanobanana_async").joinpath("py.typed").is_file()
