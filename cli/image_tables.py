"""Formats of images in commands: tables, details, tab-separated values, CSV, JSON."""

import csv
import io
import sys

import click

import formatting
from cli import output
from cli.param_types import cleaned
from formatting import redact_url
from storage.fields import COLUMN_FIELDS, names_of
from storage.verifications import FAILURES

TITLES = ("ID", "NAME", "STATUS", "FORMAT", "SIZE", "VISIBILITY", "OWNER", "CREATED")
DROPPED = ("OWNER", "CREATED", "FORMAT", "VISIBILITY", "SIZE", "STATUS")
# Columns in a pipe; their order is stable for scripts.
PLAIN = ("id", "name", "status", "disk_format", "container_format", "size", "visibility", "owner", "created_at")
FIELDS = (*names_of(COLUMN_FIELDS), "location")
# The format of ``list --long``, with more columns: the file, and the result of its last verification.
LONG = "long"
LONG_TITLES = ("VERIFIED", "FILE")
SHORT_ID = 8
BYTES = ("size", "virtual_size")
TIMES = ("created_at", "updated_at", "deleted_at")
SHOWN_AS = {"min_disk": "{} GB", "min_ram": "{} MB"}


def output_options(command):
    """Add the options --json and --quiet."""
    command = click.option("--quiet", "-q", is_flag=True, help="Print only ids.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print the API's JSON, with unredacted locations.")(
        command
    )


def visibility_of(image):
    return "public" if image["is_public"] else "private"


def short_ids(images):
    """Return {id: unique prefix}, all of one length."""
    ids = [image["id"] for image in images]
    length = SHORT_ID
    while length < 36 and len({image_id[:length] for image_id in ids}) < len(ids):
        length += 1 if length != 8 else 2
    return {image_id: image_id[:length] for image_id in ids}


def show_list(images, how, verified=None):
    """Print images as ``how``: json, csv, quiet, or None or LONG for a table or tabs.

    ``verified`` is {image id: storage.verifications.Verified}, for LONG.
    """
    if how == "json":
        output.echo_json_array(images)
    elif how == "csv":
        output.echo_lines(csv_lines(images))
    elif how == "quiet":
        output.echo_lines(image["id"] for image in images)
    elif output.is_terminal():
        show_table(list(images), verified)
    else:
        output.echo_lines("\t".join(line_values(image, verified)) for image in images)


def line_values(image, verified):
    """Return the texts of an image's line in a pipe."""
    if verified is None:
        return plain_values(image, PLAIN)
    found = verified.get(image["id"])
    result = (found.state, found.checked_at, found.reason) if found else ("", "", "")
    return [*plain_values(image, (*PLAIN, "location")), *map(cleaned, result)]


def show_table(images, verified=None):
    if not images:
        output.echo("No images.", err=True)
        return
    short = short_ids(images)
    rows = [table_row(image, short[image["id"]]) for image in images]
    if verified is not None:
        rows = [row | long_cells(image, verified) for row, image in zip(rows, images, strict=True)]
    statuses = {short[image["id"]]: image for image in images}
    titles = TITLES if verified is None else (*TITLES, *LONG_TITLES)
    table = output.Table(
        titles, flexible="NAME", dropped=DROPPED, right=("SIZE",), style=lambda *cell: cell_styled(statuses, *cell)
    )
    output.echo_lines(table.lines(rows))


def table_row(image, short_id):
    return {
        "ID": short_id,
        "NAME": image["name"] or "",
        "STATUS": "deleted" if image["deleted"] else image["status"],
        "FORMAT": formats_of(image),
        "SIZE": formatting.format_size(image["size"]),
        "VISIBILITY": visibility_of(image),
        "OWNER": image["owner"] or "",
        "CREATED": formatting.format_age(image["created_at"]),
    }


def long_cells(image, verified):
    """Return the cells of an image that only ``list --long`` has."""
    found = verified.get(image["id"])
    result = f"{found.state} {formatting.format_age(found.checked_at)}" if found else "never"
    return {"VERIFIED": result, "FILE": redact_url(image["location"]) or ""}


def cell_styled(images, title, text, row):
    image = images[row["ID"]]
    if title == "VERIFIED":
        is_bad = text.split(" ")[0] in FAILURES
        return output.styled(text, fg="red") if is_bad else text
    if title == "STATUS" or image["deleted"]:
        return output.status_styled(text, image["status"], image["deleted"])
    return output.styled(text, dim=True) if title == "ID" else text


