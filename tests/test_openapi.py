"""docs/openapi.json is valid, and says what is so."""

import json
import re
from pathlib import PurePath

import pytest
from conftest import IMAGE, identity
from openapi_spec_validator import OpenAPIV31SpecValidator
from support.openapi import DOCUMENT, operations, parameters_of, require_promised, require_valid, resolved

import errors
import members
import models
import schemas
from config import OPTIONS, read_settings
from listing import parameters
from registry import PURGE_HEADER, create_app
from storage import documents, fields

SCHEMAS = DOCUMENT["components"]["schemas"]
NOT_UTF8 = "\xff"  # as WSGI has it
INACCESSIBLE = "00000000-0000-4000-8000-000000000000"
JSON = {"content_type": "application/json"}


def rules():
    """(path as the document writes it, rule) of every route of the API; the pages at /ui are for people."""
    rules = [rule for rule in create_app().url_map.iter_rules() if not rule.endpoint.startswith("ui")]
    return [(re.sub("<.*?:(.*?)>", r"{\1}", rule.rule), rule) for rule in rules]


def test_the_document_is_valid_openapi_3_1():
    assert DOCUMENT["openapi"].startswith("3.1.")
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []


def test_the_document_has_every_route_and_no_other():
    routes = {(path, method.lower()) for path, rule in rules() for method in rule.methods}

    assert {(path, method) for path, method, _ in operations()} == routes


def test_an_operation_is_called_as_its_route():
    names = {
        (path, method.lower()): rule.endpoint.rpartition(".")[2]
        for path, rule in rules()
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }

    assert {
        (path, method): each["operationId"] for path, method, each in operations() if (path, method) in names
    } == names
    assert len({each["operationId"] for *_, each in operations()}) == len(operations())


def test_whatever_a_path_names_is_a_parameter_of_it():
    for path, _, operation in operations():
        named = {each["name"] for each in parameters_of(path, operation) if each["in"] == "path"}

        assert named == set(re.findall(r"{(\w+)}", path))


@pytest.mark.parametrize("path", ["/", "/images", "/images/detail"])
@pytest.mark.parametrize("method", ["get", "head"])
def test_a_list_takes_the_parameters_that_the_document_names(path, method):
    named = {each["name"] for each in parameters_of(path, DOCUMENT["paths"][path][method]) if each["in"] == "query"}
    filters = resolved({"$ref": "#/components/parameters/Properties"})["schema"]

    assert named == {*parameters.LIST_PARAMETERS, "properties"}
    assert list(filters["patternProperties"]) == [f"^{parameters.PROPERTY_PREFIX}"]


def defaults(name):
    return next(option.parse(option.default) for option in OPTIONS if option.name == name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Status", schemas.UPDATE_STATUSES),
        ("CreateStatus", schemas.CREATE_STATUSES),
        ("LocationStatus", schemas.LOCATION_STATUSES),
        ("DiskFormat", defaults("disk_formats")),
        ("ContainerFormat", defaults("container_formats")),
    ],
)
def test_vocabularies_are_those_of_the_code(name, words):
    assert SCHEMAS[name]["enum"] == list(words)


def test_lists_are_sorted_by_what_the_document_names():
    sorting = {name: DOCUMENT["components"]["parameters"][name]["schema"] for name in ("SortKey", "SortDir")}
    asked = parameters.parse_list_query(b"", False, read_settings({}).api)

    assert sorting["SortKey"] == {"type": "string", "enum": list(parameters.SORT_KEYS), "default": asked.sort_key}
    assert sorting["SortDir"] == {"type": "string", "enum": ["asc", "desc"], "default": asked.sort_dir}


def test_limits_of_values_are_those_of_the_code():
    largest = {name: SCHEMAS[name]["anyOf"][0]["maximum"] for name in ("Count", "SmallCount")}
    longest = {name: SCHEMAS[name]["maxLength"] for name in ("Text", "MemberId", "PropertyName", "Url")}

    assert largest == {"Count": fields.LARGEST_INTEGER, "SmallCount": fields.LARGEST_SMALL_INTEGER}
    assert longest == {**dict.fromkeys(("Text", "MemberId", "PropertyName"), 255), "Url": schemas.LONGEST_URL}
    assert f"At most {parameters.MOST_PROPERTIES}." in DOCUMENT["components"]["parameters"]["Properties"]["description"]


@pytest.mark.parametrize("word", [*schemas.BOOLEAN_WORDS, "TRUE", "No"])
def test_a_word_for_a_boolean_is_one_in_the_document(word):
    require_valid(word, SCHEMAS["BooleanWord"])


