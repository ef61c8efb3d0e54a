"""How do the newest results compare with those before, on the same machine?

python benchmarks/compare.py                       the two newest
python benchmarks/compare.py OLD.json [NEW.json]   other files; NEW is the newest by default

Prints new / old for every figure: below 1 is better for seconds and bytes, above 1 for rates and
ratios. ~ marks a noisy figure. What only one of the files has is counted at the end.
"""

import argparse
import math
import sys

from report import read, results, same_machine
from rich import box
from rich.console import Console
from rich.table import Table

# how a timing was made and what was learned; its figure is "seconds"
NOT_FIGURES = {"best", "worst", "kept", "taken", "quiet", "loss", "best_score", "n_threads"}
NOTABLE = 1.1  # marked where it differs by more


def figures(content):
    """Return {(part, table, ..., name): (number, whether it is quiet)} of a day's file."""
    found = {}
    for stem, part in content["parts"].items():
        for key, table in part["tables"].items():
            _collect(table["data"], (stem, key), found)
    return found


def _collect(data, path, found, quiet=True):
    if isinstance(data, dict):
        quiet = quiet and data.get("quiet", True)
        for name, value in data.items():
            if name not in NOT_FIGURES:
                _collect(value, (*path, name), found, quiet)
    elif isinstance(data, list):
        for i, value in enumerate(data):
            _collect(value, (*path, str(i)), found, quiet)
    elif isinstance(data, int | float) and not isinstance(data, bool):
        found[path] = data, quiet


def print_ratios(old, new, console):
    """Print a table for each part that both have."""
    old, new = figures(old), figures(new)
    both = [path for path in new if path in old]
    for heading in dict.fromkeys(path[:2] for path in both):
        table = Table("", "old", "new", "new / old", title=" ".join(heading), box=box.SIMPLE)
        for path in both:
            if path[:2] == heading:
                (a, quiet_a), (b, quiet_b) = old[path], new[path]
                ratio = b / a if a else math.nan
                style = "" if 1 / NOTABLE < ratio < NOTABLE else "bold"
                noisy = "" if quiet_a and quiet_b else "~"
                name = ", ".join(part for part in path[2:] if part != "seconds")
                table.add_row(name, f"{a:.4g}", f"{b:.4g}", f"{noisy}{ratio:.2f}", style=style)
        console.print(table)
    console.print(f"Only in the old: {len(old.keys() - new.keys())} figures; ", end="")
    console.print(f"only in the new: {len(new.keys() - old.keys())}.")


def choose_files(files):
    """Return the paths of the old and the new results; end where there are none, saying so."""
    if len(files) == 2:
        return files
    newest = results()
    if files and newest:
        return files[0], newest[0]
    if not newest:
        print("There are no results yet; `make bench` makes some.")
        sys.exit()
    before = [path for path in newest[1:] if same_machine(read(path), read(newest[0]))]
    if not before:
        print(f"{newest[0].name} has no predecessor from the same machine.")
        sys.exit()
    return before[0], newest[0]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", help="OLD.json and NEW.json")
    files = parser.parse_args().files
    if len(files) > 2:
        parser.error("at most two files")
    paths = choose_files(files)
    old, new = map(read, paths)
    console = Console(width=None if sys.stdout.isatty() else 130)
    console.print(f"{paths[1]} over {paths[0]}")
    if not same_machine(old, new):
        console.print("[bold]The machines differ: the ratios say little.[/bold]")
    print_ratios(old, new, console)


if __name__ == "__main__":
    main()
