"""``show``: one image, whole."""

import click

from cli.client import image_argument, with_client
from cli.images import how_of, output_options, show_image


@click.command("show")
@image_argument()
@click.option("--secrets", is_flag=True, help="Locations with their passwords and keys.")
@output_options
@with_client
def show_one(client, image, secrets, as_json, quiet):
    """Show all that is known of IMAGE: its id, its name, or the beginning of its id that no other has.

    Passwords within locations are hidden (user:***@) without --secrets; --json is the API's record, as it is.

    \b
    Example:
      $ flask --app registry show debian-13
      $ flask --app registry show debian-13 --json
    """
    how = how_of(as_json, quiet)
    record = client.find(image)
    members = client.members(record["id"]) if how is None else []
    show_image(record, members, how, is_secret_shown=secrets)
