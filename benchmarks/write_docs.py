"""Write the measured tables, and the picture of growth, into README.md and docs/performance.md.

python benchmarks/write_docs.py

A block between `<!-- measured: WHAT -->` and `<!-- end -->` is replaced by what WHAT names: one of
BLOCKS below, or PART/TABLE of the results. Each comes from the newest results that have it, and
stays as it is where none has.
"""

import argparse
import functools
import re

from report import ROOT, in_mebibytes, markdown_table, read, results

PAGES = [ROOT / "README.md", ROOT / "docs" / "performance.md"]
PICTURE = ROOT / "docs" / "growth.svg"
BLOCK = re.compile(r"(?P<start><!-- measured: (?P<what>.+?) -->\n).*?<!-- end -->", re.DOTALL)
PEERS = {
    "sknn": ["sknn"],
    "scikit-learn": ["scikit-learn"],
    "PyTorch": ["pytorch"],
    "PyTorch, compiled": ["pytorch-compiled"],
    "JAX": ["jax", "jax-inside"],  # the faster of them
}
# text, part, table, row of its data, how a figure is shown
HIGHLIGHTS = [
    (
        "a grid search (24 candidates, 5 folds, 10,000 rows of 20), one job, float32",
        ("search", "10000x20-float32", "1 sequential"),
        lambda seconds: f"{seconds:.1f} s",
    ),
    (
        "the same on handwritten digits, float64",
        ("search", "digits-float64", "1 sequential"),
        lambda seconds: f"{seconds:.1f} s",
    ),
    (
        "an epoch on sparse text (20,000 rows of 50,000 words), plain SGD, float64",
        ("sparse", "epoch", "sgd, momentum 0, float64"),
        lambda seconds: f"{seconds * 1e3:.0f} ms",
    ),
    (
        "memory of a fit over its data, 784-256-128-10, 60,000 rows, float32",
        ("mlp", "memory", "784-256-128-10, 128, float32"),
        in_mebibytes,
    ),
    (
        "`Perceptron`, 10,000 rows of 100, 10 classes, float64, 20 epochs",
        ("perceptron", "epoch", "dense 10,000 x 100, 10 classes, float64"),
        lambda seconds: f"{seconds * 1e3:.0f} ms",
    ),
    (
        "`Perceptron`, 10,000 sparse rows of 20,000, 10 classes, 20 epochs",
        ("perceptron", "epoch", "text 10,000 x 20,000, 10 classes, float64"),
        lambda seconds: f"{seconds * 1e3:.0f} ms",
    ),
]


@functools.cache
def all_results():
    return [read(path) for path in results()]


def find(part, table):
    """Return the table, of the newest results that have it, and the machine."""
    for content in all_results():
        tables = content["parts"].get(part, {}).get("tables", {})
        if table in tables:
            return tables[table], content["machine"]
    return None


def source(table, machine):
    """Return where and when a table was measured."""
    where = f"{machine['CPU']}, {machine['cores']} cores"
    return f"{where}, {machine['date']}, commit {table['commit']}."


def stored_table(part, table):
    """Return a table as it was printed, with its note and where it comes from."""
    found = find(part, table)
    if found is None:
        return []
    table, machine = found
    lines = [f"**{table['title']}**", "", *markdown_table(**table), ""]
    return [*lines, f"{table['note']} {source(table, machine)}".strip()]


def training_table():
    """Return the milliseconds of every network and peer on one and two threads."""
    columns, rows = ["network, batch", "threads", *PEERS], []
    timings = {t: find(part, "speed") for t, part in ((1, "mlp-1-thread"), (2, "mlp-2-threads"))}
    measured = {t: found for t, found in timings.items() if found}
    networks = dict.fromkeys(n for table, _ in measured.values() for n in table["data"])
    for network in networks:
        for threads, (table, _) in measured.items():
            if row := _training_row(table["data"].get(network, {})):
                rows.append([network, str(threads), *row])
    if not rows:
        return []
    lines = markdown_table(columns, rows)
    notes = {source(*found) for found in measured.values()}
    return [*lines, "", *sorted(notes)]


