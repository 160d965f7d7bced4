"""Finds the places of device code where a mistake can be planted, and plants them: one as text, or all of a file at
once behind switches (mutant_switch.hpp), so that one build judges many."""

import dataclasses
import re

# (kind, pattern, replacement, how it is switched). Operators stand between spaces: the formatter sees to that.
RULES = [
    ("barrier", re.compile(r"__syncthreads\(\);"), ";", "statement"),
    ("barrier", re.compile(r"__syncwarp\(\);"), ";", "statement"),
    ("wait", re.compile(r"cp_async_wait<[^>]+>\(\);"), ";", "statement"),
    ("wait", re.compile(r"cp_async_wait<([^>]+)>\(\);"), r"cp_async_wait<(\1) + 1>();", "statement"),
    ("wait", re.compile(r"cp_async_commit\(\);"), ";", "statement"),
    ("wait", re.compile(r"(mbarrier_(wait|arrive|arrive_expect|init|init_fence)|fence_proxy_async)\(.*\);"), ";",
     "statement"),
    ("wait", re.compile(r"wgmma_(fence|commit|wait<\d>)\(\);"), ";", "statement"),
    ("wait", re.compile(r"wgmma_wait<0>\(\);"), "wgmma_wait<1>();", "statement"),
    ("predicate", re.compile(r"\breturn;"), ";", "statement"),
    ("predicate", re.compile(r" < "), " <= ", "mutant_less"),
    ("predicate", re.compile(r" <= "), " < ", "mutant_less_equal"),
    ("predicate", re.compile(r" >= "), " > ", "mutant_greater_equal"),
    ("predicate", re.compile(r" > "), " < ", "mutant_greater"),
    ("predicate", re.compile(r" == "), " != ", "mutant_equal"),
    ("predicate", re.compile(r" != "), " == ", "mutant_unequal"),
    ("predicate", re.compile(r" && "), " || ", "bool"),
    ("predicate", re.compile(r" \|\| "), " && ", "bool"),
    ("index", re.compile(r" \+ "), " - ", "mutant_plus"),
    ("index", re.compile(r" - "), " + ", "mutant_minus"),
    ("index", re.compile(r" \* "), " + ", "mutant_times"),
    ("index", re.compile(r" / "), " * ", "mutant_divided"),
    ("index", re.compile(r" % "), " / ", "mutant_modulo"),
    ("index", re.compile(r" \+= "), " = ", "mutant_add"),
    ("index", re.compile(r"(threadIdx\.x|lane_of_thread\(\)|warp_of_thread\(\))(?! \{)"), r"(\1 + 1)", "index"),
    ("index", re.compile(r"(blockIdx\.[xy])"), r"(\1 + 1)", "index"),
]
# Not code of a kernel: preprocessor, declarations of shapes and arrays, and the functions' own names.
SKIPPED = re.compile(r"^\s*(#|//|template|SIMT_KERNEL|SIMT_SHARED|SIMT_FN|static_assert|constexpr|inline constexpr)")


@dataclasses.dataclass(frozen=True)
class Mutant:
    path: str
    number: int  # of the line
    kind: str
    old: str
    new: str
    begin: int  # of what is replaced, in the line
    end: int
    switch: str

    def name(self):
        return f"{self.path}: {self.old.split('//')[0].strip()}  ->  {self.new.strip()}"

    def place(self):
        return self.name().replace(self.path, f"{self.path}:{self.number}", 1)


def mutants_of(path, text):
    for number, line in enumerate(text.split("\n"), 1):
        code = line.split("//")[0]
        if SKIPPED.match(code):
            continue
        for kind, pattern, replacement, switch in RULES:
            for match in pattern.finditer(code):
                new = code[:match.start()] + match.expand(replacement) + code[match.end():]
                yield Mutant(path, number, kind, line, new, match.start(), match.end(), switch)


def planted(text, mutant):
    """The file's text with one mutant."""
    lines = text.split("\n")
    lines[mutant.number - 1] = mutant.new
    return "\n".join(lines)


def switched(text, numbered):
    """The file's text with all mutants of {number of switch: mutant} behind switches; those for which that is not
    possible are left out, and never reached."""
    lines = text.split("\n")
    by_line = {}
    for switch, mutant in numbered.items():
        by_line.setdefault(mutant.number, []).append((switch, mutant))
    for number, found in by_line.items():
        lines[number - 1] = switched_line(lines[number - 1].split("//")[0], found)
    return "\n".join(lines)


