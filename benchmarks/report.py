"""What the benchmarks say: tables on the screen, and the same as JSON and Markdown in results/."""

import datetime
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ["sknn", "scikit-learn", "numpy", "scipy", "torch", "jax"]


class Report:
    """Collects tables; prints each at once and writes all of them at the end."""

    def __init__(self, title, **settings):
        self.title = title
        self.machine = describe_machine() | settings
        self.data = {}
        self.tables = []
        # a file or a pipe has no width of its own
        self.console = Console(width=None if sys.stdout.isatty() else 130)
        self.console.print(f"[bold]{title}[/bold]")
        self.console.print("\n".join(f"{k}: {v}" for k, v in self.machine.items()), style="dim")

    def add(self, key, title, columns, rows, data, note=""):
        """Print one table and keep it, with its raw `data` under `key`."""
        table = Table(title=f"\n{title}", box=box.SIMPLE_HEAVY, caption=note)
        for i, column in enumerate(columns):
            table.add_column(column, justify="right" if i else "left", no_wrap=i == 0)
        for row in rows:
            table.add_row(*row)
        self.console.print(table)
        self.tables.append((title, columns, rows, note))
        self.data[key] = data

    def write(self, stem):
        """Write results/<stem>-<CPU>-<date>.json and .md; return the path without its suffix."""
        RESULTS.mkdir(exist_ok=True)
        cpu = re.sub(r"\((R|TM|tm|r)\)", "", self.machine["CPU"]).lower()
        cpu = re.sub(r"[^a-z0-9]+", "-", cpu).strip("-")
        path = RESULTS / f"{stem}-{cpu}-{self.machine['date']}"
        content = {"title": self.title, "machine": self.machine} | self.data
        path.with_suffix(".json").write_text(json.dumps(content, indent=1) + "\n")
        path.with_suffix(".md").write_text(self.markdown())
        return path.relative_to(ROOT)

    def markdown(self):
        """Return the whole report as Markdown."""
        lines = [f"# {self.title}", ""]
        lines += [f"- {key}: {value}" for key, value in self.machine.items()]
        for title, columns, rows, note in self.tables:
            lines += ["", f"## {title}", "", _markdown_row(columns)]
            lines += [_markdown_row(["---"] + ["---:"] * (len(columns) - 1))]
            lines += [_markdown_row(row) for row in rows]
            lines += ["", note] if note else []
        return "\n".join(lines) + "\n"


def _markdown_row(cells):
    return "| " + " | ".join(cells) + " |"


def describe_machine():
    """Return what a reader must know to judge the figures."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "CPU": _cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "versions": ", ".join(f"{name} {_version(name)}" for name in PACKAGES),
    }


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _commit():
    command = ["git", "describe", "--always", "--dirty", "--abbrev=10"]
    try:
        output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return output.stdout.strip()


def _cpu_name():
    try:
        info = Path("/proc/cpuinfo").read_text()
        return re.search(r"model name\s*:\s*(.+)", info).group(1).strip()
    except (OSError, AttributeError):
        return platform.processor() or platform.machine()
