"""The house: floors, names that climb them, and files that hold one concept."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

import sknn
from sknn._kernels.ops import Activation, Opcode, Optimizer

PACKAGE = Path(sknn.__file__).parent
KERNELS = PACKAGE / "_kernels"
TESTS = Path(__file__).parent

# floor -> what lives there; a file imports its own floor or lower ones
FLOORS = [
    {"_kernels/formulas.h", "_kernels/vectors.h", "_kernels/tiles.h", "_kernels/images.h",
     "_kernels/conv_tile.h", "_kernels/conv_first.h", "_kernels/conv.h", "_kernels/winograd.h",
     "_kernels/pool.h", "_kernels/ops.pxd", "_kernels/ops.pyx"},
    {"_compat.py", "_threads.py", "_kernels/cpu/variant.py", "_kernels/cpu/kernels.pyx",
     "_kernels/cpu/perceptron.pyx", "_kernels/cpu/perceptron.h", "_kernels/cpu/elementwise.h",
     "_kernels/cpu/sparse.h", "_kernels/cpu/threads.h", "_kernels/cpu/dropout.h",
     "_kernels/cpu/optimizer.h", "_kernels/cpu/norm.h", "_kernels/gpu/device.h",
     "_kernels/gpu/pack.h", "_kernels/gpu/windows.h",
     "_kernels/gpu/activation.cu", "_kernels/gpu/combine.cu", "_kernels/gpu/conv.cu",
     "_kernels/gpu/pool.cu", "_kernels/gpu/dropout.cu", "_kernels/gpu/gather.cu",
     "_kernels/gpu/loss.cu", "_kernels/gpu/narrow.cu", "_kernels/gpu/norm.cu",
     "_kernels/gpu/optimizer.cu", "_kernels/gpu/order.cu", "_kernels/gpu/sparse.cu",
     "_kernels/gpu/source.py",
     "_kernels/gpu/kernels.py", "_kernels/gpu/images.py", "_kernels/gpu/narrow.py",
     "_kernels/gpu/norm.py", "_kernels/gpu/sparse.py", "_kernels/gpu/table.py",
     "_kernels/gpu/blas.py", "_kernels/gpu/driver.py", "_kernels/gpu/hopper.py",
     "_kernels/gpu/product.py", "_kernels/gpu/product.cu", "_kernels/gpu/tensor_cores.h"},
    {"_program.py", "_places.py", "_lowering.py", "_kernels/cpu/executor.pyx",
     "_kernels/gpu/lowering.py", "_kernels/gpu/executor.py", "_kernels/gpu/epoch.py",
     "_kernels/gpu/rows.py"},
    {"layers.py", "_nested.py", "losses.py", "optimizers.py", "schedules.py", "initializers.py",
     "architectures.py"},
    {"_training.py", "_lbfgs.py", "_validation.py", "_targets.py", "_state.py", "_device.py",
     "_orders.py", "_samples.py", "_chain.py", "_team.py"},
    {"__init__.py", "_base.py", "_docs.py", "_show_versions.py", "_supervised.py", "_layered.py",
     "mlp.py", "network.py", "conv.py", "perceptron.py", "plotting.py"},
]  # fmt: skip
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
MARKERS = {"__init__.py", "__init__.pxd"}
SUFFIXES = (".py", ".pyx", ".pxd", ".pxi", ".h", ".cu")
GENERATED = re.compile(r"_(v2|v3|v4|generic)\.pyx$")

LINES_OF_A_FILE = 400
LINES_OF_A_FUNCTION = 50


def sources():
    """Paths of the package's own files, relative to it."""
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        if path.suffix in SUFFIXES and not GENERATED.search(name):
            if path.name not in MARKERS or (path.parent == PACKAGE and path.suffix == ".py"):
                yield name


def floor_of(name):
    """Included files live with the extension that includes them."""
    return 1 if name.endswith(".pxi") else FLOOR[name]


