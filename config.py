"""Configuration: one table of options, read from an ini file and the environment."""

import configparser
import ipaddress
import os
import re
from collections import namedtuple
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from errors import StartupError

# The product's version; CHANGELOG.md has its changes.
VERSION = "0.1.0"
# The methods that some route accepts, in the order in which responses name them.
HTTP_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
ENVIRONMENT_PREFIX = "REGISTRY_"
HOST = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+", re.ASCII)
ORIGIN = re.compile(r"https?://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", re.ASCII)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII)
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class Option(NamedTuple):
    """One row of the table; ``parse`` raises ValueError with the accepted values."""

    section: str
    name: str
    default: str
    parse: Callable[[str], Any]
    help: str

    @property
    def environment(self) -> str:
        return f"{ENVIRONMENT_PREFIX}{self.section}_{self.name}".upper()


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a parser of integers in a range."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 20 and lowest <= int(text) <= highest):
            raise ValueError(f"must be an integer from {lowest} to {highest}")
        return int(text)

    return parse


def boolean(text: str) -> bool:
    """Parse a boolean."""
    if text.lower() not in BOOLEANS:
        raise ValueError(f"must be one of {', '.join(BOOLEANS)}")
    return BOOLEANS[text.lower()]


def one_of(*choices: str) -> Callable[[str], str]:
    """Return a parser of a choice."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def word(text: str) -> str:
    """Parse a word without spaces."""
    if not text or any(character.isspace() for character in text):
        raise ValueError("must be a word without spaces")
    return text


def path_or_nothing(text: str) -> str:
    """Parse a path, or "" for none."""
    if "\0" in text:
        raise ValueError("must be a path")
    return text


def names(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of names, without duplicates."""
    found = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if not all(found) or any(len(name) > 20 for name in found):
        raise ValueError("must be a comma-separated list of names of 1 to 20 characters")
    return found


def networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    """Parse a comma-separated list of addresses and networks, which may be empty."""
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",")) if text.strip() else ()
    except ValueError:
        raise ValueError("must be a comma-separated list of addresses and networks such as 10.1.0.0/16") from None


def hosts(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of host names without ports, which may be empty."""
    found = tuple(part.strip().strip("[]").lower().removesuffix(".") for part in text.split(",") if part.strip())
    if not all(HOST.fullmatch(host) for host in found):
        raise ValueError("must be a comma-separated list of host names or addresses, without ports")
    return found


def origins(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of web origins, which may be empty."""
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not all(ORIGIN.fullmatch(origin) for origin in found):
        raise ValueError("must be a comma-separated list of origins, such as https://images.example.org:8443")
    return found


def schemes(text: str) -> tuple[str, ...]:
    """Parse a comma-separated list of URL schemes, which may be empty."""
    found = tuple(part.strip().lower() for part in text.split(",") if part.strip())
    if not all(SCHEME.fullmatch(scheme) for scheme in found):
        raise ValueError("must be a comma-separated list of schemes of URLs, such as https")
    return found


def quota(text: str) -> int:
    """Parse a quota; -1 is no limit."""
    if text == "-1":
        return -1
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 1 << 31):
        raise ValueError(f"must be an integer from -1 (no limit) to {(1 << 31) - 1}")
    return int(text)


def sqlite_url(text: str) -> str:
    """Parse the URL of an SQLite file."""
    scheme, _, path = text.partition("://")
    expected = "must be sqlite:///FILE, or sqlite:////FOLDER/FILE for an absolute path"
    if scheme != "sqlite":
        raise ValueError(f"{scheme} is not supported; it {expected}" if path else expected)
    if len(path) < 2 or path[0] != "/" or path[-1] == "/" or path.startswith(("///", "/:memory:")) or "\0" in path:
        raise ValueError(expected)
    return text


