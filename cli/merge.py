"""``merge``: make one record of several that describe the same file."""

import click

from cli import output
from cli.client import with_client
from cli.param_types import cleaned
from cli.runtime import Failure
from formatting import format_count

# Properties that belong to the file and to the scan or sync that read it: the kept record has its own.
OF_FILE = ("os_hash_", "scan_", "stream")


@click.command("merge")
@click.argument("kept", metavar="IMAGE")
@click.argument("others", metavar="OTHER...", nargs=-1, required=True)
@click.option("--dry-run", is_flag=True, help="Print what would be done, without doing it.")
@with_client
def merge_images(client, kept, others, dry_run):
    """Merge the records OTHER into IMAGE, and delete OTHER.

    They must have a location or checksum in common. IMAGE gets the members of the others, their name if it has none,
    and the properties that it lacks. Where both have a property, IMAGE's value stays, and the other is printed. Then
    the others are deleted; undelete restores them.

    \b
    Example:
      $ flask --app registry merge golden-base golden-copy
    """
    image = client.find(kept)
    found = {each["id"]: each for each in map(client.find, others)}
    if image["id"] in found:
        raise click.UsageError(f"OTHER must be other images than {image['id']}.")
    for other in found.values():
        require_mergeable(image, other)
    values, losses = combine(image, found.values())
    for text in losses:
        output.echo(cleaned(text), err=True)
    if not dry_run:
        write_merged(client, image, found.values(), values)
    verb = "would be merged" if dry_run else "merged"
    output.echo(f"{format_count(len(found), 'image')} {verb} into {image['id']}.")


def require_mergeable(image, other):
    """Raise Failure unless the records can be of one file, and OTHER can be deleted."""
    places = [{entry["url"] for entry in each["location_data"]} for each in (image, other)]
    is_same = places[0] & places[1] or (image["checksum"] and image["checksum"] == other["checksum"])
    if not is_same:
        raise Failure(
            f"Image {other['id']} has neither a location nor a checksum in common with {image['id']};"
            " nothing was merged."
        )
    if other["protected"]:
        raise Failure(f"Image {other['id']} is protected; unprotect it first. Nothing was merged.")


def combine(image, others):
    """Return (values for the kept record, texts on what is lost)."""
    properties, name, losses = dict(image["properties"]), image["name"], []
    for other in others:
        name = name or other["name"]
        for key, text in other["properties"].items():
            if key.startswith(OF_FILE):
                continue
            if properties.setdefault(key, text) != text:
                losses.append(f"{other['id']}: property {key}={text} is not kept; the value is {properties[key]}")
    return {"name": name, "properties": properties}, losses


def write_merged(client, image, others, values):
    """Write the kept record with the members of the others, and delete these."""
    client.update(image["id"], values)
    members = {entry["member_id"]: entry["can_share"] for entry in client.members(image["id"])}
    for other in others:
        for entry in client.members(other["id"]):
            can_share = entry["can_share"] or members.get(entry["member_id"], False)
            if members.get(entry["member_id"]) != can_share:
                client.put_member(image["id"], entry["member_id"], can_share)
                members[entry["member_id"]] = can_share
        client.delete(other["id"])
