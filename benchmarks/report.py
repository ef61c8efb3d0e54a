"""What the benchmarks say: tables on the screen, and one file a day in results/.

results/<date>.json holds the machine and the parts, each a table with its raw figures;
results/<date>.md holds the tables. Each benchmark adds its part to the day's file.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ["sknn", "scikit-learn", "numpy", "scipy", "torch", "jax", "onnxruntime"]
MEASURED_SOURCES = ["sknn", "setup.py", "pyproject.toml", "benchmarks/*.py"]


class Report:
    """Collects tables; prints each at once and adds all of them to the day's file."""

    def __init__(self, title, **settings):
        self.title = title
        self.settings = settings
        self.commit = _commit()
        self.machine = describe_machine()
        self.tables = {}
        # a file or a pipe has no width of its own
        self.console = Console(width=None if sys.stdout.isatty() else 150)
        self.console.print(f"[bold]{title}[/bold]")
        described = self.machine | {"commit": self.commit} | self.settings
        self.console.print("\n".join(f"{k}: {v}" for k, v in described.items()), style="dim")

    def add(self, key, title, columns, rows, data, note=""):
        """Print one table and keep it, with its raw `data` under `key`."""
        table = Table(title=f"\n{title}", box=box.SIMPLE_HEAVY, caption=note)
        for i, column in enumerate(columns):
            table.add_column(column, justify="right" if i else "left", no_wrap=i == 0)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
        self.tables[key] = {
            "title": title,
            "columns": columns,
            "rows": rows,
            "note": note,
            "commit": self.commit,
            "data": data,
        }

    def write(self, stem):
        """Add the tables to results/<date>.json under `stem`; return its path without suffix.

        Tables of that part which were not measured this time stay.
        """
        RESULTS.mkdir(exist_ok=True)
        path = _todays_path(self.machine)
        content = read(path) if path.exists() else {"parts": {}}
        content["machine"] = self.machine
        tables = content["parts"].get(stem, {}).get("tables", {}) | self.tables
        content["parts"][stem] = {"title": self.title} | self.settings | {"tables": tables}
        path.write_text(json.dumps(content, indent=1) + "\n")
        path.with_suffix(".md").write_text(_markdown(content))
        return path.relative_to(ROOT).with_suffix("")

    def written_today(self, stem, key):
        """Return the data that the day's file has under `stem` and `key`, or nothing."""
        path = _todays_path(self.machine)
        parts = read(path)["parts"] if path.exists() else {}
        return parts.get(stem, {}).get("tables", {}).get(key, {}).get("data", {})


def read(path):
    return json.loads(Path(path).read_text())


def results():
    """Return the paths of all results, the newest first."""
    return sorted(RESULTS.glob("*.json"), key=lambda path: read(path)["machine"]["date"])[::-1]


def same_machine(a, b):
    return all(a["machine"][key] == b["machine"][key] for key in ("CPU", "cores", "system"))


def _todays_path(machine):
    """Return results/<date>.json, or <date>-<CPU>.json where another machine wrote that."""
    path = RESULTS / f"{machine['date']}.json"
    if path.exists() and not same_machine(read(path), {"machine": machine}):
        cpu = re.sub(r"\((R|TM|tm|r)\)", "", machine["CPU"]).lower()
        return path.with_stem(f"{path.stem}-{re.sub(r'[^a-z0-9]+', '-', cpu).strip('-')}")
    return path


def _markdown(content):
    """Return all tables of a day's file as Markdown."""
    lines = [f"# Benchmarks of {content['machine']['date']}", ""]
    lines += _list(content["machine"])
    for part in content["parts"].values():
        lines += ["", f"## {part['title']}", ""]
        lines += _list({k: v for k, v in part.items() if k not in ("title", "tables")})
        for table in part["tables"].values():
            lines += ["", f"### {table['title']}", "", *markdown_table(**table)]
            lines += ["", f"{table['note']} Commit {table['commit']}.".strip()]
    return "\n".join(lines) + "\n"


def markdown_table(columns, rows, **_):
    """Return the lines of a table in Markdown, its first column aligned left."""
    header = [columns, ["---"] + ["---:"] * (len(columns) - 1)]
    return ["| " + " | ".join(row) + " |" for row in [*header, *rows]]


def in_mebibytes(n_bytes):
    return f"{n_bytes / 2**20:,.1f} MiB"


def _list(settings):
    return [f"- {key}: {value}" for key, value in settings.items()]


def describe_machine():
    """Return what a reader must know to judge the figures."""
    return {
        "date": datetime.date.today().isoformat(),
        "CPU": _cpu_name(),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "memory copy": f"{_copy_rate() / 1e9:.1f} GB/s on one core, read and written bytes",
        "system": f"{platform.system()} {platform.machine()}",
        "compiler": _compiler(),
        "Python": platform.python_version(),
        "versions": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit():
    """Return the commit, and whether what is measured was changed since."""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--", *MEASURED_SOURCES)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}, changed" if changed else commit


def _git(*arguments):
    command = ["git", *arguments]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return output.stdout.strip()


def _cpu_name():
    try:
        info = Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*:\s*(.+)", info).group(1).strip()
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()


def _caches():
    """Return the sizes of the first core's data caches, where Linux tells."""
    caches = []
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (
            (cache / name).read_text().strip() for name in ("level", "type", "size")
        )
        if kind != "Instruction":
            caches.append(f"L{level} {size}")
    return ", ".join(caches) or "unknown"


def _copy_rate(n_bytes=2**29, repeats=5):
    """Return the bytes per second read and written by the best of a few copies out of cache."""
    source, target = np.ones(n_bytes, np.uint8), np.empty(n_bytes, np.uint8)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        np.copyto(target, source)
        seconds.append(time.perf_counter() - start)
    return 2 * n_bytes / min(seconds)


def _compiler():
    """Return the compiler that the kernels name in their file, or Python's."""
    from sknn._kernels.cpu import executor

    binary = Path(executor.__file__).read_bytes()
    found = re.search(rb"GCC: \([^\0]*?\) [\d.]+|clang version [\d.]+", binary)
    return found[0].decode() if found else platform.python_compiler()