# Glance's stores, without those that read the server's files or configuration: file, filesystem, swift+config.
SCHEMES = "http,https,swift,swift+http,swift+https,s3,s3+http,s3+https,rbd,cinder,sheepdog,vsphere"
OPTIONS = (
    Option("server", "bind_host", "127.0.0.1", word, "Address to listen on."),
    Option("server", "bind_port", "9191", integer(1, 65535), "Port to listen on."),
    Option("server", "workers", "2", integer(1, 64), "Worker processes."),
    Option("server", "threads", "4", integer(1, 64), "Threads in each worker."),
    Option("server", "request_timeout", "30", integer(1, 3600), "Seconds to receive a request."),
    Option("server", "certfile", "", path_or_nothing, "TLS certificate with chain (PEM); empty: no TLS."),
    Option("server", "keyfile", "", path_or_nothing, "Key of the certificate (PEM), if not in certfile."),
    Option("server", "trusted_hosts", "", hosts, "Accepted Host names beside this machine's own."),
    Option("server", "allowed_origins", "", origins, "Origins of other web pages with access (CORS)."),
    Option("server", "metrics", "identified", one_of("identified", "anyone", "off"), "Callers that may read /metrics."),
    Option("database", "connection", "sqlite:///registry.db", sqlite_url, "URL of the SQLite file."),
    Option("database", "busy_timeout", "5", integer(0, 600), "Seconds to wait for a locked database."),
    Option("auth", "flavor", "none", one_of("none", "trusted-auth", "token"), "Authentication method."),
    Option(
        "auth",
        "trusted_proxies",
        "127.0.0.1/32, ::1/128",
        networks,
        "Proxies that may identify callers (trusted-auth).",
    ),
    Option("auth", "admin_role", "admin", word, "Role of admins, case-insensitive (not with none)."),
    Option("auth", "allow_anonymous_access", "false", boolean, "Allow anonymous reads (not with none)."),
    Option("auth", "allow_open_network", "false", boolean, "Allow flavor none on non-loopback addresses."),
    Option("api", "limit_param_default", "1000", integer(1, 10_000), "Default page size of a list."),
    Option("api", "api_limit_max", "1000", integer(1, 10_000), "Largest page size of a list."),
    Option("api", "strict_create", "true", boolean, "Require status and formats; false behind a glance-api."),
    Option("api", "disk_formats", "ari,aki,ami,raw,iso,vhd,vdi,qcow2,vmdk", names, "Accepted disk formats."),
    Option("api", "container_formats", "ari,aki,ami,bare,ovf", names, "Accepted container formats."),
    Option(
        "api",
        "expose_locations",
        "owner",
        one_of("owner", "all"),
        "Callers that see locations; all behind a glance-api.",
    ),
    Option("api", "max_body_bytes", "1048576", integer(1024, 1 << 30), "Largest request body in bytes."),
    Option("api", "image_property_quota", "128", quota, "Properties per image; -1: no limit, here and below."),
    Option("api", "image_member_quota", "128", quota, "Members per image."),
    Option("api", "image_location_quota", "10", quota, "Locations per image."),
    Option("api", "user_image_quota", "0", integer(0, (1 << 31) - 1), "Undeleted images per tenant; 0: no limit."),
    Option("api", "image_history_limit", "50", integer(0, 10_000), "History entries kept per image; 0: none."),
    Option("api", "location_schemes", SCHEMES, schemes, "URL schemes of locations set by non-admins."),
    Option(
        "log", "format", "auto", one_of("auto", "human", "json"), "Log format; auto: human on a terminal, else json."
    ),
    Option("log", "level", "info", one_of("debug", "info", "warning", "error"), "Lowest level that is logged."),
    Option("log", "requests", "true", boolean, "Log a line for each request."),
)
SECTIONS = {
    section: namedtuple(section, [option.name for option in OPTIONS if option.section == section])
    for section in dict.fromkeys(option.section for option in OPTIONS)
}


class DatabaseSection(SECTIONS["database"]):
    """Section [database], with the path of its file."""

    __slots__ = ()

    @property
    def path(self) -> str:
        """Return the path in ``connection``."""
        return self.connection.removeprefix("sqlite:///")

    @property
    def absolute(self) -> "DatabaseSection":
        """Return the section with an absolute path, for any working directory."""
        return self.at(self.path)

    def at(self, path: str) -> "DatabaseSection":
        """Return the section with another database file."""
        return self._replace(connection=f"sqlite:///{os.path.abspath(path)}")


SECTIONS["database"] = DatabaseSection
Settings = namedtuple("Settings", SECTIONS)


def read_settings(environment: Mapping[str, str] = os.environ) -> Settings:
    """Return the settings: defaults < file in REGISTRY_CONFIG < environment.

    Returns: one frozen tuple per section, as in ``settings.server.bind_port``.

    Raises: StartupError with option, value, and file or variable.
    """
    given = given_texts(environment)
    values = {section: {} for section in SECTIONS}
    for option in OPTIONS:
        text, source = given.get((option.section, option.name), (option.default, "default"))
        try:
            values[option.section][option.name] = option.parse(text)
        except ValueError as error:
            shown = without_credentials(text) if option.name == "connection" else text
            raise StartupError(f"[{option.section}] {option.name} = {shown!r} ({source}): {error}") from None
    return Settings(**{section: SECTIONS[section](**chosen) for section, chosen in values.items()})


def without_credentials(url: str) -> str:
    """Return a URL without credentials: its scheme alone, if it has any."""
    if "@" not in url and "password" not in url.lower():
        return url
    scheme, separator, _ = url.partition("://")
    return f"{scheme}://…" if separator else "…"


def given_texts(environment: Mapping[str, str] = os.environ) -> dict[tuple[str, str], tuple[str, str]]:
    """Return {(section, name): (text, source)} of all options that are set."""
    return {**file_texts(environment.get("REGISTRY_CONFIG")), **environment_texts(environment)}


def file_texts(path: str | None) -> dict[tuple[str, str], tuple[str, str]]:
    """Return {(section, name): (text, source)} of the ini file at ``path``."""
    if not path:
        return {}
    parser = configparser.ConfigParser(interpolation=None, default_section="", empty_lines_in_values=False)
    try:
        with open(path, encoding="utf-8-sig") as file:
            parser.read_file(file, source=path)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        cause = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise StartupError(f"REGISTRY_CONFIG = {path!r}: {cause}") from None
    texts = {}
    for section in parser.sections():
        for name, text in parser.items(section):
            require_known(section, name, f"file {path}")
            texts[section, name] = text, f"file {path}"
        require_known(section, None, f"file {path}")
    return texts


def environment_texts(environment: Mapping[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Return {(section, name): (text, source)} of variables REGISTRY_<section>_…."""
    texts = {}
    for variable, text in environment.items():
        for section in SECTIONS:
            prefix = f"{ENVIRONMENT_PREFIX}{section}_".upper()
            if variable.startswith(prefix):
                name = variable.removeprefix(prefix).lower()
                require_known(section, name, f"environment variable {variable}")
                texts[section, name] = text, f"environment variable {variable}"
    return texts


def require_known(section: str, name: str | None, source: str) -> None:
    if section not in SECTIONS:
        raise StartupError(f"[{section}] ({source}): unknown section; known are {', '.join(SECTIONS)}")
    known = SECTIONS[section]._fields
    if name is not None and name not in known:
        raise StartupError(f"[{section}] {name} ({source}): unknown option; this section has {', '.join(known)}")
