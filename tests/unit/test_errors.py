"""Errors are one line, and the documented exit codes are the real ones."""

import re

from xwiki_stack import errors, repo
from xwiki_stack.errors import IntentError, StackError


def test_an_error_is_one_line_with_all_its_parts() -> None:
    error = IntentError(
        "is not a version", where="values/envs/a.yaml: mysql", allowed="9.7", next="choose one"
    )
    assert str(error) == (
        "values/envs/a.yaml: mysql: is not a version; allowed: 9.7; next: choose one"
    )


def test_every_exit_code_is_documented_and_unique() -> None:
    text = (repo.ROOT / "docs" / "reference" / "exit-codes.md").read_text()
    documented = {
        name: int(code) for code, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.M)
    }
    classes = [
        item
        for item in vars(errors).values()
        if isinstance(item, type) and issubclass(item, StackError)
    ]
    real = {item.__name__: item.exit_code for item in classes}
    assert len(real) >= 7
    assert documented == real
    assert len(set(real.values())) == len(real)
