"""The OpenAPI document, and whether an answer is one that it promises."""

import json
import re
from functools import cache

import jsonschema_rs
from conftest import ROOT

PATH = ROOT / "docs" / "openapi.json"
DOCUMENT = json.loads(PATH.read_text(encoding="utf-8"))
METHODS = ("get", "head", "options", "post", "put", "delete")
# What may be answered on every path, before it is looked at.
GUARDED = {"400": "ForeignHost", "403": "ForeignPage"}
PREFLIGHT = {"204": DOCUMENT["components"]["responses"]["Preflight"]}
SIGNS_OF_THE_GUARD = (b"trusted_hosts", b"allowed_origins")
PROBLEM = "application/problem+json"


def resolved(part):
    """The part of the document that a reference leads to, or itself."""
    while "$ref" in part:
        target = DOCUMENT
        for name in part["$ref"].removeprefix("#/").split("/"):
            target = target[name]
        part = target
    return part


def operations():
    """[(path, method, operation)]"""
    return [(path, name, item[name]) for path, item in DOCUMENT["paths"].items() for name in METHODS if name in item]


def parameters_of(path, operation):
    return [
        resolved(each) for each in (*DOCUMENT["paths"][path].get("parameters", ()), *operation.get("parameters", ()))
    ]


@cache
def validator(schema):
    """Of a schema as JSON text, with the components that it may refer to."""
    return jsonschema_rs.Draft202012Validator({**json.loads(schema), "components": DOCUMENT["components"]})


def require_valid(value, schema):
    error = next(validator(json.dumps(schema)).iter_errors(value), None)
    assert error is None, f"{error}"


def template_of(path):
    """The document's path for a decoded path of a request, or None; more slashes at the beginning are as one."""
    for template in sorted(DOCUMENT["paths"], key=lambda template: template.count("{")):
        pattern = re.escape(template).replace(r"\{image_id\}", "(?!detail/?$)[^/]+").replace(r"\{member_id\}", ".+")
        if re.fullmatch(pattern if template == "/" else f"{pattern}/?", f"/{path.lstrip('/')}", re.DOTALL):
            return template
    return None


def require_promised(method, path, status, headers, content):
    """Raises AssertionError for an answer that the document does not promise; ``headers`` are [(name, value)]."""
    template = template_of(path)
    operation = DOCUMENT["paths"].get(template, {}).get(method.lower()) if method.isupper() else None
    refusals = {"401": "Unauthorized", **({"404": "NotFound"} if template is None else {"405": "MethodNotAllowed"})}
    promised = (
        {code: resolved(response) for code, response in operation["responses"].items()}
        if operation
        else {code: DOCUMENT["components"]["responses"][name] for code, name in refusals.items()}
    )
    if str(status) in GUARDED and (method == "HEAD" or any(sign in content for sign in SIGNS_OF_THE_GUARD)):
        promised = promised | {str(status): DOCUMENT["components"]["responses"][GUARDED[str(status)]]}
    if method == "OPTIONS":
        promised = promised | PREFLIGHT
    assert str(status) in promised, f"{status} is not documented for {method} {template}: {content[:300]!r}"
    require_response(promised[str(status)], method, headers, content)


def require_response(promised, method, headers, content):
    assert not re.search(r"[\x00-\x1f\x7f]|[^\x00-\xff]", "".join(name + value for name, value in headers))
    named = {name.lower(): value for name, value in headers}
    for name, part in promised.get("headers", {}).items():
        header = resolved(part)
        if name.lower() in named:
            require_valid(named[name.lower()], header["schema"])
        assert name.lower() in named or not header.get("required"), f"{name} is missing"
    if method == "HEAD" or "content" not in promised:
        assert content == b""
        return
    ((media_type, body),) = promised["content"].items()
    assert named["content-type"] == media_type
    parsed = json.loads(content) if media_type.endswith("json") else content.decode()
    require_valid(parsed, body["schema"])
    if media_type == PROBLEM:
        assert parsed["request_id"] == named["x-openstack-request-id"]
