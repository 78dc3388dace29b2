"""Side effects of a module, read from its syntax: files, sockets, programs, evaluated code."""

import ast
import re
import sys

# Modules that open nothing and run nothing by themselves. What is not named here counts, whatever it is.
PURE = {
    *(
        "ast",
        "base64",
        "binascii",
        "bisect",
        "calendar",
        "collections",
        "configparser",
        "contextlib",
        "csv",
        "dataclasses",
    ),
    *(
        "datetime",
        "decimal",
        "enum",
        "errno",
        "fnmatch",
        "functools",
        "hashlib",
        "heapq",
        "hmac",
        "html",
        "http.HTTPStatus",
    ),
    *("importlib.metadata", "io", "ipaddress", "itertools", "json", "logging", "math", "numbers", "operator", "re"),
    *(
        "secrets",
        "selectors",
        "shlex",
        "signal",
        "stat",
        "statistics",
        "string",
        "struct",
        "sys",
        "textwrap",
        "threading",
    ),
    *("time", "traceback", "types", "typing", "unicodedata", "urllib.parse", "uuid", "weakref", "zlib", "queue"),
    *(
        "copy",
        "platform",
        "click",
        "flask",
        "gunicorn",
        "itsdangerous",
        "marshmallow",
        "orjson",
        "peewee",
        "playhouse",
        "werkzeug",
    ),
}
LOGGING_ELSEWHERE = ("logging.handlers", "logging.config")
# Names that count wherever they come from: builtins, and functions and methods of what is otherwise harmless.
BUILTINS = {"open", "eval", "exec", "compile", "__import__", "input", "breakpoint", "globals", "__builtins__"}
METHODS = {
    *(
        "open",
        "read_bytes",
        "read_text",
        "write_bytes",
        "write_text",
        "unlink",
        "rename",
        "replace_with",
        "touch",
        "mkdir",
    ),
    *("rmdir", "iterdir", "glob", "rglob", "symlink_to", "hardlink_to", "chmod", "urlopen", "urlretrieve"),
    *("connect", "connect_ex", "create_connection", "open_connection", "sendto", "bind", "listen"),
    *(
        "send_file",
        "send_from_directory",
        "render_template_string",
        "FileIO",
        "open_code",
        "FileHandler",
        "SocketHandler",
    ),
    *(
        "import_module",
        "exec_module",
        "load_module",
        "run_path",
        "run_module",
        "load_extension",
        "enable_load_extension",
    ),
    *("import_string", "from_pyfile", "modules", "_getframe", "system", "run_simple", "startfile", "Popen", "popen"),
}
# ... and modules that other modules have imported.
METHODS |= {"os", "socket", "subprocess", "shutil", "importlib", "builtins", "pathlib", "sqlite3"}
PROGRAMS = re.compile(r"(posix_)?spawn\w*|exec[lv]\w*|fork\w*")
CONSTANT = re.compile(r"([A-Z0-9_]+|\w*Error)")


def reach_of(tree, ours=()):
    """The names, dotted, of all that counts: ``os.open``, ``.read_bytes``, ``open``, ``shell=``, and imports."""
    aliases, found = imports_of(tree, ours)
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = (dotted(node) or "").partition(".")
            if first in aliases and id(node) not in inner and not CONSTANT.fullmatch(node.attr):
                found.add(f"{aliases[first]}.{rest}")
            elif first not in aliases and (node.attr in METHODS or PROGRAMS.fullmatch(node.attr)):
                found.add(f".{node.attr}")
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            found.add(node.id)
        elif isinstance(node, ast.keyword) and node.arg == "shell":
            found.add("shell=")
    used = {name.partition(".")[0] for name in found if "." in name}
    return (found - used) | {
        f"{aliases[node.id]} itself"
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and id(node) not in inner and "." not in aliases.get(node.id, ".")
    }


def imports_of(tree, ours):
    """({name here: the module that counts}, what is imported out of such modules)"""
    aliases, found = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if counts(alias.name, ours):
                    found.add(alias.name)
                    first = alias.name.partition(".")[0]
                    aliases[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                is_module = alias.name in sys.stdlib_module_names and counts(alias.name, ours)
                if alias.name in METHODS | BUILTINS | {"*"} or (is_module and node.module in ours):
                    found.add(f"{node.module}.{alias.name}")
                if counts(node.module, ours) and counts(f"{node.module}.{alias.name}", ours):
                    found.add(f"{node.module}.{alias.name}")
                    aliases[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return aliases, found


def counts(module, ours):
    parts = module.split(".")
    starts = {".".join(parts[: end + 1]) for end in range(len(parts))}
    return parts[0] not in ours and (module.startswith(LOGGING_ELSEWHERE) or not starts & PURE)


def dotted(node):
    """``os.path.isdir`` of such an expression, or None."""
    names = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(names)]) if isinstance(node, ast.Name) else None
