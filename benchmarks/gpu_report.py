"""gpu_check.py's report as Markdown."""


def cell(value):
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return "" if value is None else str(value).replace("\n", " ")


def table(rows):
    """Rows of dicts; a column for each key, in order of appearance."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, ["---"] * len(names), *([cell(row.get(n)) for n in names] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def summary(rows, key):
    """One line for many checks: how many passed, and the worst."""
    worst = max((row for row in rows), key=lambda row: row[key])
    passed = sum(row["ok"] for row in rows)
    return [f"{passed} of {len(rows)} passed; the worst: {cell(worst[key])} ({worst})."]


TITLES = {
    "products": "Matrix products: relative error against float64",
    "gated": "Products that take in the rectifier's derivative: relative error",
    "programs": "Programs against the CPU executor",
    "gradients": "Gradients of many rows against the CPU's in float64, relative",
    "graphs": "Graphs and single launches, twice each: the same bits",
    "fits": "Whole fits: loss curves against the CPU's over 20 epochs",
    "networks": "Networks of images: loss curves against the CPU's, and the same bits",
    "arrays": "CuPy arrays in and out: the fits of NumPy arrays, and their predictions",
    "rows": "Rows that come in chunks: the bits of rows that are on the device",
    "orders": "Orders that the device draws: NumPy's",
    "sanitizer": "compute-sanitizer over small fits",
    "ceilings": "What the device can do",
    "speed": "Microseconds of a training step, 100-512-512-512-10, 1,000,000 rows",
    "images": "Microseconds of a training step, 32 x 32 x 3, filters 32, 64, 128, dense 128",
    "search": "Seconds of a search of small fits",
}


def write_markdown(report):
    """All sections that the report has."""
    environment = report["environment"]
    lines = [f"# GPU check: {environment['device']}, {environment['date']}", ""]
    lines += [", ".join(f"{name} {value}" for name, value in environment.items()) + "."]
    lines += ["", f"{report['seconds']:.0f} s, of which {report['build_seconds']:.0f} s build."]
    failures = report["failures"]
    lines += ["", "Every check passed." if not failures else f"{len(failures)} failures:"]
    lines += [f"- {failure}" for failure in failures]
    for name, title in TITLES.items():
        if name in report:
            rows = report[name]
            lines += ["", f"## {title}", ""]
            lines += summary(rows, "difference") if name == "programs" else table(rows)
    return "\n".join(lines) + "\n"
