"""``create`` and ``update``: an image's record, field by field."""

import hashlib
import os

import click

import schemas
from cli.client import Failure, image_argument, with_client
from cli.images import how_of, output_options, told
from cli.progress import progress_bar
from cli.words import Pair, Size

FIELDS = (
    *("name", "status", "disk_format", "container_format", "size", "virtual_size", "checksum", "min_disk", "min_ram"),
    *("owner", "is_public", "protected", "location"),
)
EMPTIED = ("name", "size", "virtual_size", "checksum", "owner", "location")
CHUNK_BYTES = 1024 * 1024
OPTIONS = (
    click.option("--name", help="What people call it."),
    click.option("--disk-format", metavar="FORMAT", help="Such as qcow2, raw, iso."),
    click.option("--container-format", metavar="FORMAT", help="Such as bare, ovf."),
    click.option("--size", type=Size(), help="In bytes, or 2G, 700MB."),
    click.option("--virtual-size", type=Size(), help="The disk's that a machine sees."),
    click.option("--checksum", metavar="MD5"),
    click.option("--min-disk", type=Size(1024**3), help="What a machine needs, in GB, or 20G."),
    click.option("--min-ram", type=Size(1024**2), help="What a machine needs, in MB, or 2G."),
    click.option("--owner", metavar="TENANT", help="Admins give it; others own what they create."),
    click.option("--public/--private", "is_public", default=None, help="Who sees it: all, or owner and members."),
    click.option("--protected/--unprotected", default=None, help="Whether it cannot be deleted."),
    click.option("--location", metavar="URL", help="Where its file is: file:///srv/debian.qcow2, https://…"),
    click.option("--property", "-p", "pairs", type=Pair(), multiple=True, metavar="NAME=VALUE", help="Repeatable."),
    click.option("--file", type=click.Path(exists=True, dir_okay=False), help="Read size and checksum from it."),
)


def fields(statuses):
    """An option for each field that a body may have."""

    def add(command):
        for option in reversed((click.option("--status", type=click.Choice(statuses)), *OPTIONS)):
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

    With --file the size, the checksum, and, in the local database, the location are that file's; the file stays
    where it is. Off a terminal this prints the id.

    \b
    Example:
      $ flask --app registry create my-image --disk-format qcow2 --size 2G --public
      $ flask --app registry create --file images/debian.qcow2 --disk-format qcow2 --property os_distro=debian
    """
    how = how_of(as_json, quiet)
    if name_given is not None and options["name"] not in (None, name_given):
        raise click.UsageError("NAME and --name differ.")
    values = {"status": "active", "container_format": paired(options["disk_format"]), "name": name_given}
    values |= (facts_of(file, client) | {"name": name_given or os.path.basename(file)}) if file else {}
    values |= given_values(options) | ({"id": image_id} if image_id else {})
    told(client.create(values), "Created", how)


def paired(disk_format):
    """The container of a disk format: Amazon's are their own."""
    return disk_format if disk_format in ("ami", "ari", "aki") else "bare"


@click.command("update")
@image_argument()
@fields(schemas.UPDATE_STATUSES)
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
    values = (facts_of(file, client) if file else {}) | given_values(options) | dict.fromkeys(unset)
    if not (values or removed):
        raise click.UsageError("Nothing to change: name a field, as --help lists them.")
    record, tag = client.show_with_tag(client.find(image)["id"])
    if not removed:
        told(client.update(record["id"], values), "Updated", how)
        return
    if missing := sorted({*removed} - {*record["properties"]}):
        raise Failure(f"The image has no property {', '.join(missing)}.")
    kept = {name: text for name, text in record["properties"].items() if name not in removed}
    values["properties"] = kept | values.get("properties", {})
    # What is read and written back must not undo what somebody else changes in between.
    told(client.update(record["id"], values, purge=True, if_match=tag), "Updated", how)


def given_values(options):
    """The body's fields that were named on the command line."""
    values = {name: options[name] for name in FIELDS if options[name] is not None}
    return values | ({"properties": dict(options["pairs"])} if options["pairs"] else {})


def facts_of(path, client):
    """Size, checksum, and the location where the registry is this machine's. Raises Failure."""
    try:
        with open(path, "rb") as file:
            size, checksum = hashed(file)
    except OSError as error:
        raise Failure(f"{path}: {error.strerror}.") from None
    facts = {"size": size, "checksum": checksum}
    return facts | ({"location": f"file://{os.path.realpath(path)}"} if client.is_local else {})


def hashed(file):
    digest = hashlib.md5(usedforsecurity=False)  # the API's checksum
    done = 0
    with progress_bar("read", os.fstat(file.fileno()).st_size, "bytes") as show:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            done += len(chunk)
            show(done, None)
    return done, digest.hexdigest()