def _training_row(timings):
    """Return the cells of PEERS, the fastest in bold."""
    times = {
        title: min(timings[n]["seconds"] for n in names if n in timings)
        for title, names in PEERS.items()
        if any(n in timings for n in names)
    }
    cells = []
    for title in PEERS if "sknn" in times else []:
        if title not in times:
            cells.append("")
            continue
        milliseconds = f"{times[title] * 1e3:,.{1 if times[title] < 0.1 else 0}f}"
        if times[title] == min(times.values()):
            milliseconds = f"**{milliseconds}**"
        ratio = "" if title == "sknn" else f" ({times[title] / times['sknn']:.2g}x)"
        cells.append(milliseconds + ratio)
    return cells


def highlights():
    """Return the table of HIGHLIGHTS, leaving out what was not measured."""
    rows = []
    for text, (part, table, row), show in HIGHLIGHTS:
        found = find(part, table)
        if found and row in found[0]["data"]:
            ours, theirs = (_figure(found[0]["data"][row][n]) for n in ("sknn", "scikit-learn"))
            rows.append([text, show(ours), show(theirs), f"{theirs / ours:.1f}x"])
    return markdown_table(["", "sknn", "scikit-learn", "ratio"], rows) if rows else []


def _figure(timing):
    return timing["seconds"] if isinstance(timing, dict) else timing


def growth():
    """Draw the picture, and return the line that shows it with the exponents."""
    found = {key: find("growth", key) for key in ("rows", "parameters")}
    if None in found.values():
        return []
    data = {key: table["data"] for key, (table, _) in found.items()}
    draw(data)
    exponent = data["rows"]["exponent"]
    return [
        f"![Time of an epoch over rows and over parameters]({PICTURE.name})",
        "",
        f"Exponent in rows, fitted from 10³ to 10⁶: {exponent['sknn']:.3f} on one thread, "
        f"{exponent['sknn-none']:.3f} with `n_threads=None`. {source(*found['rows'])}",
    ]


LINES = {
    "scikit-learn": ("scikit-learn", "#b35900", "s"),
    "jax": ("JAX", "#7a5195", "^"),
    "sknn": ("sknn, 1 thread", "#00629b", "o"),
    "sknn-none": ("sknn, n_threads=None", "#45a5d8", "D"),
}


def draw(data):
    """Write the picture: an epoch's time over rows, and over parameters."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    # the same results give the same file
    plt.rcParams.update({"svg.hashsalt": "growth", "svg.fonttype": "none", "font.size": 11})
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), sharey=True, layout="constrained")
    titles = {
        "rows": "20-100-10, minibatches of 200",
        "parameters": "20-w-w-10, 1,000 rows",
    }
    for axis, (key, title) in zip(axes, titles.items(), strict=True):
        epochs = data[key]["epoch"]
        sizes = [int(size) for size in epochs]
        for name, (label, color, marker) in LINES.items():
            if all(name in timings for timings in epochs.values()):
                seconds = [timings[name]["seconds"] for timings in epochs.values()]
                axis.loglog(sizes, seconds, label=label, color=color, marker=marker, ms=4.5)
        axis.set(title=title, xlabel=key)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("seconds per epoch")
    axes[0].legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None}, facecolor="white")
    plt.close(figure)


BLOCKS = {"training": training_table, "highlights": highlights, "growth": growth}


def fill(block):
    """Return the text of a block, filled anew; `block` is a match of BLOCK."""
    what = block["what"]
    lines = BLOCKS[what]() if what in BLOCKS else stored_table(*what.split("/"))
    if not lines:
        print(f"No results have {what}: its block stays as it is.")
        return block[0]
    return "\n".join([block["start"], *lines, "", "<!-- end -->"])


def main():
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    for page in PAGES:
        page.write_text(BLOCK.sub(fill, page.read_text()))
        print(f"Written: {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
