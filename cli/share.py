"""``share`` and ``unshare``: members of a private image."""

import click

from cli import output
from cli.client import with_client
from cli.completion import image_argument
from cli.param_types import cleaned
from cli.runtime import NOT_FOUND, Failure


class Tenant(click.ParamType):
    """Tenant name that fits into the path of a URL."""

    name = "tenant"

    def convert(self, value, param, ctx):
        if value in ("", ".", "..") or value.endswith("/"):
            self.fail(
                f'{value!r} is not a valid tenant: it must not be empty, "." or "..", nor end in "/".', param, ctx
            )
        return value


@click.command("share")
@image_argument()
@click.argument("tenant", type=Tenant())
@click.option("--can-share/--no-can-share", default=None, help="Allow TENANT to share it with others.")
@with_client
def share_image(client, image, tenant, can_share):
    """Make IMAGE (an id, an id prefix or a name) visible to TENANT.

    \b
    Example:
      $ flask --app registry share debian-13 acme
      $ flask --app registry share debian-13 acme --can-share
    """
    record = client.find(image)
    client.put_member(record["id"], tenant, can_share)
    tell(record, f"is shared with {cleaned(tenant)}.")


@click.command("unshare")
@image_argument()
@click.argument("tenant", type=Tenant())
@with_client
def unshare_image(client, image, tenant):
    """Remove TENANT from the members of IMAGE; a public image stays visible.

    \b
    Example:
      $ flask --app registry unshare golden-base acme
    """
    record = client.find(image)
    try:
        client.remove_member(record["id"], tenant)
    except Failure as failure:
        if failure.exit_code != NOT_FOUND:
            raise
        raise Failure(f"{named(record)} is not shared with {cleaned(tenant)}.", NOT_FOUND) from None
    tell(record, f"is no longer shared with {cleaned(tenant)}.")


def tell(record, what):
    """Print a sentence on standard error, and the id in a pipe."""
    output.echo(f"{named(record)} {what}", err=True)
    if not output.is_terminal():
        output.echo(record["id"])


def named(record):
    return cleaned(record["name"] or record["id"])