def imported(name):
    """Files of the package that a file imports or includes."""
    text = (PACKAGE / name).read_text()
    here = Path(name).parent
    for header in re.findall(r'(?:#include|extern from|^include) "([\w.]+)"', text, re.M):
        yield from _existing(
            here / header, Path("_kernels") / header, Path("_kernels/cpu") / header
        )
    for module in re.findall(r"^\s*(?:from|cimport|import) (sknn[\w.]*)", text, re.M):
        parts = module.split(".")[1:]
        names = re.search(rf"from {re.escape(module)} c?import \(?([^)]*?)(?:\)|$)", text, re.M)
        members = re.findall(r"\w+", names[1]) if names else []
        if parts:
            yield from _module(parts)
        for member in members:
            yield from _module([*parts, member])


def _module(parts):
    base = Path(*parts)
    return _existing(*(base.with_suffix(suffix) for suffix in (".py", ".pyx", ".pxd")))


def _existing(*paths):
    return {p.as_posix() for p in paths if (PACKAGE / p).is_file()}


@pytest.mark.parametrize("name", list(sources()))
def test_a_file_has_a_floor_and_imports_no_higher_one(name):
    for other in imported(name):
        assert floor_of(other) <= floor_of(name), f"{name} imports {other}, which is above it"


def test_the_architecture_names_every_file():
    """By its name or by a pattern, and none that is not there."""
    text = (TESTS.parent / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"`([\w/*]+\.(?:py|pyx|pxd|pxi|h|cu))`", text))
    named = {name for name in named if not name.startswith(("tests/", "benchmarks/"))}
    files = set(sources()) - {"__init__.py"}
    found = {(f, name) for f in files for name in named if fnmatch(f"/{f}", f"*/{name}")}
    assert {f for f, _ in found} == files
    assert {name for _, name in found} == named
    assert FLOOR.keys() <= {*files, "__init__.py"}


def test_no_cycles():
    graph = {name: set(imported(name)) - {name, "__init__.py"} for name in sources()}
    graph["__init__.py"].discard("__init__.py")
    done = set()
    while ready := {n for n in graph if n not in done and not graph[n] - done - {_twin(n)}}:
        done |= ready
    assert set(graph) == done, f"a cycle among {sorted(set(graph) - done)}"


def _twin(name):
    """A .pyx and its .pxd are one module."""
    return name.replace(".pyx", ".pxd") if name.endswith("x") else name


def words(text):
    """The name of an enumeration's member as C++ and Cython have it."""
    return "".join(word.capitalize() for word in text.split("_")), text.lower()


@pytest.mark.parametrize("member", [*Opcode, *Activation, *Optimizer], ids=lambda m: m.name)
def test_one_word_climbs_all_floors(member):
    camel, snake = words(member.name)
    cpu = "".join(path.read_text() for path in (KERNELS / "cpu").glob("*.pxi"))
    formulas = (KERNELS / "formulas.h").read_text()
    if f"{snake}_forward" not in cpu:
        assert re.search(rf"<int>{member.name}\] =|add\({member.name},", cpu), "no line in a table"
        of_its_own = ("softmax_log_loss", "activate")
        assert f"struct {camel}" in formulas or snake in of_its_own
    assert f"def {snake}(" in (TESTS / "reference.py").read_text()


def test_every_kernel_file_has_a_test():
    """Those of ops are tested by opcode, all together."""
    named = {path.stem for path in (KERNELS / "cpu").glob("*.pxi")}
    together = {"combine", "dense", "dense_csr", "dropout", "loss", "norm", "operands", "steps"}
    together.add("single")  # what the tests themselves call
    tested = {path.stem.removeprefix("test_") for path in (TESTS / "kernels").glob("test_*.py")}
    assert named - together <= tested


def code_lines(name):
    """Lines of code, without docstrings, comments and blank lines."""
    text = (PACKAGE / name).read_text()
    text = re.sub(r'"""(?:.|\n)*?"""', "", text)
    text = re.sub(r"^\s*(?:#|//).*$", "", text, flags=re.M)
    return [line for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("name", list(sources()))
def test_files_are_short(name):
    assert len(code_lines(name)) <= LINES_OF_A_FILE


@pytest.mark.parametrize("name", [n for n in sources() if n.endswith(".py")])
def test_functions_are_short(name):
    for node in ast.walk(ast.parse((PACKAGE / name).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= LINES_OF_A_FUNCTION, f"{node.name} in {name} has {length} lines"
