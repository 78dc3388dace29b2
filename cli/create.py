"""``create`` and ``update``: an image's record, field by field."""

import os
from contextlib import contextmanager

import click
from flask import current_app

import schemas
from cli import inspection
from cli.checksums import MD5, SHA512, Hasher
from cli.client import Failure, Nonsense, formats, image_argument, with_client
from cli.image_format import IMAGE, NONE, SKIPPED
from cli.image_tables import how_of, output_options, told
from cli.param_types import Pair, Size, cleaned, plain_option
from cli.progress import progress_bar
from cli.runtime import USAGE
from formatting import file_url
from storage.fields import WRITABLE_FIELDS, names_of

FIELDS = (*names_of(WRITABLE_FIELDS), "location")
OPTION_OF = {name: f"--{name.replace('_', '-')}" for name in (*FIELDS, "id")} | {"properties": "--property"}
EMPTIED = ("name", "size", "virtual_size", "checksum", "owner", "location")
# What any disk may be told to be: its bytes as they are, also where they begin like a disc to boot from.
ALSO_CALLED_OTHERWISE = ("raw", "iso")
OPTIONS = {
    "name": click.option("--name", help="What people call it."),
    "disk_format": click.option(
        "--disk-format", metavar="FORMAT", shell_complete=formats, help="Such as qcow2, raw, iso."
    ),
    "container_format": click.option(
        "--container-format", metavar="FORMAT", shell_complete=formats, help="Such as bare, ovf."
    ),
    "size": click.option("--size", type=Size(), help="In bytes, or 2G, 700MB."),
    "virtual_size": click.option("--virtual-size", type=Size(), help="The disk's that a machine sees."),
    "checksum": click.option("--checksum", metavar="MD5"),
    "min_disk": click.option("--min-disk", type=Size(1024**3), help="What a machine needs, in GB, or 20G."),
    "min_ram": click.option("--min-ram", type=Size(1024**2), help="What a machine needs, in MB, or 2G."),
    "owner": click.option("--owner", metavar="TENANT", help="Admins give it; others own what they create."),
    "is_public": click.option(
        "--public/--private", "is_public", default=None, help="Who sees it: all, or owner and members."
    ),
    "protected": click.option("--protected/--unprotected", default=None, help="Whether it cannot be deleted."),
    "location": click.option(
        "--location", metavar="URL", help="Where its file is: file:///srv/debian.qcow2, https://…"
    ),
    "pairs": click.option(
        "--property", "-p", "pairs", type=Pair(), multiple=True, metavar="NAME=VALUE", help="Repeatable."
    ),
    "file": click.option(
        "--file", type=click.Path(exists=True, dir_okay=False), help="Read format, sizes, checksums from it."
    ),
}
# Fields whose option needs no more than the table of fields says.
OPTIONS |= {field.name: plain_option(field) for field in WRITABLE_FIELDS if field.name not in (*OPTIONS, "status")}


def fields(statuses):
    """An option for each field that a body may have."""

    def add(command):
        for option in reversed((click.option("--status", type=click.Choice(statuses)), *OPTIONS.values())):
            command = option(command)
        return command

    return add


@click.command("create")
@click.argument("name_given", metavar="[NAME]", required=False)
@fields(schemas.CREATE_STATUSES)
@click.option("--id", "image_id", metavar="UUID", help="Chosen by you; without it, drawn.")
@output_options
@with_client
def create_image(client, name_given, image_id, file, as_json, quiet, **options):
    """Register an image, called NAME. It is active, bare and private unless you say otherwise.

    With --file the format (by its content), sizes, checksums, and, in the local database, the location are that
    file's; the file stays where it is. What scan refuses is refused. Without --file, --disk-format says what it is.
    Off a terminal this prints the id.

    \b
    Example:
      $ flask --app registry create my-image --disk-format qcow2 --size 2G --public
      $ flask --app registry create --file images/debian.qcow2 --property os_distro=debian
    """
    how = how_of(as_json, quiet)
    if name_given is not None and options["name"] not in (None, name_given):
        raise click.UsageError("NAME and --name differ.")
    values = {"status": "active", "container_format": paired(options["disk_format"]), "name": name_given}
    if file:
        values |= facts_of(file, client, options["disk_format"]) | {"name": name_given or os.path.basename(file)}
    values = merged(values, given_values(options)) | ({"id": image_id} if image_id else {})
    with told_as_options(values):
        record = client.create(values)
    warn_of_owner(record, values)
    told(record, "Created", how)


def paired(disk_format):
    """The container of a disk format: Amazon's are their own."""
    return disk_format if disk_format in ("ami", "ari", "aki") else "bare"