def test_bodies_have_the_fields_of_the_code():
    bodies = schemas.ImageBodies(read_settings({}).api)

    assert set(SCHEMAS["NewImage"]["properties"]) == set(bodies.on_create.fields)
    # An update ignores the times.
    assert set(SCHEMAS["ImageChange"]["properties"]) == set(bodies.on_update.fields) - {"created_at", "updated_at"}
    assert SCHEMAS["NewImage"]["required"] == [
        name for name, field in bodies.on_create.fields.items() if field.required
    ]
    assert set(SCHEMAS["NewLocation"]["properties"]) == set(schemas.LOCATION.fields)
    assert set(SCHEMAS["NewMembership"]["properties"]) == set(members.MEMBER.fields)


def test_records_have_the_fields_of_the_code():
    whole = {*documents.DOCUMENT_FIELDS, "properties", "location", "location_data"}

    assert set(SCHEMAS["Image"]["properties"]) == set(SCHEMAS["Image"]["required"]) == whole
    assert set(SCHEMAS["BriefImage"]["required"]) == set(documents.BRIEF_FIELDS)


def test_the_headers_of_a_record_are_those_of_its_answer(client, make_image):
    answer = client.get(f"/images/{make_image()['id']}")
    sent = {name for name, _ in answer.headers if name.startswith("x-image")}

    for name in ("ShownImage", "ImageInHeaders"):
        promised = DOCUMENT["components"]["responses"][name]["headers"]
        assert {header for header in promised if header.startswith("x-image")} == sent


def test_identity_comes_in_the_headers_that_the_document_names():
    schemes = DOCUMENT["components"]["securitySchemes"]
    named = {scheme["name"] for scheme in schemes.values() if scheme["type"] == "apiKey"}

    assert named == {*identity("owner"), "X-Auth-Token"}
    assert {name for requirement in DOCUMENT["security"] for name in requirement} == set(schemes)
    assert schemes["Bearer"] | {"description": ""} == {"type": "http", "scheme": "bearer", "description": ""}
    assert DOCUMENT["components"]["parameters"]["PurgeProps"]["name"] == PURGE_HEADER


def test_every_error_has_its_answer_in_the_document():
    statuses = {error.status for error in errors.RegistryError.__subclasses__()}
    promised = {int(status) for *_, operation in operations() for status in operation["responses"] if status >= "400"}

    assert promised == statuses


# What says nothing of the database, and what looks no further than for a token in it.
WITHOUT_DATABASE = ("/docs", "/docs/rapidoc.js", "/openapi.json", "/versions")
TOKENS_ALONE = ("/metrics",)
# What to ask for once the database has gone, where the bare path does not look at it.
IN_DETAIL = {"/healthcheck": "?detail"}


def test_what_writes_may_find_the_disk_full_and_everything_may_find_the_database_out_of_order():
    for path, method, operation in operations():
        assert ("507" in operation["responses"]) == (method in ("post", "put", "delete"))
        assert ("503" in operation["responses"]) == (method != "options" and path not in WITHOUT_DATABASE)


# Examples


def examples():
    """(its place, the example, its schema) of all examples that have a schema."""

    def within(part, place):
        schema = part.get("schema", part)
        values = [part["example"]] if "example" in part else []
        found = part.get("examples", ())
        values += [each["value"] for each in found.values()] if isinstance(found, dict) else found
        yield from ((str(place), value, schema) for value in values)
        for name, below in part.items():
            if isinstance(below, dict) and name not in ("example", "examples"):
                yield from within(below, place / name)

    return list(within(DOCUMENT, PurePath("#")))


def test_examples_are_valid():
    assert len(examples()) > 20
    for place, value, schema in examples():
        print(place)
        require_valid(value, schema)


def test_examples_of_bodies_are_taken(client, make_image):
    image_id = make_image(status="queued")["id"]
    answers = []

    for path, method, operation in operations():
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            place = path.format(image_id=image_id, member_id="acme")
            answers.append(client.open(place, method=method.upper(), json=example["value"]))

    assert len(answers) == 6
    assert {answer.status_code for answer in answers} == {200, 204}


# Every status that the document promises can be had; 507 has a test of its own, with a small disk.

