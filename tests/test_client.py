"""The commands against a real server: the same calls, its rights, and what goes wrong on the way there."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from conftest import IMAGE, free_port

from cli.api_client import id_prefix
from cli.client import without_userinfo

ID = "0f3c9d1e-5b7a-4f0e-8c2d-6a1b9e8f7a6{}"


@pytest.fixture
def token_server(start_server, run):
    """(a Server of flavor token, a function that makes a token of it)."""

    def create_token(*arguments):
        code, output, errors = run("token", "create", *arguments, auth__flavor="token")
        assert code == 0, errors
        return output.decode().strip()

    return start_server(auth__flavor="token"), create_token


@pytest.fixture
def answering():
    """A function: the URL of a server that answers everything with this status, type and body, and what it was sent."""
    servers = []

    def start(status=200, body=b"{}", headers=()):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                heard.append((self.path, dict(self.headers)))
                self.send_response(status)
                for name, value in (("Content-Length", str(len(body))), *headers):
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        heard = []
        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}", heard

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.exhaustive
def test_the_same_commands_work_on_a_server_as_its_tenant(folder, token_server):
    server, create_token = token_server
    there = {"REGISTRY_URL": server.url, "REGISTRY_TOKEN": create_token("--tenant", "acme", "--role", "member")}
    stranger = {**there, "REGISTRY_TOKEN": create_token("--tenant", "other", "--role", "member")}

    image = folder.get("create", "mine", "--disk-format", "raw", "-p", "a=1", "-p", "b=2", **there).strip()
    folder.get("update", "mine", "--remove-property", "a", "--name", "ours", **there)

    record = json.loads(folder.get("show", image[:8], "--json", **there))
    assert (record["name"], record["owner"], record["properties"]) == ("ours", "acme", {"b": "2"})
    assert folder.get("list", **stranger) == ""
    assert folder.run("show", image, **stranger)[0] == 3
    folder.get("share", "ours", "other", **there)
    assert folder.get("list", "--quiet", **stranger).strip() == image
    assert folder.run("update", "ours", "--min-ram", "1", **stranger) == (
        4,
        "",
        "Error: Only the image's owner or an admin may do this.\n",
    )
    folder.get("delete", "ours", "--yes", **there)
    assert folder.get("list", **there) == ""
    assert list(folder.path.glob("mine.db*")) == []  # nothing was done here


@pytest.mark.exhaustive
def test_the_url_and_token_of_the_command_line_win_over_the_environment(folder, token_server):
    server, create_token = token_server
    token = create_token("--role", "admin")

    code, _, errors = folder.run(
        "list", "--url", server.url, "--token", token, REGISTRY_URL="http://127.0.0.1:1", REGISTRY_TOKEN="x"
    )

    assert (code, errors) == (0, "")


@pytest.mark.exhaustive
def test_without_a_token_or_with_a_wrong_one_it_says_where_to_give_it(folder, token_server):
    server, _ = token_server
    secret = "registry_" + "s" * 43

    for token in ([], ["--token", secret]):
        code, output, errors = folder.run("list", "--url", server.url, *token)
        assert (code, output) == (4, "")
        assert errors.endswith("Set --token or REGISTRY_TOKEN.\n")
        assert errors.count("\n") == 1
        assert secret not in errors


def test_a_token_that_can_be_no_header_is_refused_unseen(folder):
    code, _, errors = folder.run("list", "--url", "http://127.0.0.1:1", "--token", "s3cr\net ü")

    assert code == 2
    assert "s3cr" not in errors


def test_a_list_of_a_server_goes_on_over_its_pages(folder, start_server):
    server = start_server(api__api_limit_max=2)
    for n in range(7):
        assert server.request("POST", "/images", {"image": {**IMAGE, "name": f"n{n}"}})[0] == 200

    assert len(folder.get("list", "--url", f"{server.url}/", "--quiet").split()) == 7
    assert len(folder.get("list", "--url", server.url, "-n", "5").splitlines()) == 5
    assert folder.get("show", "n3", "--url", server.url, "-q").strip()


@pytest.mark.exhaustive
def test_a_server_with_a_certificate_is_trusted_only_where_that_is_known(folder, start_tls_server, certificate):
    url = start_tls_server

    code, output, errors = folder.run("list", "--url", url)
    assert (code, output) == (5, "")
    assert errors == f"Error: {url} cannot be reached: certificate verify failed: self-signed certificate.\n"
    assert folder.get("list", "--url", url, SSL_CERT_FILE=str(certificate[0])) == ""


@pytest.fixture
def start_tls_server(folder, tmp_path_factory, certificate):
    from conftest import Server

    port = free_port()
    database = tmp_path_factory.mktemp("tls server") / "registry.db"
    options = {"server__certfile": certificate[0], "server__keyfile": certificate[1]}
    server = Server(database, port, **options)
    output = server.process.stdout
    while line := output.readline():  # it says when it is ready
        if "serves" in line:
            break
    yield f"https://localhost:{port}"
    server.stop()


def test_no_server_there_is_5(folder):
    url = f"http://127.0.0.1:{free_port()}"

    assert folder.run("list", "--url", url) == (5, "", f"Error: {url} cannot be reached: Connection refused.\n")


def test_no_server_of_such_a_name_is_5(folder):
    code, _, errors = folder.run("list", "--url", "http://nobody:secret@registry.invalid")

    assert code == 5
    assert errors.startswith("Error: http://registry.invalid cannot be reached: ")
    assert errors.count("\n") == 1


def test_a_server_that_does_not_speak_http_is_5(folder):
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up():
            connection, _ = listening.accept()
            connection.recv(100)
            connection.sendall(b"220 mail.example ESMTP\r\n")
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        code, _, errors = folder.run("list", "--url", f"http://127.0.0.1:{listening.getsockname()[1]}")
        thread.join()

    assert code == 5
    assert errors.count("\n") == 1


ANSWERS = {
    "no registry": (200, b"<html>", 5, "sent an answer that is not an image registry's; check --url."),
    "another JSON": (200, b"[]", 5, "sent an answer that is not an image registry's; check --url."),
    "no list": (200, b'{"images": 5}', 5, "sent an answer that is not an image registry's; check --url."),
    "no records": (
        200,
        b'{"images": [1, {"id": 3}]}',
        5,
        "sent an answer that is not an image registry's; check --url.",
    ),
    "another's page": (
        404,
        b'{"detail": "This page does not exist."}',
        5,
        "answered 404, unlike an image registry; check --url.",
    ),
    "a proxy's error": (502, b"<html>", 5, "answered 502, unlike an image registry; check --url."),
    "a redirect": (302, b"", 5, "answered 302, unlike an image registry; check --url."),
    "an evil detail": (400, b'{"detail": "\\u001b[31mred\\nnext"}', 2, "\\x1b[31mred\\nnext"),
    "locked": (503, b'{"detail": "The database is locked; nothing was changed."}', 5, "The database is locked;"),
    "full": (507, b'{"detail": "The disk is full; nothing was changed."}', 5, "The disk is full;"),
}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("status", "body", "code", "words"), ANSWERS.values(), ids=ANSWERS)
def test_what_answers_oddly_is_told_in_one_line(folder, answering, status, body, code, words):
    url, _ = answering(status, body, [("Location", "http://127.0.0.1:1/")] if status == 302 else [])

    found, output, errors = folder.run("list", "--url", url)

    assert (found, output) == (code, "")
    assert words in errors
    assert errors.count("\n") == 1


@pytest.mark.exhaustive
def test_the_token_goes_to_no_other_server_than_the_one_that_was_named(folder, answering):
    other, heard_there = answering(200, b'{"images": []}')
    url, heard = answering(200, b'{"images": []}', [("Link", f'<{other}/images>; rel="next"')])

    code, _, errors = folder.run("list", "--url", url, "--token", "secret")

    assert (code, heard_there) == (5, [])
    assert f"links to another server: {other}/images" in errors
    assert heard[0][1]["Authorization"] == "Bearer secret"


@pytest.mark.exhaustive
def test_a_server_on_this_machine_is_not_asked_through_a_proxy(folder, answering):
    url, heard = answering(200, b'{"images": []}')

    folder.get("list", "--url", url, http_proxy="http://127.0.0.1:1", HTTP_PROXY="http://127.0.0.1:1")

    assert len(heard) == 1


def test_the_local_database_is_an_admins_whatever_flavor_a_server_has(folder):
    options = {"REGISTRY_AUTH_FLAVOR": "token", "REGISTRY_SERVER_TRUSTED_HOSTS": "registry.example"}

    assert folder.get("create", "x", "--disk-format", "raw", "--owner", "acme", **options)
    assert folder.get("list", **options).split("\t")[7] == "acme"


@pytest.mark.exhaustive
def test_two_who_write_at_once_both_succeed(folder):
    folder.get("create", "first", "--disk-format", "raw")
    codes = []
    threads = [
        threading.Thread(target=lambda n=n: codes.append(folder.run("create", f"n{n}", "--disk-format", "raw")[0]))
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert codes == [0] * 4
    assert len(folder.get("list", "-q").split()) == 5


def test_a_database_that_cannot_be_used_is_5_in_one_line(folder):
    (folder.path / "mine.db").write_bytes(b"no database" * 1000)

    expected = "Error: [database] connection = 'sqlite:///mine.db': is not a SQLite database\n"
    assert folder.run("list") == (5, "", expected)
    code, _, errors = folder.run("list", REGISTRY_DATABASE_CONNECTION="sqlite:///missing/registry.db")
    assert (code, errors.count("\n")) == (5, 1)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("0F3C", "0f3c"),
        ("0f3c9d1e5", "0f3c9d1e-5"),
        ("0f3c9d1e-5b7a-4f", "0f3c9d1e-5b7a-4f"),
        (ID.format(1), ID.format(1)),
        ("debian", None),
        ("", None),
        ("12345-6", None),
    ],
)
def test_the_beginning_of_an_id_is_known_in_any_spelling(text, prefix):
    assert id_prefix(text) == prefix


def test_a_url_is_told_without_its_password():
    assert without_userinfo("https://user:secret@host:1/x") == "https://host:1/x"
