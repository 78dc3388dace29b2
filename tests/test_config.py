"""The options: defaults, overridden by the file, overridden by the environment; what is refused names its source."""

from ipaddress import ip_network

import pytest
from conftest import environment

from config import OPTIONS, SECTIONS, read_settings
from errors import StartupError

DEFAULTS = {
    "server": {"bind_host": "127.0.0.1", "bind_port": 9191, "workers": 2, "threads": 4}
    | {"request_timeout": 30, "certfile": "", "keyfile": ""}
    | {"trusted_hosts": (), "allowed_origins": (), "metrics": "identified"},
    "database": {"connection": "sqlite:///registry.db", "busy_timeout": 5},
    "auth": {
        "flavor": "none",
        "trusted_proxies": (ip_network("127.0.0.1/32"), ip_network("::1/128")),
        "admin_role": "admin",
        "allow_anonymous_access": False,
        "allow_open_network": False,
    },
    "api": {
        "limit_param_default": 1000,
        "api_limit_max": 1000,
        "strict_create": True,
        "disk_formats": ("ari", "aki", "ami", "raw", "iso", "vhd", "vdi", "qcow2", "vmdk"),
        "container_formats": ("ari", "aki", "ami", "bare", "ovf"),
        "expose_locations": "owner",
        "max_body_bytes": 1024 * 1024,
        "image_property_quota": 128,
        "image_member_quota": 128,
        "image_location_quota": 10,
        "user_image_quota": 0,
        "image_history_limit": 50,
        "location_schemes": (
            *("http", "https", "swift", "swift+http", "swift+https", "s3", "s3+http", "s3+https"),
            *("rbd", "cinder", "sheepdog", "vsphere"),
        ),
    },
    "log": {"format": "auto", "level": "info", "requests": True},
}
# section, name, (text in the file, its value), (text in the environment, its value)
SAMPLES = [
    ("server", "bind_host", ("0.0.0.0", "0.0.0.0"), ("::1", "::1")),
    ("server", "bind_port", ("1", 1), ("65535", 65535)),
    ("server", "workers", ("1", 1), ("64", 64)),
    ("server", "threads", ("1", 1), ("64", 64)),
    ("server", "request_timeout", ("1", 1), ("3600", 3600)),
    ("server", "certfile", ("/etc/my cert.pem", "/etc/my cert.pem"), ("", "")),
    ("server", "keyfile", ("key.pem", "key.pem"), ("", "")),
    ("server", "trusted_hosts", ("Registry, 10.0.0.5", ("registry", "10.0.0.5")), ("[FD00::1]", ("fd00::1",))),
    ("server", "allowed_origins", ("https://a.example, http://b:81", ("https://a.example", "http://b:81")), ("", ())),
    ("server", "metrics", ("anyone", "anyone"), ("off", "off")),
    (
        "database",
        "connection",
        ("sqlite:///100%.db", "sqlite:///100%.db"),
        ("sqlite:////var/a.db", "sqlite:////var/a.db"),
    ),
    ("database", "busy_timeout", ("0", 0), ("600", 600)),
    ("auth", "flavor", ("trusted-auth", "trusted-auth"), ("none", "none")),
    ("auth", "trusted_proxies", ("10.0.0.0/8", (ip_network("10.0.0.0/8"),)), ("", ())),
    ("auth", "admin_role", ("cloud_admin", "cloud_admin"), ("Root", "Root")),
    ("auth", "allow_anonymous_access", ("true", True), ("FALSE", False)),
    ("auth", "allow_open_network", ("true", True), ("0", False)),
    ("api", "limit_param_default", ("1", 1), ("25", 25)),
    ("api", "api_limit_max", ("1", 1), ("10000", 10000)),
    ("api", "strict_create", ("no", False), ("Yes", True)),
    ("api", "disk_formats", ("raw, qcow2", ("raw", "qcow2")), ("vhdx", ("vhdx",))),
    ("api", "container_formats", ("bare,docker,bare", ("bare", "docker")), ("ova", ("ova",))),
    ("api", "expose_locations", ("all", "all"), ("owner", "owner")),
    ("api", "max_body_bytes", ("1024", 1024), ("2097152", 2097152)),
    *(
        ("api", f"image_{kind}_quota", ("-1", -1), ("2147483647", 2147483647))
        for kind in ("property", "member", "location")
    ),
    ("api", "user_image_quota", ("0", 0), ("10", 10)),
    ("api", "image_history_limit", ("10", 10), ("0", 0)),
    ("api", "location_schemes", ("FILE, swift+http", ("file", "swift+http")), ("", ())),
    ("log", "format", ("human", "human"), ("json", "json")),
    ("log", "level", ("debug", "debug"), ("error", "error")),
    ("log", "requests", ("false", False), ("true", True)),
]
NUMBERS = {
    ("server", "bind_port"): (1, 65535),
    ("server", "workers"): (1, 64),
    ("server", "threads"): (1, 64),
    ("server", "request_timeout"): (1, 3600),
    ("database", "busy_timeout"): (0, 600),
    ("api", "limit_param_default"): (1, 10_000),
    ("api", "api_limit_max"): (1, 10_000),
    ("api", "max_body_bytes"): (1024, 1 << 30),
    ("api", "user_image_quota"): (0, 2**31 - 1),
    ("api", "image_history_limit"): (0, 10_000),
}
SQLITE_FILE = "must be sqlite:///FILE, or sqlite:////FOLDER/FILE for an absolute path"
BOOLEANS = "must be one of true, 1, yes, false, 0, no"
NAMES = "must be a comma-separated list of names of 1 to 20 characters"
NETWORKS = "must be a comma-separated list of addresses and networks such as 10.1.0.0/16"
HOSTS = "must be a comma-separated list of host names or addresses, without ports"
ORIGINS = "must be a comma-separated list of origins, such as https://images.example.org:8443"
SCHEMES = "must be a comma-separated list of schemes of URLs, such as https"
QUOTA = "must be an integer from -1 (no limit) to 2147483647"
WORD = "must be a word without spaces"
# section, name, a text that is refused, the accepted values
REFUSED = [
    ("server", "bind_host", "", WORD),
    ("server", "bind_host", "two hosts", WORD),
    ("server", "certfile", "cert\0.pem", "must be a path"),
    ("server", "keyfile", "key\0.pem", "must be a path"),
    *(("server", "trusted_hosts", text, HOSTS) for text in ("registry:9191", "a b", "*", "http://a", "ü")),
    *(("server", "allowed_origins", text, ORIGINS) for text in ("*", "null", "a.example", "https://a/", "https://a b")),
    *(("api", "location_schemes", text, SCHEMES) for text in ("http://", "a b", "3s")),
    *(
        ("api", f"image_{kind}_quota", text, QUOTA)
        for kind in ("property", "member", "location")
        for text in ("-2", "2147483648", "", "many", "1.5", "9" * 5000)
    ),
    ("database", "connection", "", SQLITE_FILE),
    ("database", "connection", "registry.db", SQLITE_FILE),
    ("database", "connection", "sqlite://registry.db", SQLITE_FILE),
    ("database", "connection", "sqlite:///", SQLITE_FILE),
    ("database", "connection", "sqlite:///:memory:", SQLITE_FILE),
    ("database", "connection", "mysql:///registry", f"mysql is not supported; it {SQLITE_FILE}"),
    ("database", "connection", "postgresql://host/registry", f"postgresql is not supported; it {SQLITE_FILE}"),
    ("auth", "flavor", "keystone", "must be one of none, trusted-auth, token"),
    ("auth", "flavor", "", "must be one of none, trusted-auth, token"),
    ("auth", "trusted_proxies", "localhost", NETWORKS),
    ("auth", "trusted_proxies", "10.0.0.1/8", NETWORKS),
    ("auth", "trusted_proxies", "10.0.0.0/8,", NETWORKS),
    ("auth", "admin_role", "", WORD),
    ("auth", "admin_role", "cloud admin", WORD),
    ("auth", "allow_anonymous_access", "maybe", BOOLEANS),
    ("auth", "allow_anonymous_access", "", BOOLEANS),
    ("auth", "allow_open_network", "2", BOOLEANS),
    ("api", "strict_create", "2", BOOLEANS),
    ("api", "disk_formats", "", NAMES),
    ("api", "disk_formats", "raw,,iso", NAMES),
    ("api", "container_formats", "bare," + "x" * 21, NAMES),
    ("api", "expose_locations", "nobody", "must be one of owner, all"),
    ("server", "metrics", "true", "must be one of identified, anyone, off"),
    ("log", "format", "xml", "must be one of auto, human, json"),
    ("log", "level", "INFO", "must be one of debug, info, warning, error"),
    ("log", "requests", "2", BOOLEANS),
    *(
        (section, name, text, f"must be an integer from {lowest} to {highest}")
        for (section, name), (lowest, highest) in NUMBERS.items()
        for text in (str(lowest - 1), str(highest + 1), "", "many", "1.5", "1e3", "٣", "9" * 5000)
    ),
]