LISTS = [
    ("owner", "", {}, 200),
    ("owner", "?limit=1", {}, 200),
    ("owner", "?limit=x", {}, 400),
    ("unknown", "", {}, 401),
]
BROWSER = {"headers": {"Accept": "text/html"}}
SEND = {"image": {"name": "new"}}
LARGE = {"data": " " * 2**20 + "{}", **JSON}
COMPLETE = {("/images", "post"): {"json": {"image": IMAGE}}}
STALE = {"headers": {"If-Match": '"1"'}}
ANSWERS = {
    **{(path, method): LISTS for path in ("/images", "/images/detail") for method in ("get", "head")},
    **{("/", method): [*LISTS, ("unknown", "", BROWSER, 302)] for method in ("get", "head")},
    **{("/metrics", method): [("unknown", "", {}, 401), ("owner", "", {}, 200)] for method in ("get", "head")},
    ("/images", "post"): [
        ("owner", "", {"json": {"image": IMAGE}}, 200),
        ("owner", "", {"json": {}}, 400),
        ("unknown", "", {}, 401),
        ("tenantless", "", {}, 403),
        ("owner", "", {"json": {"image": {**IMAGE, "id": "{image_id}"}}}, 409),
        ("owner", "", LARGE, 413),
        ("owner", "", {"data": "{}"}, 415),
    ],
    **{
        ("/images/{image_id}", method): [
            ("owner", "", {}, 200),
            ("owner", "", {"headers": {"If-None-Match": "*"}}, 304),
            ("unknown", "", {}, 401),
            ("stranger", "", {}, 404),
        ]
        for method in ("get", "head")
    },
    ("/images/{image_id}", "put"): [
        ("owner", "", {"json": SEND}, 200),
        ("owner", "", {"json": []}, 400),
        ("unknown", "", {"json": SEND}, 401),
        ("member", "", {"json": SEND}, 403),
        ("stranger", "", {"json": SEND}, 404),
        ("owner", "", {"json": {"image": {}, "from_state": "killed"}}, 409),
        ("owner", "", {"json": SEND, **STALE}, 412),
        ("owner", "", LARGE, 413),
        ("owner", "", {"data": "{}", "content_type": "text/plain"}, 415),
    ],
    ("/images/{image_id}", "delete"): [
        ("owner", "", STALE, 412),
        ("unknown", "", {}, 401),
        ("member", "", {}, 403),
        ("stranger", "", {}, 404),
        ("owner", "", {}, 200),
    ],
    ("/images/{image_id}/undelete", "post"): [
        ("admin", "", {}, 200),
        ("admin", NOT_UTF8, {}, 404),
        ("admin", "", {"json": [], "content_type": "application/json"}, 400),
        ("admin", "", STALE, 412),
        ("admin", "", LARGE, 413),
        ("admin", "", {"data": "{}", "content_type": "text/plain"}, 415),
        ("unknown", "", {}, 401),
        ("owner", "", {}, 403),
        ("stranger", "", {}, 404),
    ],
    **{
        ("/images/{image_id}/history", method): [
            ("owner", "", {}, 200),
            ("unknown", "", {}, 401),
            ("member", "", {}, 403),
            ("stranger", "", {}, 404),
        ]
        for method in ("get", "head")
    },
    **{
        ("/images/{image_id}/members", method): [
            ("owner", "", {}, 200),
            ("unknown", "", {}, 401),
            ("stranger", "", {}, 404),
        ]
        for method in ("get", "head")
    },
    ("/images/{image_id}/members", "put"): [
        ("owner", "", {"json": {"memberships": [{"member_id": "member"}]}}, 204),
        ("owner", "", {"json": {}}, 400),
        ("unknown", "", {}, 401),
        ("member", "", {}, 403),
        ("stranger", "", {}, 404),
        ("owner", "", LARGE, 413),
        ("owner", "", {"data": "{}", "content_type": "text/plain"}, 415),
    ],
    ("/images/{image_id}/members/{member_id}", "put"): [
        ("owner", "", {}, 204),
        ("owner", "", {"json": {"member": 1}}, 400),
        ("unknown", "", {}, 401),
        ("stranger", "", {}, 404),
        ("owner", "", LARGE, 413),
        ("owner", "", {"data": "{}", "content_type": "text/plain"}, 415),
        ("member", "", {}, 403),
    ],
    ("/images/{image_id}/members/{member_id}", "delete"): [
        ("unknown", "", {}, 401),
        ("member", "", {}, 403),
        ("stranger", "", {}, 404),
        ("owner", NOT_UTF8, {}, 400),
        ("owner", "", {}, 204),
        ("owner", "", {}, 404),
    ],
    **{
        ("/shared-images/{member_id}", method): [
            ("owner", "", {}, 200),
            ("owner", NOT_UTF8, {}, 400),
            ("unknown", "", {}, 401),
        ]
        for method in ("get", "head")
    },
}