@click.command("update")
@image_argument()
@fields([status for status in schemas.UPDATE_STATUSES if status != "deleted"])  # delete is a command
@click.option("--remove-property", "removed", multiple=True, metavar="NAME", help="Repeatable.")
@click.option("--unset", multiple=True, type=click.Choice(EMPTIED), help="Make it empty. Repeatable.")
@output_options
@with_client
def update_image(client, image, file, removed, unset, as_json, quiet, **options):
    """Change of IMAGE what you name, and leave the rest as it is. IMAGE is an id, its beginning, or a name.

    \b
    Example:
      $ flask --app registry update debian-13 --min-ram 2G --property os_version=13.1
      $ flask --app registry update debian-13 --name debian-trixie --protected
      $ flask --app registry update debian-trixie --remove-property os_version --unprotected
    """
    how = how_of(as_json, quiet)
    values = given_values(options) | dict.fromkeys(unset)
    if not (values or removed or file):
        raise click.UsageError("Nothing to change: name a field, as --help lists them.")
    record, tag = client.show_with_tag(client.find(image)["id"])
    if file:
        values = merged(facts_of(file, client, options["disk_format"], record["disk_format"]), values)
    if missing := sorted({*removed} - {*record["properties"]}):
        raise Failure(f"The image has no property {', '.join(missing)}.")
    if removed:
        kept = {name: text for name, text in record["properties"].items() if name not in removed}
        values["properties"] = kept | values.get("properties", {})
    with told_as_options(values):
        # What is read and written back must not undo what somebody else changes in between.
        options = {"purge": True, "if_match": tag} if removed else {}
        record = client.update(record["id"], values, **options)
    warn_of_owner(record, values)
    told(record, "Updated", how)


@contextmanager
def told_as_options(values):
    """What the API says of its fields, said of the options: of those that are missing, too."""
    try:
        yield
    except Nonsense as refusal:
        words = [
            f"{OPTION_OF[field]}{'' if field in values else ' is missing'}: {' '.join(texts)}"
            for field, texts in refusal.errors.items()
            if field in OPTION_OF
        ]
        if len(words) < len(refusal.errors) or not words:
            raise
        raise Failure(cleaned(" ".join(words)), USAGE) from None


def warn_of_owner(record, values):
    """Where others than admins create, the API leaves it unread."""
    if values.get("owner") and record["owner"] != values["owner"]:
        owner = f"{cleaned(record['owner'])}'s" if record["owner"] else "nobody's"
        click.echo(f"--owner is for admins: the image is {owner}.", err=True)


def given_values(options):
    """The body's fields that were named on the command line."""
    values = {name: options[name] for name in FIELDS if options[name] is not None}
    return values | ({"properties": dict(options["pairs"])} if options["pairs"] else {})


def merged(facts, values):
    """What the command line says counts more than the file."""
    properties = facts.get("properties", {}) | values.get("properties", {})
    return facts | values | ({"properties": properties} if properties else {})


def facts_of(path, client, said, kept=None):
    """What a record says of its file; the location too where the registry is this machine's. Raises Failure.

    ``said`` is the disk format of the command line, ``kept`` the record's: one is needed where the content tells none.
    """
    found = read_file(path, (IMAGE,) if (said or kept) is None else (IMAGE, NONE, SKIPPED))
    facts = {"size": found.status.st_size, "checksum": found.digests[MD5], "virtual_size": found.detected.virtual_size}
    if disk_format := found.detected.disk_format:
        if said not in (None, disk_format) and disk_format not in ALSO_CALLED_OTHERWISE:
            raise Failure(f"{cleaned(path)}: is {disk_format}, not {said}.")
        facts["disk_format"] = disk_format
    facts["properties"] = {"os_hash_algo": SHA512, "os_hash_value": found.digests[SHA512]}
    return facts | ({"location": file_url(os.path.realpath(path))} if client.is_local else {})


def read_file(path, hashed):
    """A Reading of one of the verdicts ``hashed``. Raises Failure."""
    hasher, done = Hasher(1), 0
    with progress_bar("read", os.path.getsize(path), "bytes") as show:

        def advance(count):
            nonlocal done
            done += count
            show(done, None)

        try:
            found = inspection.read(path, current_app.settings.api.disk_formats, hasher, advance=advance, hashed=hashed)
        finally:
            hasher.stop()
    if found.verdict not in hashed:
        hint = "; --disk-format says which" if found.verdict == NONE else ""
        raise Failure(f"{cleaned(path)}: {found.reason}{hint}.")
    return found