@pytest.fixture
def from_file(tmp_path):
    """A function: the settings of an ini file with this content, and of variables."""
    path = tmp_path / "registry.ini"

    def read(content, **variables):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_settings({"REGISTRY_CONFIG": str(path), **variables})

    read.path = path
    return read


def refusal(read, *arguments, **variables):
    with pytest.raises(StartupError) as caught:
        read(*arguments, **variables)
    line = str(caught.value)
    assert line.startswith("registry: ")
    assert line.splitlines() == [line]
    return line.removeprefix("registry: ")


def variable(section, name):
    return f"REGISTRY_{section}_{name}".upper()


def test_without_file_and_environment_every_option_has_its_default():
    settings = read_settings({})

    assert {section: values._asdict() for section, values in settings._asdict().items()} == DEFAULTS


def test_the_samples_below_are_of_every_option():
    options = [(option.section, option.name) for option in OPTIONS]

    assert [(section, name) for section, name, *_ in SAMPLES] == options
    assert {(section, name) for section, name, *_ in REFUSED} == set(options)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_variable_and_one_sentence_of_help(option):
    assert option.environment == variable(option.section, option.name)
    assert option.help.endswith(".")


@pytest.mark.parametrize(("section", "name", "in_file", "in_environment"), SAMPLES)
def test_the_file_overrides_the_default_and_the_environment_overrides_the_file(
    from_file, section, name, in_file, in_environment
):
    content = f"[{section}]\n{name} = {in_file[0]}\n"

    by_file = from_file(content)
    by_both = from_file(content, **{variable(section, name): in_environment[0]})

    assert getattr(getattr(by_file, section), name) == in_file[1]
    assert getattr(getattr(by_both, section), name) == in_environment[1]
    others = {**DEFAULTS[section], name: in_environment[1]}
    assert getattr(by_both, section)._asdict() == others


