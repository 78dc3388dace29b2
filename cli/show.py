"""``show`` and ``history``: one image, whole, and what was changed of it."""

import click

import formatting
from cli import output
from cli.client import with_client
from cli.completion import image_argument
from cli.image_tables import how_of, output_options, show_image, text_of
from cli.param_types import cleaned

SHARED = {False: "shared", True: "shared, and may share it on"}
TITLES = ("WHEN", "WHAT", "WHO", "CHANGES")


@click.command("show")
@image_argument()
@click.option("--secrets", is_flag=True, help="Locations with their passwords and keys.")
@output_options
@with_client
def show_one(client, image, secrets, as_json, quiet):
    """Show all that is known of IMAGE: its id, its name, or the beginning of its id that no other has.

    What opens a location, such as a password, is shown as ••• without --secrets; --json is the API's record, as it is.

    \b
    Example:
      $ flask --app registry show debian-13
      $ flask --app registry show debian-13 --json
    """
    how = how_of(as_json, quiet)
    record = client.find(image)
    members = client.members(record["id"]) if how is None else []
    show_image(record, members, how, is_secret_shown=secrets)


@click.command("history")
@image_argument()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API has it.")
@with_client
def show_history(client, image, as_json):
    """Say what was changed of IMAGE, when and by whom, the newest first.

    It is for the image's owner and admins; as much is kept as [api] image_history_limit says. Off a terminal this is a
    line of tab-separated values for each change: its time, what was done, the tenant, whether by an admin, the changes.

    \b
    Example:
      $ flask --app registry history debian-13
    """
    entries = client.history(client.find(image)["id"])
    if as_json:
        output.echo_json_array(entries)
    elif not output.is_terminal():
        output.echo_lines("\t".join(map(cleaned, plain(entry))) for entry in entries)
    elif entries:
        output.echo_lines(output.Table(TITLES, flexible="CHANGES").lines(map(row_of, entries)))
    else:
        output.echo("Nothing is kept.", err=True)


def plain(entry):
    by = entry["by"]
    return entry["at"], entry["action"], by["tenant"] or "", text_of(by["is_admin"]), "; ".join(changes_of(entry))


def row_of(entry):
    by = entry["by"]
    who = by["tenant"] or ("an admin" if by["is_admin"] else "")
    texts = (formatting.format_age(entry["at"]), entry["action"], who, "; ".join(changes_of(entry)))
    return dict(zip(TITLES, texts, strict=True))


def changes_of(entry):
    """name: from → to, of each change; nothing stands for what was not there."""
    for change in entry["changes"]:
        if change["field"] == "member":
            yield f"member {change['name']}: {'no longer shared' if change.get('to') is None else SHARED[change['to']]}"
            continue
        name = f"{change['field']} {change['name']}" if "name" in change else change["field"]
        told = [text_of(change.get(side)) for side in ("from", "to")]
        yield f"{name}: {' → '.join(told)}" if change.keys() & {"from", "to"} else name
