"""The extension modules; everything else is declared in pyproject.toml.

The kernels are compiled once for each instruction set: a module ``<name>_<variant>.pyx``
that includes ``<name>.pyx`` is written beside it, and ``sknn/_kernels/cpu/variant.py``
imports the best one that the processor runs.
"""

import os
import platform
from pathlib import Path

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup

KERNELS = Path("sknn/_kernels")

# instruction set of a variant -> what the compiler is told
VARIANTS = {"generic": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    VARIANTS = {
        "v2": ["-march=x86-64-v2"],
        "v3": ["-march=x86-64-v3"],
        "v4": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }

COMPILE_ARGS = [
    "-O3",
    "-std=c++20",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",  # its pragmas; no OpenMP library
    "-fno-tree-loop-distribute-patterns",  # no memcpy for the few elements of a short row
]
if "-g" not in os.environ.get("CFLAGS", "").split():
    COMPILE_ARGS.append("-g0")  # Python's own flags ask for five times the size

DIRECTIVES = {
    "language_level": "3",
    "boundscheck": False,
    "wraparound": False,
    "cdivision": True,
    "initializedcheck": False,
}


def extension(source, extra=()):
    name = ".".join(source.with_suffix("").parts)
    return Extension(
        name,
        [str(source)],
        language="c++",
        include_dirs=[str(KERNELS), str(KERNELS / "cpu"), np.get_include()],
        define_macros=[("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION")],
        extra_compile_args=[*COMPILE_ARGS, *extra],
        depends=["setup.py"],
    )


def variants(source, extra=()):
    """One extension per instruction set, all from the same source."""
    extensions = []
    for variant, arguments in VARIANTS.items():
        copy = source.with_name(f"{source.stem}_{variant}.pyx")
        text = f'include "{source.name}"\n'
        if not copy.exists() or copy.read_text() != text:
            copy.write_text(text)
        extensions.append(extension(copy, [*arguments, *extra]))
    return extensions


def cythonized(extensions):
    return cythonize(
        extensions,
        compiler_directives=DIRECTIVES,
        include_path=["."],
        nthreads=os.cpu_count() or 1,
    )


def all_extensions():
    """None where SKNN_BUILT says that they were built in place."""
    if "SKNN_BUILT" in os.environ:
        return []
    return cythonized(
        [
            extension(KERNELS / "ops.pyx"),
            extension(KERNELS / "cpu" / "executor.pyx"),
            *variants(KERNELS / "cpu" / "kernels.pyx"),
            # whose sums of equal steps up and down are then nothing again, as scikit-learn's
            *variants(KERNELS / "cpu" / "perceptron.pyx", ["-ffp-contract=off"]),
        ]
    )


if __name__ == "__main__":  # benchmarks/bench_kernels.py builds kernels in the same way
    setup(ext_modules=all_extensions())
