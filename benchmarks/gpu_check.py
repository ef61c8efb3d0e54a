"""Everything about the GPU side, on a real GPU, in one command.

    python benchmarks/gpu_check.py --out DIR

It needs CuPy, NumPy, Cython, scikit-learn, a C++ compiler and this checkout, whose extensions it
builds; PyTorch for its columns. It checks every matrix product and kernel, gradients of many rows,
that graphs repeat what single launches do, whole fits against the CPU, CuPy arrays against those
of NumPy, rows that come in chunks against rows that are there, and orders that the device draws
against NumPy's; then it measures what the device can do and what training does. DIR gets
gpu_check.json and gpu_check.md. The exit status is 1 if a check failed.
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

SECTIONS = (
    "products", "gated", "programs", "gradients", "graphs", "fits", "networks", "arrays", "rows",
    "orders", "sanitizer", "ceilings", "speed", "images", "search",
)  # fmt: skip


def build():
    """The extensions, in place."""
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace", "--parallel",
         str(os.cpu_count())],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def commit():
    """Of the checkout, or what a file says where it travels without its history."""
    path = ROOT / "COMMIT"
    if path.exists():
        return path.read_text().strip()
    try:
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True, check=True,
            capture_output=True,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def environment():
    import cupy
    import numpy
    import sklearn

    try:
        import torch

        torch_version = torch.__version__
    except ImportError:
        torch_version = None
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "date": date.today().isoformat(),
        "commit": commit(),
        "device": properties["name"].decode(),
        "multiprocessors": properties["multiProcessorCount"],
        "cuda_runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "cuda_driver": cupy.cuda.runtime.driverGetVersion(),
        "cupy": cupy.__version__,
        "numpy": numpy.__version__,
        "scikit-learn": sklearn.__version__,
        "torch": torch_version,
        "python": sys.version.split()[0],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--seconds", type=float, default=480, help="after which none begins")
    arguments = parser.parse_args()
    start = time.perf_counter()
    build()
    import gpu_arrays
    import gpu_images
    import gpu_sections
    from gpu_report import write_markdown

    arguments.out.mkdir(parents=True, exist_ok=True)
    report = {"environment": environment(), "build_seconds": time.perf_counter() - start}
    failures = []
    for name in arguments.only:
        begin = time.perf_counter()
        if begin - start > arguments.seconds:
            failures.append(f"{name}: no time left")
            continue
        try:
            modules = gpu_arrays, gpu_images, gpu_sections
            rows = next(getattr(m, name) for m in modules if hasattr(m, name))(report)
        except Exception:
            failures.append(f"{name}: {traceback.format_exc()}")
            print(failures[-1], flush=True)
            continue
        report[name] = rows
        failures += [f"{name}: {row}" for row in rows if not row.get("ok", True)]
        print(f"{name}: {time.perf_counter() - begin:.0f} s", flush=True)
    report["failures"] = failures
    report["seconds"] = time.perf_counter() - start
    (arguments.out / "gpu_check.json").write_text(json.dumps(report, indent=1, default=str))
    text = write_markdown(report)
    (arguments.out / "gpu_check.md").write_text(text)
    print(text)
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