def formats_of(image):
    """Return disk and container format, without a container format that adds nothing."""
    disk, container = image["disk_format"] or "", image["container_format"] or "bare"
    return disk if container in ("bare", disk) else f"{disk}/{container}"


def plain_values(image, names):
    """Return texts for scripts.

    Exact values, empty for null, tabs and line ends escaped.
    """
    values = {**image, "visibility": visibility_of(image), "location": redact_url(image["location"])}
    return [text_of(values[name]) for name in names]


def text_of(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else cleaned(str(value))


def csv_lines(images):
    """Yield CSV lines with a header; on a terminal, control characters are escaped."""
    is_read_by_people = sys.stdout.isatty()
    yield ",".join((*FIELDS, "properties"))
    for image in images:
        values = {**image, "visibility": visibility_of(image), "location": redact_url(image["location"])}
        row = [csv_text(values[name]) for name in FIELDS]
        row.append(output.json_text(image["properties"], is_indented=False))
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(map(cleaned, row) if is_read_by_people else row)
        yield line.getvalue()


def csv_text(value):
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def show_image(image, members, how, is_secret_shown=False):
    """Print all fields of one image; ``members`` are the API's entries."""
    if how == "json":
        output.echo(output.json_text(image))
    elif how == "quiet":
        output.echo(image["id"])
    elif output.is_terminal():
        output.echo_lines(described(image, members, is_secret_shown))
    else:
        output.echo_lines(plain_lines(image, members, is_secret_shown))


def locations_of(image, is_secret_shown):
    urls = [entry["url"] for entry in image["location_data"]]
    return urls if is_secret_shown else [redact_url(url) for url in urls]


def described(image, members, is_secret_shown):
    """Yield lines for people: no empty fields, rounded values beside exact ones."""
    values = {name: value for name, value in {**image, "visibility": visibility_of(image)}.items() if name in FIELDS}
    pairs = [(name, described_value(name, values[name])) for name in FIELDS if values.get(name) not in (None, False, 0)]
    pairs = [(name, text) for name, text in pairs if name != "location"]
    pairs += [("location", cleaned(url)) for url in locations_of(image, is_secret_shown)]
    pairs += [("shared with", cleaned(entry["member_id"]) + " (can share)" * entry["can_share"]) for entry in members]
    properties = [(cleaned(name), cleaned(text or "")) for name, text in image["properties"].items()]
    columns = max(output.cells(name) for name, _ in (*pairs, *[(f"  {name}", "") for name, _ in properties]))
    for name, text in pairs:
        shown = output.status_styled(text, text, image["deleted"]) if name == "status" else text
        yield f"{output.styled(output.padded(name.replace('_', ' '), columns), bold=True)}  {shown}"
    if properties:
        yield output.styled("properties", bold=True)
    for name, text in properties:
        yield f"  {output.padded(name, columns - 2)}  {text}"


def described_value(name, value):
    if name in BYTES:
        return f"{formatting.format_size(value)} ({value:,} bytes)"
    if name in TIMES:
        return f"{value[:19].replace('T', ' ')} UTC ({formatting.format_age(value)})"
    return "yes" if value is True else cleaned(SHOWN_AS.get(name, "{}").format(value))


def plain_lines(image, members, is_secret_shown):
    """Yield lines for scripts: name, tab, value."""
    for name, text in zip(FIELDS[:-1], plain_values(image, FIELDS[:-1]), strict=True):
        yield f"{name}\t{text}"
    yield from (f"location\t{cleaned(url)}" for url in locations_of(image, is_secret_shown))
    yield from (f"property\t{cleaned(name)}={cleaned(text or '')}" for name, text in image["properties"].items())
    yield from (f"member\t{cleaned(entry['member_id'])}\t{text_of(entry['can_share'])}" for entry in members)


def print_change(image, verb, how):
    """Print the result of a change: a sentence on a terminal, the id in a pipe."""
    if how == "json":
        output.echo(output.json_text(image))
    elif how == "quiet" or not output.is_terminal():
        output.echo(image["id"])
    else:
        name = f" {cleaned(image['name'])}" if image["name"] else ""
        output.echo(f"{verb}{output.styled(name, bold=True)}  {image['id']}")


def how_of(as_json=False, quiet=False, as_csv=False):
    """Return the chosen output format, or raise UsageError for more than one."""
    chosen = [name for name, is_asked in (("json", as_json), ("csv", as_csv), ("quiet", quiet)) if is_asked]
    if len(chosen) > 1:
        raise click.UsageError(f"The options {', '.join(f'--{name}' for name in chosen)} exclude each other; give one.")
    return chosen[0] if chosen else None
