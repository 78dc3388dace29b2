"""``delete`` and ``undelete``: soft deletion of images."""

import sys

import click

from cli.client import with_client
from cli.completion import image_argument
from cli.image_tables import how_of, output_options, print_change
from cli.param_types import cleaned
from cli.runtime import NO_ACCESS, Failure, program


@click.command("delete")
@image_argument(nargs=-1)
@click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")
@output_options
@with_client
def delete_images(client, image, yes, as_json, quiet):
    """Mark images as deleted.

    Files are kept, and an admin can undelete the images until the purge.

    On a terminal this asks for confirmation; in a script it needs --yes. If one IMAGE is not found, none is deleted.

    \b
    Example:
      $ flask --app registry delete cirros-0.6.3 --yes
    """
    how = how_of(as_json, quiet)
    records = found(client, image)
    for record in records:
        if record["protected"]:
            hint = f"{program()} update {record['id']} --unprotected"
            raise Failure(
                f"{cleaned(record['name'] or record['id'])} is protected. Remove the protection first: {hint}",
                NO_ACCESS,
            )
    if not yes:
        require_consent(records)
    for record in records:
        print_change(client.delete(record["id"]), "Deleted", how)


@click.command("undelete")
@image_argument(nargs=-1)
@output_options
@with_client
def undelete_images(client, image, as_json, quiet):
    """Restore deleted images (admins only). IMAGE is an id, an id prefix or a name.

    \b
    Example:
      $ flask --app registry undelete centos-7
    """
    how = how_of(as_json, quiet)
    for record in found(client, image, deleted=True):
        print_change(client.undelete(record["id"]), "Undeleted", how)


def found(client, texts, deleted=False):
    """Return the records of the named images, each once."""
    return list({record["id"]: record for record in (client.find(text, deleted=deleted) for text in texts)}.values())


def require_consent(records):
    if not sys.stdin.isatty():
        raise Failure("Confirmation needs a terminal; add --yes to delete without it.")
    for record in records:
        click.echo(f"  {record['id']}  {cleaned(record['name'] or '')}", err=True)
    click.confirm(f"Delete {'it' if len(records) == 1 else f'these {len(records)}'}?", abort=True, err=True)