@pytest.fixture
def open_as(make_client):
    """A function: the answer to a request of one of CALLERS, or of one unknown."""
    client = make_client(auth__flavor="trusted-auth")

    def open_path(caller, path, method, **options):
        headers = {**({} if caller == "unknown" else identity(caller)), **options.pop("headers", {})}
        return client.open(path, method=method.upper(), headers=headers, **options)

    return open_path


@pytest.fixture
def shared_image_id(open_as):
    image = {**IMAGE, "status": "queued"}
    image_ids = [open_as("owner", "/images", "post", json={"image": image}).json["image"]["id"] for _ in range(2)]
    open_as("owner", f"/images/{image_ids[0]}/members/member", "put")
    return image_ids[0]


@pytest.mark.parametrize(
    ("path", "method", "operation"), operations(), ids=[f"{method} {path}" for path, method, _ in operations()]
)
def test_an_operation_answers_as_promised_and_every_answer_can_be_had(
    open_as, shared_image_id, database_path, path, method, operation
):
    place, had = path.format(image_id=shared_image_id, member_id="member"), set()

    for caller, more, options, status in ANSWERS.get((path, method), [("unknown", "", {}, 200)]):
        filled = json.loads(json.dumps(options).replace("{image_id}", shared_image_id))
        if more == NOT_UTF8:
            filled["environ_overrides"] = {"PATH_INFO": place + more}
        answer = open_as(caller, place + more, method, **filled)

        assert answer.status_code == status, answer.text
        require_promised(method.upper(), place, status, list(answer.headers), answer.data)
        had.add(str(status))
    if method != "options":
        models.database.close()
        database_path.unlink()
        place += IN_DETAIL.get(path, "")
        answer = open_as("owner", place, method, **json.loads(json.dumps(COMPLETE.get((path, method), {}))))
        require_promised(method.upper(), path, answer.status_code, list(answer.headers), answer.data)
        had.add(str(answer.status_code))
    if path in TOKENS_ALONE and method != "options":
        had |= {"503", "404"}  # 404 below
    # A slow client (408) and a full disk (507) are tests of faults.
    assert had == set(operation["responses"]) - {"408", "507"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_counts_that_are_off_are_answered_as_promised(make_client, method):
    answer = make_client(server__metrics="off").open("/metrics", method=method)

    assert answer.status_code == 404
    require_promised(method, "/metrics", 404, list(answer.headers), answer.data)


@pytest.mark.parametrize(("method", "path", "status"), [("PATCH", "/images", 405), ("GET", "/nowhere", 404)])
def test_what_the_document_does_not_have_is_refused_as_it_says(client, method, path, status):
    answer = client.open(path, method=method)

    assert answer.status_code == status
    require_promised(method, path, status, list(answer.headers), answer.data)


@pytest.mark.parametrize("path", ["/images", f"/images/{INACCESSIBLE}/members/a", "/nowhere"])
def test_what_a_browser_asks_beforehand_is_answered_as_it_says(make_client, path):
    page = "https://images.example.org"
    headers = {"Origin": page, "Access-Control-Request-Method": "PUT"}

    answer = make_client(server__allowed_origins=page).options(path, headers=headers)

    assert answer.status_code == 204
    require_promised("OPTIONS", path, 204, list(answer.headers), answer.data)


def test_an_answer_that_is_not_promised_is_noticed(client, make_image):
    answer = client.get(f"/images/{make_image()['id']}")
    given = {"status": 200, "headers": list(answer.headers), "content": answer.data}
    require_promised("GET", f"/images/{INACCESSIBLE}", **given)

    broken = [
        {"status": 500},
        {"status": 409},
        {"headers": [(name, value) for name, value in given["headers"] if name != "ETag"]},
        {"headers": [(name, value) for name, value in given["headers"] if name != "X-Openstack-Request-Id"]},
        {"headers": [*given["headers"], ("Content-Type", "text/html")]},
        {"headers": [*given["headers"], ("X-Image-Meta-Name", "a\r\nb")]},
        {"content": given["content"].replace(b'"min_ram":0', b'"min_ram":null')},
        {"content": given["content"].replace(b'"min_ram":0,', b"")},
        {"content": given["content"].replace(b'"min_ram":0', b'"min_ram":0,"secret":1')},
        {"content": b"{"},
        {"content": b""},
    ]
    for change in broken:
        with pytest.raises((AssertionError, ValueError)):
            require_promised("GET", f"/images/{INACCESSIBLE}", **given | change)
