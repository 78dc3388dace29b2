"""``list``: visible images, filtered and sorted."""

import click

import schemas
from cli.client import with_client
from cli.completion import formats
from cli.image_tables import LONG, how_of, output_options, show_list
from cli.param_types import Pair, Since, Size, plain_option
from listing import parameters
from storage import verifications
from storage.fields import FILTER_FIELDS

FILTERS = {
    "search": click.option("--search", metavar="WORDS", help="Words in names and properties, or an id prefix."),
    "name": click.option("--name", help="Exact name."),
    "status": click.option("--status", type=click.Choice(schemas.UPDATE_STATUSES)),
    "disk_format": click.option("--disk-format", metavar="FORMAT", shell_complete=formats, help="Such as qcow2."),
    "container_format": click.option(
        "--container-format", metavar="FORMAT", shell_complete=formats, help="Such as bare."
    ),
    "owner": click.option("--owner", metavar="TENANT"),
    "visibility": click.option("--visibility", type=click.Choice(["public", "private"]), help="Default: both."),
    "public": click.option("--public", is_flag=True, help="Short for --visibility public."),
    "private": click.option("--private", is_flag=True, help="Short for --visibility private."),
    "size_min": click.option("--size-min", type=Size(), help="Such as 500M, 2G."),
    "size_max": click.option("--size-max", type=Size(), help="Such as 500M, 2G."),
    "pairs": click.option(
        "--property", "-p", "pairs", type=Pair(), multiple=True, metavar="NAME=VALUE", help="Repeatable."
    ),
    "checksum": click.option("--checksum", metavar="MD5"),
    "min_disk": click.option("--min-disk", type=Size(1024**3), help="Exact value, in GB (1024³)."),
    "min_ram": click.option("--min-ram", type=Size(1024**2), help="Exact value, in MB (1024²)."),
    "protected": click.option("--protected/--unprotected", default=None),
    "changes_since": click.option(
        "--changes-since", type=Since(), help="Changed since 2026-11-24, 2026-11-24T10:00Z, or 2d, 12h ago."
    ),
    "deleted": click.option("--deleted", is_flag=True, default=None, help="Only deleted images (admins only)."),
}
# Fields whose option needs no more than the table of fields says.
FILTERS |= {field.name: plain_option(field) for field in FILTER_FIELDS if field.name not in FILTERS}


def filters(command):
    """Add the options of the API's filters, with their names there."""
    for option in reversed(FILTERS.values()):
        command = option(command)
    return command


@click.command("list")
@filters
@click.option("--sort-key", type=click.Choice(parameters.SORT_KEYS), help="Default: created_at.")
@click.option("--sort-dir", type=click.Choice(["asc", "desc"]), help="Default: desc, newest first.")
@click.option("--limit", "-n", type=click.IntRange(0), help="Maximum number of images; default: all.")
@click.option("--long", "-l", "is_long", is_flag=True, help="Add the file and the result of its last verification.")
@click.option("--csv", "as_csv", is_flag=True, help="Print all fields as CSV.")
@output_options
@with_client
def list_images(client, as_json, as_csv, quiet, is_long, visibility, public, private, pairs, **query):
    """List the images that you may see, newest first.

    On a terminal this prints a table. In a pipe it prints tab-separated values without a header: id, name, status,
    disk format, container format, size in bytes, visibility, owner, created_at; with --long also location, and the last
    verification's state, time and reason, which the local database keeps. Killed images are listed only with
    --status killed.

    \b
    Example:
      $ flask --app registry list
      $ flask --app registry list --disk-format qcow2 --size-max 1G --sort-key size
      $ flask --app registry list --property os_distro=ubuntu --json
      $ flask --app registry list --changes-since 7d --quiet
      $ flask --app registry list --long
    """
    how = how_of(as_json, quiet, as_csv)
    if is_long and how:
        raise click.UsageError(f"--long and --{how} exclude each other; give one.")
    is_public = is_public_of(visibility, public, private)
    images = client.images(is_public=is_public, properties=properties_of(pairs), **query)
    if not is_long:
        show_list(images, how)
        return
    images = list(images)
    show_list(images, LONG, verifications.read(image["id"] for image in images) if client.is_local else {})


def is_public_of(visibility, public, private):
    """Return the parameter is_public, or None to list both.

    Raises: UsageError for options that contradict each other.
    """
    chosen = {visibility} if visibility else set()
    chosen |= {name for name, is_chosen in (("public", public), ("private", private)) if is_chosen}
    if len(chosen) > 1:
        raise click.UsageError(
            "--visibility, --public and --private contradict each other; give one, or none to list both."
        )
    return chosen == {"public"} if chosen else None


def properties_of(pairs):
    """Return {name: value}, or raise UsageError for one name with two values."""
    properties = dict(pairs)
    if len(properties) < len(set(pairs)):
        raise click.UsageError("--property gives one property two different values; give one value.")
    return properties
