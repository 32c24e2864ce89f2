"""Refuses tabs, trailing spaces, long lines, unused imports, bad syntax: check_style.py DIRECTORY..."""

import ast
import sys
from pathlib import Path

LONGEST_LINE = 112


def problems(path):
    text = path.read_text(encoding="utf-8")
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        yield error.lineno, error.msg
        return
    for number, line in enumerate(text.splitlines(), 1):
        if "\t" in line:
            yield number, "tab"
        if line != line.rstrip():
            yield number, "trailing space"
        if len(line) > LONGEST_LINE:
            yield number, f"longer than {LONGEST_LINE} characters"
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in node.names:
                bound = (name.asname or name.name).split(".")[0]
                if bound not in used:
                    yield node.lineno, f"{bound} is imported, but never used"


def main():
    found = 0
    files = sorted(file for directory in sys.argv[1:] for file in Path(directory).rglob("*.py"))
    for file in files:
        for line, problem in problems(file):
            found += 1
            print(f"{file}:{line}: {problem}")
    print(f"{len(files)} files, {found} problems")
    sys.exit(1 if found or not files else 0)


if __name__ == "__main__":
    main()
