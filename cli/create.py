"""``create`` and ``update``: write an image's record, from options or from its file."""

import os
from contextlib import contextmanager

import click
from flask import current_app

import schemas
from cli.api_client import BadRequest
from cli.checksums import MD5, SHA512, Hasher
from cli.client import with_client
from cli.completion import formats, image_argument
from cli.image_format import IMAGE, REFUSED, has_signature
from cli.image_tables import how_of, output_options, print_change
from cli.inspection import inspect_file
from cli.param_types import Pair, Size, cleaned, plain_option
from cli.progress import progress_bar
from cli.runtime import USAGE, Failure
from cli.scan_properties import ENCRYPTION
from formatting import file_url
from storage.documents import PAIRED_FORMATS
from storage.fields import WRITABLE_FIELDS, names_of

FIELDS = (*names_of(WRITABLE_FIELDS), "location")
OPTION_OF = {name: f"--{name.replace('_', '-')}" for name in (*FIELDS, "id")} | {"properties": "--property"}
# With [api] strict_create the API refuses null formats, so they cannot be cleared.
CLEARABLE = (*names_of(field for field in WRITABLE_FIELDS if field.is_nullable and field.kind != "word"), "location")
# Formats without a signature. Any raw disk or iso may be registered as one, because its bytes are stored as they are.
UNCHECKED = ("raw", *PAIRED_FORMATS)
OPTIONS = {
    "name": click.option("--name", help="Display name."),
    "disk_format": click.option(
        "--disk-format", metavar="FORMAT", shell_complete=formats, help="Such as qcow2, raw, iso."
    ),
    "container_format": click.option(
        "--container-format", metavar="FORMAT", shell_complete=formats, help="Such as bare, ovf."
    ),
    "size": click.option("--size", type=Size(), help="Size of the file: bytes, or 2G, 700MB."),
    "virtual_size": click.option("--virtual-size", type=Size(), help="Size of the disk in a machine: bytes, or 20G."),
    "checksum": click.option("--checksum", metavar="MD5"),
    "min_disk": click.option("--min-disk", type=Size(1024**3), help="Disk needed, in GB (1024³), or such as 20G."),
    "min_ram": click.option("--min-ram", type=Size(1024**2), help="Memory needed, in MB (1024²), or such as 2G."),
    "owner": click.option("--owner", metavar="TENANT", help="Owner; only admins may set it."),
    "is_public": click.option(
        "--public/--private", "is_public", default=None, help="Visible to all, or to owner and members."
    ),
    "protected": click.option("--protected/--unprotected", default=None, help="Protect against deletion."),
    "location": click.option("--location", metavar="URL", help="URL of its file: file:///srv/debian.qcow2, https://…"),
    "pairs": click.option(
        "--property", "-p", "pairs", type=Pair(), multiple=True, metavar="NAME=VALUE", help="Repeatable."
    ),
    "file": click.option(
        "--file", type=click.Path(exists=True, dir_okay=False), help="Take format, sizes and checksums from this file."
    ),
}
# Fields whose option needs no more than the table of fields says.
OPTIONS |= {field.name: plain_option(field) for field in WRITABLE_FIELDS if field.name not in (*OPTIONS, "status")}


def fields(statuses):
    """Add an option for each field of a request body."""

    def add(command):
        for option in reversed((click.option("--status", type=click.Choice(statuses)), *OPTIONS.values())):
            command = option(command)
        return command

    return add


@click.command("create")
@click.argument("name_given", metavar="[NAME]", required=False)
@fields(schemas.CREATE_STATUSES)
@click.option("--id", "image_id", metavar="UUID", help="Id of the image; default: random.")
@click.option("--new", "is_new", is_flag=True, help="Create another record of a file that is registered already.")
@output_options
@with_client
def create_image(client, name_given, image_id, is_new, file, as_json, quiet, **options):
    """Register an image named NAME; by default active, bare and private.

    With --file, format (detected from content), sizes, checksums and, in the local database, the location are taken
    from that file; the file is not moved. Files that scan refuses are refused. If the file is registered already, its
    record is updated, unless --new is given. Without --file, give --disk-format. In a pipe this prints the id.

    \b
    Example:
      $ flask --app registry create my-image --disk-format qcow2 --size 2G --public
      $ flask --app registry create --file images/debian.qcow2 --property os_distro=debian
    """
    how = how_of(as_json, quiet)
    if name_given is not None and options["name"] not in (None, name_given):
        raise click.UsageError(f"NAME ({name_given!r}) and --name ({options['name']!r}) differ; give one.")
    known = client.of_file(file) if file and client.is_local and not is_new else []
    if known:
        update_known(client, file, known[0], image_id, options | {"name": name_given or options["name"]}, how)
        return
    values = {"status": "active", "container_format": paired(options["disk_format"]), "name": name_given}
    if file:
        values |= facts_of(file, client, options["disk_format"]) | {"name": name_given or os.path.basename(file)}
    values = merged(values, given_values(options)) | ({"id": image_id} if image_id else {})
    with errors_as_options(values):
        record = client.create(values)
    warn_of_owner(record, values)
    print_change(record, "Created", how)


def update_known(client, file, image, image_id, options, how):
    """Update the record of a registered file with its facts and the given options."""
    told = f"{cleaned(file)} is registered already as image {image['id']}"
    if image_id not in (None, image["id"]):
        raise Failure(f"{told}; omit --id to update that record, or add --new to create another.")
    values = merged(facts_of(file, client, options["disk_format"], image["disk_format"]), given_values(options))
    with errors_as_options(values):
        record = client.update(image["id"], values)
    click.echo(f"{told}, which was updated; --new creates another record.", err=True)
    warn_of_owner(record, values)
    print_change(record, "Updated", how)


