"""Values that a module interpolates into SQL text, read from its syntax."""

import ast
import re

SQL = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|FROM|WHERE|SET|VALUES|PRAGMA|ORDER BY|LIMIT|EXISTS|INDEXED|UNION|JOIN|ATTACH"
    r"|CREATE|DROP|ALTER|BEGIN|VACUUM|AND|IS NULL)\b"
)
# Who takes a statement, and as which argument.
TAKERS = {"execute": 0, "executemany": 0, "executescript": 0, "execute_sql": 0, "run": 0, "recall": 1, "SQL": 0}
TAKERS |= {"raw": 0, "fetch_row": 0}
GROWING = ("append", "extend", "insert")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def parts_by_function(tree, is_builder=False):
    """{function: the source of every expression that becomes a part of a statement there}; "" is outside of all."""
    found = {name: parts_of(nodes, is_builder) for name, nodes in functions_of(tree)}
    return {name: parts for name, parts in found.items() if parts}


def functions_of(tree):
    """(name, all nodes within it, those of functions inside it left out) of each, as Class.function."""
    pending = [("", tree)]
    while pending:
        name, owner = pending.pop()
        nodes, stack = [], list(ast.iter_child_nodes(owner))
        while stack:
            node = stack.pop()
            if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
                pending.append((f"{name}.{node.name}".lstrip("."), node))
            else:
                nodes.append(node)
                stack += ast.iter_child_nodes(node)
        yield name, nodes


def parts_of(nodes, is_builder):
    assigned = assignments_in(nodes)
    found = set()
    for statement in statements_in(nodes):
        found |= traced(statement, assigned, frozenset())
    for node in nodes:
        inserted = inserted_in(node)
        if inserted and (is_builder or SQL.search(literal_of(node))):
            found |= {ast.unparse(part) for part in inserted if not is_literal(part)}
    return found


def assignments_in(nodes):
    """{name: the expressions that it is given, or that are added to it}"""
    assigned = {}
    for node in nodes:
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                if isinstance(target, ast.Name):
                    assigned.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in GROWING:
            assigned.setdefault(ast.unparse(node.func.value), []).extend(node.args)
    return assigned


def traced(node, assigned, seen):
    """The source of what an expression that is run as a statement is made of: of a name, what it was given here too."""
    if is_literal(node):
        return set()
    inserted = added_in(node)
    if inserted is not None:
        return set().union(*(traced(part, assigned, seen) for part in inserted))
    if isinstance(node, ast.List | ast.Tuple):
        return set().union(*(traced(part, assigned, seen) for part in node.elts))
    if isinstance(node, ast.Starred):
        return traced(node.value, assigned, seen)
    if isinstance(node, ast.IfExp):
        return traced(node.body, assigned, seen) | traced(node.orelse, assigned, seen)
    found = {ast.unparse(node)}
    if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "join" and node.args:
        found |= traced(node.args[0], assigned, seen) - {ast.unparse(node.args[0])}
    if isinstance(node, ast.Name) and node.id not in seen:
        for value in assigned.get(node.id, ()):
            found |= traced(value, assigned, seen | {node.id})
    return found


def statements_in(nodes):
    """The expressions that are handed to whoever runs statements."""
    for call in nodes:
        if isinstance(call, ast.Call):
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            if name == "raw" and isinstance(call.func, ast.Name):
                continue  # ours, of another thing
            if name in TAKERS and len(call.args) > least_of(name):
                yield call.args[TAKERS[name]]
            if name in TAKERS:
                yield from (keyword.value for keyword in call.keywords if keyword.arg in ("sql", "statement"))


def least_of(name):
    """``run`` and ``recall`` are ours, and take parameters too; migrations have a ``run`` that takes none."""
    return 1 if name in ("run", "recall") else TAKERS[name]


def is_literal(node):
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_text(node):
    return is_literal(node) or isinstance(node, ast.JoinedStr)


def literal_of(node):
    """The literal text within an expression."""
    return " ".join(part.value for part in ast.walk(node) if is_literal(part))


def added_in(node):
    """Like ``inserted_in``; both sides of any sum, since its outcome is a statement."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [node.left, node.right]
    inserted = inserted_in(node)
    if inserted is not None and isinstance(node, ast.Call):
        return [node.func.value, *inserted]
    return inserted


def inserted_in(node):
    """The expressions that ``node`` puts into a text, or None where it builds none."""
    if isinstance(node, ast.JoinedStr):
        return [part.value for part in node.values if isinstance(part, ast.FormattedValue)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and (is_text(node.left) or is_text(node.right)):
        return [side for side in (node.left, node.right) if not is_text(side)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and is_text(node.left):
        return [node.right]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("format", "replace"):
        return [*node.args, *(keyword.value for keyword in node.keywords)]
    return None