def test_file_and_environment_complete_each_other(from_file):
    settings = from_file("[server]\nworkers = 3\n\n[api]\nstrict_create = false\n", REGISTRY_SERVER_THREADS="7")

    assert settings.server._asdict() == {**DEFAULTS["server"], "workers": 3, "threads": 7}
    assert settings.api.strict_create is False


@pytest.mark.parametrize(
    "content", ["", "# nothing\n; here\n", "[server]\n[api]\n", "[server]\nWORKERS : 2\n"], ids=repr
)
def test_a_file_may_be_empty_and_be_written_as_ini_files_are(from_file, content):
    assert from_file(content) == read_settings({})


@pytest.mark.parametrize(("section", "name", "text", "accepted"), REFUSED)
def test_a_refused_value_in_the_environment_is_named_with_its_variable_and_what_is_accepted(
    section, name, text, accepted
):
    variables = {variable(section, name): text}

    line = refusal(read_settings, variables)

    assert line == f"[{section}] {name} = {text!r} (environment variable {variable(section, name)}): {accepted}"


@pytest.mark.parametrize(("section", "name", "text", "accepted"), REFUSED)
def test_a_refused_value_in_the_file_is_named_with_the_file_and_what_is_accepted(
    from_file, section, name, text, accepted
):
    line = refusal(from_file, f"[{section}]\n{name} = {text}\n")

    assert line == f"[{section}] {name} = {text!r} (file {from_file.path}): {accepted}"


def test_a_refused_value_in_the_file_does_not_matter_where_the_environment_overrides_it(from_file):
    settings = from_file("[server]\nworkers = many\n", REGISTRY_SERVER_WORKERS="3")

    assert settings.server.workers == 3


@pytest.mark.parametrize(
    "connection",
    [
        "postgresql://user:secret@host/db",
        "postgresql:///user:secret@host/db",
        "postgresql+psycopg://user:secret@host:5432/db?sslmode=require",
        "postgresql://host/db?user=user&password=secret",
        "sqlite://user:secret@host/db",
        "user:secret@host/db",
    ],
)
def test_a_password_in_a_refused_connection_is_not_shown_and_its_scheme_is(from_file, connection):
    scheme, separator, _ = connection.partition("://")

    lines = [
        refusal(read_settings, {"REGISTRY_DATABASE_CONNECTION": connection}),
        refusal(from_file, f"[database]\nconnection = {connection}\n"),
    ]

    for line in lines:
        assert "secret" not in line
        assert line.startswith(f"[database] connection = '{scheme}://" if separator else "[database] connection = ")
        assert "sqlite:///FILE" in line


