"""Simple rules of the project's language, held for every file of anonlib/ and tools/.

To list the places that break a rule: `python tests/test_words.py [anonlib/faces]`.

Sections (Args, Returns or Raises) are for the reader who does not see the code: a function that another package, a
notebook or an example uses has them. A function that only its own package uses is one or two plain sentences.
"""

import ast
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BANNED = {"one", "ones", "found", "made", "told", "seen", "known", "kept", "given", "numbers", "todo"}
SHORT_LOOP = 2  # lines of a loop in which a banned name may stand
PERSON = re.compile(r"\b(he|his|him|himself|whoever|whom|whose|who)\b", re.I)
OF_PEOPLE = re.compile(r"\b(people|persons?|users?|somebody|engineers?)[,;]? (who|whose|whom)\b", re.I)
NOT_IMPERATIVE = set(
    "a an all another any as both control each every how if in it its like likewise more no number of on one same so "
    "that the there these this those true two what when where whether which who with".split()
)
ENDS_IN_S = set("access assess bias compress cross discuss express focus guess pass press process suppress".split())


def files(package: str) -> list[Path]:
    """List the Python files of a package, or of a folder's own files where it ends in a slash."""
    folder = ROOT / package
    return sorted(folder.glob("*.py") if package.endswith("/") else folder.rglob("*.py"))


def packages() -> list[str]:
    """List every folder of anonlib and tools, and the files beside them."""
    found = [top for top in ("anonlib", "tools")]
    inner = [folder for top in found for folder in sorted((ROOT / top).iterdir()) if any(folder.rglob("*.py"))]
    return ["anonlib/", "tools/", *(str(folder.relative_to(ROOT)) for folder in inner if folder.is_dir())]


@cache
def words_beside(package: str) -> frozenset[str]:
    """Return every word of the code beside a package that may call it: of anonlib, of tools, and the notebooks'."""
    top = package.split("/")[0]
    callers = {*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "examples").glob("*.py")} if top == "anonlib" else set()
    callers |= {*(ROOT / top).rglob("*.py")} - set(files(package))
    return frozenset(word for file in callers for word in re.findall(r"\w+", file.read_text()))


def places(package: str) -> Iterator[tuple[Path, str, int, str]]:
    """Yield what breaks a rule in a package: file, rule, line, words."""
    for file in files(package):
        for rule, line, words in violations(file.read_text()):
            if rule != "sections" or words in words_beside(package):
                yield file, rule, line, words


def violations(source: str) -> Iterator[tuple[str, int, str]]:
    """Yield what breaks a rule in a source text, as if others used all its functions: rule, line, words."""
    tree = ast.parse(source)
    for parent in ast.walk(tree):
        for child in ast.iter_child_nodes(parent):
            child.parent = parent
    for node in ast.walk(tree):
        yield from (("names", line, name) for line, name in banned_names(node))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from ((rule, node.lineno, node.name) for rule in docstring_problems(node))
    for line, text in prose(source, tree):
        yield from (("persons", line, match[0]) for match in PERSON.finditer(OF_PEOPLE.sub("", text)))


def banned_names(node: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and name of what a node binds to a banned name, short loops excepted."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in BANNED and not in_short_loop(node):
        yield node.lineno, node.id
    elif isinstance(node, ast.arg) and node.arg in BANNED and not isinstance(node.parent.parent, ast.Lambda):
        yield node.lineno, node.arg
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name in BANNED:
        yield node.lineno, node.name


def in_short_loop(node: ast.AST) -> bool:
    """Return whether a name is the variable of a comprehension or of a loop of two lines."""
    while isinstance(node.parent, ast.Tuple | ast.List | ast.Starred):
        node = node.parent
    loop = node.parent
    if isinstance(loop, ast.comprehension):
        loop = loop.parent
        return loop.end_lineno - loop.lineno < 2 * SHORT_LOOP
    short = isinstance(loop, ast.For) and node is loop.target
    return short and loop.end_lineno - loop.lineno <= SHORT_LOOP


def docstring_problems(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the rules that a public function's docstring breaks: sections, imperative."""
    if node.name == "forward":
        return  # of a network: its class says what it maps
    public = not node.name.startswith("_") and isinstance(node.parent, ast.Module | ast.ClassDef)
    if not public or isinstance(node.parent, ast.ClassDef) and node.parent.name.startswith("_"):
        return
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in node.decorator_list}
    if "overload" in decorators:
        return
    text = ast.get_docstring(node) or ""
    arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
    arguments = [argument for argument in arguments if argument.arg not in ("self", "cls")]
    if (
        arguments
        and not ("Args:" in text and re.search(r"^(Returns|Raises|Yields):", text, re.M))
        and not silent(node, text)
    ):
        yield "sections"
    first = (re.match(r"\w+", text) or [""])[0].lower()
    if not decorators & {"property", "cached_property"} and not imperative(first):
        yield "imperative"


def silent(node: ast.FunctionDef | ast.AsyncFunctionDef, text: str) -> bool:
    """Return whether a function gives nothing back and documents its arguments: it has no Returns."""
    return "Args:" in text and isinstance(node.returns, ast.Constant) and node.returns.value is None


def imperative(word: str) -> bool:
    """Return whether a word, small letters, may begin an imperative sentence."""
    third_person = word.endswith("s") and word not in ENDS_IN_S
    return (
        bool(word) and word not in NOT_IMPERATIVE and not third_person and (word == "embed" or not word.endswith("ed"))
    )


def prose(source: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield line and text of every docstring and comment."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.lineno, " ".join(first.value.value.split())
    for token in tokenize.generate_tokens(iter(source.splitlines(keepends=True)).__next__):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


@pytest.mark.parametrize("package", packages())
def test_a_package_breaks_no_rule(package):
    assert not [f"{file.relative_to(ROOT)}:{line}: {rule}: {words}" for file, rule, line, words in places(package)]


def test_functions_that_others_use_are_known():
    assert {"map_shards", "AnonlibError"} <= words_beside("anonlib/engine"), "of the attacks, for one"
    assert "_compute_shard" not in words_beside("anonlib/engine")


def test_what_breaks_a_rule_is_found():
    source = '''
def made(told, x):
    """What he has seen."""
    one = 1  # whoever waits
    for found in x:
        print(found)
    return [one for one in x]
'''
    found = Counter(rule for rule, *_ in violations(source))
    assert found == {"names": 3, "persons": 2, "sections": 1, "imperative": 1}


def test_plain_code_breaks_no_rule():
    source = '''
def rank(probes, gallery):
    """Rank the gallery for each probe.

    Args:
        probes: embeddings of people who are searched for.
        gallery: embeddings.

    Returns:
        The ranks.
    """
    for one in gallery:
        print(one)
    return probes
'''
    assert not list(violations(source))


if __name__ == "__main__":
    for name in sys.argv[1:] or packages():
        for file, rule, line, words in places(name):
            print(f"{file.relative_to(ROOT)}:{line}: {rule}: {words}")