def switched_line(code, found):
    operands = sorted((each for each in found if each[1].switch != "statement"), key=lambda each: -each[1].begin)
    for switch, mutant in operands:
        was = code[mutant.begin:mutant.end]
        if mutant.switch == "bool":
            now = f" {was.strip()}@{switch}@ "
        elif mutant.switch == "index":
            now = f"({was} + mutant({switch}))"
        elif mutant.switch == "mutant_add":
            now = f" += mutant_add({switch}) = "
        else:
            now = f"{was}{mutant.switch}({switch}){was}"
        code = code[:mutant.begin] + now + code[mutant.end:]
    statements = [each for each in found if each[1].switch == "statement"]
    return switched_conditions(switched_statement(code, statements))


def switched_statement(code, statements):
    if not statements:
        return code
    was = statements[0][1].old[statements[0][1].begin:statements[0][1].end]
    match = re.search(re.escape(was.split("<")[0].rstrip(";")) + r".*?;", code)
    now = "{ "
    for switch, mutant in statements:
        tail = len(mutant.old.split("//")[0]) - mutant.end
        now += f"if (mutant({switch})) {mutant.new[mutant.begin:len(mutant.new) - tail]} else "
    return code[:match.start()] + now + match[0] + " }" + code[match.end():]


CONDITION_ENDS = (";", ",", " ? ", " : ", " = ", "return ", "{")


def switched_conditions(code):
    """Rewrites `a &&@7@ b` to `mutant_and(7, a, b)` with lazy operands; plain again where a line does not hold both."""
    while found := re.search(r" (&&|\|\|)@\d+@ ", code):
        begin, end = condition_begin(code, found.start()), condition_end(code, found.end())
        if begin is None or end is None:
            return re.sub(r"(&&|\|\|)@\d+@", r"\1", code)
        code = code[:begin] + switched_chain(code[begin:end]) + code[end:]
    return code


def condition_begin(code, at):
    depth = 0
    while at > 0:
        if depth == 0 and code[:at].endswith(CONDITION_ENDS):
            return at
        at -= 1
        depth += (code[at] in ")]") - (code[at] in "([")
        if depth < 0:
            return at + 1
    return None


def condition_end(code, at):
    depth = 0
    while at < len(code):
        if depth == 0 and code[at:].startswith((";", ",", " ? ", " : ")):
            return at
        depth += (code[at] in "([") - (code[at] in ")]")
        if depth < 0:
            return at
        at += 1
    return None


def switched_chain(chain):
    for operator, function in (("||", "mutant_or"), ("&&", "mutant_and")):
        depth = 0
        for at, letter in enumerate(chain):
            depth += (letter in "([{") - (letter in ")]}")
            found = re.compile(" " + re.escape(operator) + r"(@(\d+)@)? ").match(chain, at)
            if depth == 0 and found:
                left, right = switched_chain(chain[:at]), switched_chain(chain[found.end():])
                if found[2] is None:
                    return f"({left} {operator} {right})"
                return f"{function}({found[2]}, [&] {{ return bool({left}); }}, [&] {{ return bool({right}); }})"
    return chain


def self_test():
    text = ("#include <a>\n// a < b\nSIMT_KERNEL(32) k(int a) {\n    if (a >= 2) // if a > 3\n        return;\n"
            "    __syncthreads();\n    cp_async_wait<1>();\n    if (a && f(b || c))\n        d += e + threadIdx.x;\n}\n")
    mutants = list(mutants_of("x", text))
    found = [(each.number, each.new.strip()) for each in mutants]
    expected = [(4, "if (a > 2)"), (5, ";"), (6, ";"), (7, ";"), (7, "cp_async_wait<(1) + 1>();"),
                (8, "if (a || f(b || c))"), (8, "if (a && f(b && c))"), (9, "d += e - threadIdx.x;"),
                (9, "d = e + threadIdx.x;"), (9, "d += e + (threadIdx.x + 1);")]
    assert found == expected, f"found {found}, expected {expected}"
    lines = [line.strip() for line in switched(text, dict(enumerate(mutants, 1))).split("\n")[3:9]]
    wanted = [
        "if (a >= mutant_greater_equal(1) >= 2)",
        "{ if (mutant(2)) ; else return; }",
        "{ if (mutant(3)) ; else __syncthreads(); }",
        "{ if (mutant(4)) ; else if (mutant(5)) cp_async_wait<(1) + 1>(); else cp_async_wait<1>(); }",
        "if (mutant_and(6, [&] { return bool(a); }, [&] { return bool(f(mutant_or(7, [&] { return bool(b); }, "
        "[&] { return bool(c); }))); }))",
        "d += mutant_add(9) = e + mutant_plus(8) + (threadIdx.x + mutant(10));"]
    assert lines == wanted, f"switched to {lines}, expected {wanted}"
    assert switched_conditions("    a &&@1@ b ||") == "    a && b ||"
    print("as expected")
    return 0
