"""What `helm test` runs finds in the gateway's image what it imports."""

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_what_helm_test_imports_is_in_the_gateways_image() -> None:
    tree = ast.parse((ROOT / "deploy/helm/cloister/files/ask.py").read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    wanted = {name.partition(".")[0] for name in names} - sys.stdlib_module_names
    locked = re.findall(r"^([a-z0-9_.-]+)==", (ROOT / "requirements/gateway.txt").read_text(), flags=re.MULTILINE)
    assert wanted
    assert wanted <= {name.replace("-", "_") for name in locked}
