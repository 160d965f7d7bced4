"""The tables of ARCHITECTURE.md: what they must hold according to the program and the sources."""

import os
import re

UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40, "ms": 1, "s": 1000}


def size_text(count):
    """1073741824 -> 1GiB, as `moira config` prints it."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if count and count % UNITS[unit] == 0:
            return f"{count // UNITS[unit]}{unit}"
    return str(count)


def default_text(row):
    value = row["default"]
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(value) or "(none)"
    if isinstance(value, str):
        return value or "(empty)"
    if row["unit"] == "bytes":
        return size_text(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def table(headings, rows):
    lines = ["| " + " | ".join(headings) + " |", "|" + " --- |" * len(headings)]
    return lines + ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]


def setting_rows(settings):
    return table(("key", "default", "takes", "unit", "what it does"),
                 [(f"`{row['key']}`", f"`{default_text(row)}`", row["expected"], row["unit"], row["reason"])
                  for row in settings])


def error_rows(errors):
    return table(("code", "HTTP", "retry", "exit code", "what to do"),
                 [(f"`{row['code']}`", str(row["http_status"]), "yes" if row["retryable"] else "no",
                   str(row["exit_code"]), row["advice"]) for row in errors])


def replace_table(text, name, rows):
    """The text with the table between `<!-- NAME: begin -->` and `<!-- NAME: end -->` renewed; None without one."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        return None
    head, rest = text.split(begin)
    return head + begin + "\n" + "\n".join(rows) + "\n\n" + end + rest.split(end)[1]


# A row of the table of limits: what, bound, `name` in `file`, reason, what happens past it.
CONSTANT_ROW = re.compile(r"^\| [^|]+ \| ([^|]+) \| `(\w+)` in `([\w./]+)` \|")


def number_of(shown):
    """"16 MiB" -> 16777216, "1,000" -> 1000, "5 s" -> 5000; None where it is something else."""
    found = re.fullmatch(r"([\d,.]+) ?(KiB|MiB|GiB|TiB|ms|s)?", shown.strip())
    return float(found.group(1).replace(",", "")) * UNITS[found.group(2) or ""] if found else None


def evaluate(expression):
    """The value of a C++ constant such as `std::size_t{16} << 20`; None where it is not one."""
    text = re.sub(r"std::u?int\d+_t|std::size_t|tcp_limits::|milliseconds", "", expression)
    text = re.sub(r"[{}]", lambda brace: "(" if brace.group(0) == "{" else ")", text.replace("'", ""))
    text = re.sub(r"(?<=\d)(ULL|ull|ul|u|L)\b", "", text)
    if not text.strip() or re.search(r"[^\d\s<()*+.e-]", text):
        return None
    try:
        return float(eval(text, {"__builtins__": {}}))  # digits and operators only, see the line above
    except (SyntaxError, TypeError):
        return None


def constant_of(source_text, name):
    """The last number in the initialiser of a constant or member: of a range {1, 1 << 22} the upper end."""
    found = re.search(rf"\b{name}(?: = ([^;]+)|\{{([^;]*)\}})[;,]", source_text)
    if not found:
        return None
    initialiser = found.group(1) or found.group(2)
    return evaluate(initialiser.split(",")[-1])


def check_constants(source, text):
    """Compares every bound in the table of limits with the constant that its row names."""
    problems, rows = [], 0
    for number, line in enumerate(text.splitlines(), 1):
        row = CONSTANT_ROW.match(line)
        if not row:
            continue
        rows += 1
        shown, name, file = row.groups()
        path = os.path.join(source, file)
        value = None
        if os.path.isfile(path):
            with open(path, encoding="utf-8") as code:
                value = constant_of(code.read(), name)
        if value is None or value != number_of(shown):
            problems.append(f"ARCHITECTURE.md:{number}: says {shown.strip()} for {name}, {file} says {value}")
    if rows == 0:
        problems.append("ARCHITECTURE.md: no row of the table of limits names a constant")
    return problems