def paired(disk_format):
    """Return the default container format: Amazon's formats are their own container."""
    return disk_format if disk_format in PAIRED_FORMATS else "bare"


@click.command("update")
@image_argument()
@fields([status for status in schemas.UPDATE_STATUSES if status != "deleted"])  # the command delete does that
@click.option("--remove-property", "removed", multiple=True, metavar="NAME", help="Property to remove. Repeatable.")
@click.option("--unset", multiple=True, type=click.Choice(CLEARABLE), help="Clear this field. Repeatable.")
@output_options
@with_client
def update_image(client, image, file, removed, unset, as_json, quiet, **options):
    """Change the given fields of IMAGE (id, id prefix or name) and keep the rest.

    \b
    Example:
      $ flask --app registry update debian-13 --min-ram 2G --property os_version=13.1
      $ flask --app registry update debian-13 --name debian-trixie --protected
      $ flask --app registry update debian-trixie --remove-property os_version --unprotected
    """
    how = how_of(as_json, quiet)
    values = given_values(options) | dict.fromkeys(unset)
    if not (values or removed or file):
        raise click.UsageError("No change given; add an option for a field (see --help).")
    record, etag = client.show_with_etag(client.find(image)["id"])
    if file:
        values = merged(facts_of(file, client, options["disk_format"], record["disk_format"]), values)
    if missing := sorted({*removed} - {*record["properties"]}):
        raise Failure(f"The image has no property {', '.join(missing)}.")
    if removed:
        kept = {name: text for name, text in record["properties"].items() if name not in removed}
        values["properties"] = kept | values.get("properties", {})
    with errors_as_options(values):
        # If-Match prevents a lost update between reading and writing.
        options = {"purge": True, "if_match": etag} if removed else {}
        record = client.update(record["id"], values, **options)
    warn_of_owner(record, values)
    print_change(record, "Updated", how)


@contextmanager
def errors_as_options(values):
    """Translate the API's errors on fields to errors on options."""
    try:
        yield
    except BadRequest as refusal:
        words = [
            f"{OPTION_OF[field]}{'' if field in values else ' is missing'}: {' '.join(texts)}"
            for field, texts in refusal.errors.items()
            if field in OPTION_OF
        ]
        if len(words) < len(refusal.errors) or not words:
            raise
        raise Failure(cleaned(" ".join(words)), USAGE) from None


def warn_of_owner(record, values):
    """Print a warning if the API ignored --owner of a caller without admin rights."""
    if values.get("owner") and record["owner"] != values["owner"]:
        owner = f"{cleaned(record['owner'])}'s" if record["owner"] else "nobody's"
        click.echo(f"--owner was ignored because only admins may set it; the image is {owner}.", err=True)


def given_values(options):
    """Return the request fields that the command line gives."""
    values = {name: options[name] for name in FIELDS if options[name] is not None}
    return values | ({"properties": dict(options["pairs"])} if options["pairs"] else {})


def merged(facts, values):
    """Return both merged; values of the command line override the file's."""
    properties = facts.get("properties", {}) | values.get("properties", {})
    return facts | values | ({"properties": properties} if properties else {})


def facts_of(path, client, said, kept=None):
    """Return the fields of a file, with its location if the database is local.

    ``said`` is the disk format of the command line, ``kept`` the record's: one is needed if the content shows none.

    Raises: Failure.
    """
    found = read_file(path, said, kept)
    detected = found.detected
    facts = {"size": found.status.st_size, "checksum": found.digests[MD5], "virtual_size": detected.virtual_size}
    if detected.verdict == IMAGE:
        facts["disk_format"] = detected.disk_format
    facts["properties"] = {"os_hash_algo": SHA512, "os_hash_value": found.digests[SHA512]}
    if detected.encryption:
        facts["properties"][ENCRYPTION] = detected.encryption
    return facts | ({"location": file_url(os.path.realpath(path))} if client.is_local else {})


def read_file(path, said, kept):
    """Return the Inspected of a file that can be registered. Raises: Failure."""
    hasher, done = Hasher(1), 0
    with progress_bar("read", os.path.getsize(path), "bytes") as show:

        def advance(count):
            nonlocal done
            done += count
            show(done, None)

        def is_accepted(detected):
            return not describe_mismatch(detected, said, kept)

        try:
            disk_formats = current_app.settings.api.disk_formats
            found = inspect_file(path, disk_formats, hasher, advance=advance, is_hashed=is_accepted)
        finally:
            hasher.stop()
    if reason := found.reason if found.detected is None else describe_mismatch(found.detected, said, kept):
        raise Failure(f"{cleaned(path)} {reason}.")
    return found


def describe_mismatch(detected, said, kept):
    """Return why a file cannot be registered with a disk format, "" if it can.

    ``said`` is the format of the command line, ``kept`` the record's.
    """
    named = said or kept
    if detected.verdict == IMAGE and (said in (None, detected.disk_format) or not detected.is_guess):
        is_same = said in (None, detected.disk_format) or (said in UNCHECKED and detected.disk_format in ("raw", "iso"))
        return "" if is_same else f"has the format {detected.disk_format}, not {said}; omit --disk-format"
    if detected.verdict == REFUSED and not (named == "raw" and detected.disk_format == "raw"):
        return detected.reason
    if named is None:
        return f"{detected.reason}; give --disk-format"
    if has_signature(named):
        return f"does not begin like {named}: it {detected.reason or 'has no known image format'}"
    return ""
