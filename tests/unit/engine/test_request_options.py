"""The options of the Python API are typed, one for one."""
from __future__ import annotations

import ast

from mydocker.cli.options import OPTIONS
from mydocker.cli.rare_options import RARE_OPTIONS
from mydocker.engine import keywords
from mydocker.engine.isolation import option_names


def typed_options() -> set[str]:
    with open(keywords.__file__, encoding="utf-8") as file:
        (found,) = [node for node in ast.walk(ast.parse(file.read())) if isinstance(node, ast.ClassDef) and node.name == "Options"]
    return {node.target.id for node in found.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}


def test_every_option_that_is_judged_has_a_type_for_callers_and_the_other_way_round() -> None:
    assert typed_options() == set(option_names())


def test_every_option_of_the_command_line_lands_at_one_of_python() -> None:
    landing = {option.lands for option in OPTIONS + RARE_OPTIONS if "run" in option.verbs and option.lands}
    assert landing <= typed_options()