@pytest.mark.parametrize("section", list(SECTIONS))
def test_an_unknown_option_is_refused_with_those_that_its_section_has(from_file, section):
    name = f"REGISTRY_{section.upper()}_COLOUR"

    in_file = refusal(from_file, f"[{section}]\ncolour = red\n")
    in_environment = refusal(read_settings, {name: "red"})

    cause = f"unknown option; this section has {', '.join(DEFAULTS[section])}"
    assert in_file == f"[{section}] colour (file {from_file.path}): {cause}"
    assert in_environment == f"[{section}] colour (environment variable {name}): {cause}"


@pytest.mark.parametrize("content", ["[colours]\nred = 1\n", "[colours]\n", "[Server]\nworkers = 2\n"])
def test_an_unknown_section_of_the_file_is_refused_with_those_that_there_are(from_file, content):
    section = content[1:].partition("]")[0]

    line = refusal(from_file, content)

    assert line.startswith(f"[{section}] ")
    assert line.endswith(f"(file {from_file.path}): unknown section; known are server, database, auth, api, log")


@pytest.mark.parametrize("content", ["[DEFAULT]\nworkers = 3\n\n[server]\n", "[DEFAULT]\n\n[server]\nworkers = 3\n"])
def test_the_ini_notation_s_section_default_is_an_unknown_one(from_file, content):
    line = refusal(from_file, content)

    assert line.startswith("[DEFAULT] ")
    assert line.endswith(f"(file {from_file.path}): unknown section; known are server, database, auth, api, log")


@pytest.mark.parametrize(
    "name", ["REGISTRY_PORT", "REGISTRY_COLOURS_RED", "REGISTRY_SERVER", "REGISTRY_SERVERS_WORKERS", "SERVER_WORKERS"]
)
def test_variables_that_begin_with_no_section_are_not_looked_at(name):
    assert read_settings({name: "tcp://10.0.0.1:5000"}) == read_settings({})


def test_the_variable_that_names_the_file_is_no_option(from_file):
    assert from_file("") == read_settings({})
    assert all(option.environment != "REGISTRY_CONFIG" for option in OPTIONS)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("workers = 3\n", "File contains no section headers."),
        ("[server]\nworkers = 3\nworkers = 4\n", "option 'workers' in section 'server' already exists"),
        ("[server]\nworkers = 3\nWorkers = 3\n", "option 'workers' in section 'server' already exists"),
        ("[server]\n[api]\n[server]\nworkers = 3\n", "section 'server' already exists"),
        ("[server]\nworkers\n", "Source contains parsing errors"),
        (b"[server]\nbind_host = caf\xe9\n", "'utf-8' codec can't decode byte 0xe9"),
        (b"\x89PNG\r\n\x1a\n\0\0", "'utf-8' codec can't decode byte 0x89"),
    ],
    ids=repr,
)
def test_a_file_that_cannot_be_understood_is_refused_by_its_name_with_the_cause(from_file, content, cause):
    line = refusal(from_file, content)

    assert line.startswith(f"REGISTRY_CONFIG = {str(from_file.path)!r}: ")
    assert cause in line


@pytest.mark.parametrize(
    ("name", "cause"), [("missing.ini", "No such file or directory"), ("", "Is a directory")], ids=["missing", "folder"]
)
def test_a_file_that_cannot_be_read_is_refused_by_its_name_with_the_cause(tmp_path, name, cause):
    path = str(tmp_path / name)

    line = refusal(read_settings, {"REGISTRY_CONFIG": path})

    assert line == f"REGISTRY_CONFIG = {path!r}: {cause}"


def test_settings_are_frozen():
    settings = read_settings({})

    for holder, name in [(settings, "server"), (settings.server, "workers"), (settings.api, "disk_formats")]:
        with pytest.raises(AttributeError):
            setattr(holder, name, None)
    with pytest.raises(AttributeError):
        settings.server.colour = "red"


def test_reading_leaves_the_variables_as_they_were(tmp_path):
    variables = environment(tmp_path / "registry.db", server__workers=3)
    before = dict(variables)

    settings = read_settings(variables)

    assert variables == before
    assert settings.database.connection == f"sqlite:///{tmp_path / 'registry.db'}"


def test_the_database_s_file_is_known_by_its_path():
    settings = read_settings({"REGISTRY_DATABASE_CONNECTION": "sqlite:////srv/my registry.db"})

    assert settings.database.path == "/srv/my registry.db"
    assert settings.database._replace(connection="sqlite:///other.db").path == "other.db"
