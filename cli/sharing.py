"""``share`` and ``unshare``: who else sees a private image."""

import click

from cli import screens
from cli.client import image_argument, with_client
from cli.words import cleaned


@click.command("share")
@image_argument()
@click.argument("tenant")
@click.option("--can-share/--no-can-share", default=None, help="Whether TENANT may share it on.")
@with_client
def share_image(client, image, tenant, can_share):
    """Let TENANT see IMAGE: an id, its beginning, or a name.

    \b
    Example:
      $ flask --app registry share debian-13 acme
      $ flask --app registry share debian-13 acme --can-share
    """
    record = client.find(image)
    client.put_member(record["id"], tenant, can_share)
    screens.echo(f"{named(record)} is shared with {cleaned(tenant)}.", err=True)


@click.command("unshare")
@image_argument()
@click.argument("tenant")
@with_client
def unshare_image(client, image, tenant):
    """Let TENANT no longer see IMAGE, unless it is public.

    \b
    Example:
      $ flask --app registry unshare golden-base acme
    """
    record = client.find(image)
    client.remove_member(record["id"], tenant)
    screens.echo(f"{named(record)} is no longer shared with {cleaned(tenant)}.", err=True)


def named(record):
    return cleaned(record["name"] or record["id"])
