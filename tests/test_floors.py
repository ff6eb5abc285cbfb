"""Rooms import only from floors below them (ARCHITECTURE: the house)."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "recbole_lightgnn"

# A room is a module or a folder right under the package.
FLOORS = [
    ["allocator", "errors", "files", "compiled", "ops"],
    ["graph", "losses", "pruning"],
    ["encoder"],
    ["models", "baselines"],
    ["trainer"],
    [
        "settings",
        "checks",
        "config",
        "compat",
        "stock_checkpoint",
        "registry",
        "splits",
        "trained",
        "history",
        "export",
        "export_command",
        "quick_start",
        "cli",
    ],
]
# Nobody but these imports a side room.
SIDE_ROOMS = {
    "data": {"cli"},
    "report": {"cli", "quick_start", "splits"},
    "studies": {"cli"},
    "serving": {"cli", "export", "export_command", "bench", "service"},
    "service": {"cli"},
    "bench": {"cli"},
}
LIBRARIES = {floor: {"torch", "numpy", "scipy"} for floor in (0, 1, 2)}
# Machine code is made in these files alone.
COMPILERS = {"numba": {"compiled.py", "row_kernel.py"}, "llvmlite": {"row_kernel.py"}}
SERVING_LIBRARIES = {"numpy"}
# What is used where it is there, or asked for: the library goes without.
OF_EXTRAS = {"pyarrow": {"table.py"}, "tqdm": {"command.py"}, "faiss": {"approximate.py"}}

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
ROOMS = sorted(
    file.stem
    for file in PACKAGE.iterdir()
    if file.name != "__init__.py" and (file.suffix == ".py" or (file / "__init__.py").is_file())
)


def imports_of(source: str) -> set[str]:
    """Dotted names of all that is imported anywhere in a module, also inside functions.

    ``from a import b`` counts as ``a.b``: ``b`` may be a module.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import: this package imports by full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_imports(room: str) -> tuple[set[str], set[str]]:
    """The other rooms of ours and the libraries (no standard ones) that a room imports."""
    files = [PACKAGE / f"{room}.py"] if (PACKAGE / f"{room}.py").is_file() else []
    files += (PACKAGE / room).rglob("*.py")
    names = set().union(*(imports_of(file.read_text(encoding="utf-8")) for file in files))
    ours = {name.split(".")[1] for name in names if name.startswith("recbole_lightgnn.")}
    libraries = {name.split(".")[0] for name in names} - {"recbole_lightgnn"}
    return ours & set(ROOMS) - {room}, libraries - set(sys.stdlib_module_names)


def files_importing(library: str, folder: Path) -> set[str]:
    """Names of the files in a folder that import a library."""
    return {
        file.name
        for file in folder.rglob("*.py")
        if any(name.split(".")[0] == library for name in imports_of(file.read_text("utf-8")))
    }


def misplaced(room: str, ours: set[str]) -> set[str]:
    """The rooms among ``ours`` that ``room`` may not import."""
    if room in SIDE_ROOMS:  # all floors are below them
        wrong = {other for other in ours if room not in SIDE_ROOMS.get(other, {room})}
    else:
        floor = FLOOR_OF[room]
        wrong = {other for other in ours if room not in SIDE_ROOMS.get(other, {room})}
        wrong |= {other for other in ours if FLOOR_OF.get(other, 0) > floor}
    return wrong


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_from_below(room):
    assert room in FLOOR_OF or room in SIDE_ROOMS, f"give {room} a floor in this file"
    assert not misplaced(room, room_imports(room)[0])


@pytest.mark.parametrize("room", [room for room in ROOMS if FLOOR_OF.get(room, 9) in LIBRARIES])
def test_the_lower_floors_know_no_recbole(room):
    assert room_imports(room)[1] - COMPILERS.keys() <= LIBRARIES[FLOOR_OF[room]]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_machine_code_is_made_in_few_files(compiler):
    assert files_importing(compiler, PACKAGE) == COMPILERS[compiler]


def test_serving_needs_numpy_alone():
    rooms, libraries = room_imports("serving")
    for room in rooms:  # whatever it shares with other rooms must be as light
        libraries |= room_imports(room)[1]
    assert libraries - OF_EXTRAS.keys() <= SERVING_LIBRARIES
    for library, files in OF_EXTRAS.items():
        assert files_importing(library, PACKAGE / "serving") == files


def test_no_two_rooms_import_each_other():
    graph = {room: room_imports(room)[0] for room in ROOMS}
    for room in ROOMS:
        reached, frontier = set(), set(graph[room])
        while frontier:
            reached |= frontier
            frontier = set().union(*(graph[other] for other in frontier)) - reached
        assert room not in reached, f"{room} imports itself through {sorted(reached)}"
