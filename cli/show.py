"""``show`` and ``history``: details and change log of one image."""

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
@click.option("--secrets", is_flag=True, help="Show passwords and keys in locations.")
@output_options
@with_client
def show_one(client, image, secrets, as_json, quiet):
    """Show all fields of IMAGE: an id, a unique id prefix, or a name.

    Passwords and keys in locations are redacted (•••) unless --secrets is given; --json prints the full API record.

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
@click.option("--json", "as_json", is_flag=True, help="Print the API's JSON.")
@with_client
def show_history(client, image, as_json):
    """Show the change log of IMAGE, newest first; for its owner and admins.

    [api] image_history_limit sets how many changes are kept. In a pipe this prints tab-separated values: time, action,
    tenant, whether by an admin, changes.

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
        output.echo("No changes are recorded.", err=True)


def plain(entry):
    by = entry["by"]
    return entry["at"], entry["action"], by["tenant"] or "", text_of(by["is_admin"]), "; ".join(changes_of(entry))


def row_of(entry):
    by = entry["by"]
    who = by["tenant"] or ("an admin" if by["is_admin"] else "")
    texts = (formatting.format_age(entry["at"]), entry["action"], who, "; ".join(changes_of(entry)))
    return dict(zip(TITLES, texts, strict=True))


def changes_of(entry):
    """Yield ``name: from → to`` for each change, with an empty text for no value."""
    for change in entry["changes"]:
        if change["field"] == "member":
            yield f"member {change['name']}: {'no longer shared' if change.get('to') is None else SHARED[change['to']]}"
            continue
        name = f"{change['field']} {change['name']}" if "name" in change else change["field"]
        told = [text_of(change.get(side)) for side in ("from", "to")]
        yield f"{name}: {' → '.join(told)}" if change.keys() & {"from", "to"} else name
