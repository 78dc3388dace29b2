"""``token``: access tokens for [auth] flavor token."""

import click
from flask import current_app

import auth
from auth import LONGEST_TENANT
from cli.param_types import Duration
from cli.runtime import prepare, require_database, with_application

COLUMNS = ("id", "state", "tenant", "roles", "access", "created_at", "expires_at", "used_at", "description")
MAX_DESCRIPTION_LENGTH = 255


class Text(click.ParamType):
    """Printable text, stripped; ``without`` holds the forbidden characters."""

    name = "text"

    def __init__(self, longest, without=""):
        self.longest = longest
        self.without = without

    def convert(self, value, param, ctx):
        text = value.strip()
        if not text.isprintable() or len(text) > self.longest or not set(text).isdisjoint(self.without):
            beside = f", without {self.without}" if self.without else ""
            self.fail(f"Must be printable text of up to {self.longest} characters{beside}.", param, ctx)
        return text


@click.group("token")
def manage_tokens():
    """Manage access tokens, used if [auth] flavor is token.

    \b
    Example:
      $ flask --app registry token create --role admin
    """


@manage_tokens.command("create")
@click.option(
    "--tenant", default="", type=Text(LONGEST_TENANT), help="Owner of the images it registers; default: none."
)
@click.option("--role", "roles", multiple=True, required=True, type=Text(255, ","), help="Role. Repeatable.")
@click.option("--expires", type=Duration(), metavar="TIME", help="Lifetime, such as 90d, 12h; default: unlimited.")
@click.option("--description", default="", type=Text(MAX_DESCRIPTION_LENGTH), help="Purpose.")
@click.option("--read-only", is_flag=True, help="Allow reading only.")
@with_application
def create_token(tenant, roles, expires, description, read_only):
    """Create a token and print it once: only its hash is stored.

    \b
    Example:
      $ flask --app registry token create --tenant acme --role member --expires 90d
    """
    if expires is not None and not expires:
        raise click.ClickException("--expires: Must be later than now.")
    prepare(current_app.settings.database, may_create=True)
    options = {"is_read_only": read_only, "description": description, "lasts": expires}
    number, text = auth.create_token(tenant, roles, **options)
    click.echo(text)
    click.echo(f"Created token {number}. Store it now: it is not shown again.", err=True)
    if current_app.settings.auth.flavor != "token":
        flavor = current_app.settings.auth.flavor
        click.echo(f"Tokens have no effect while [auth] flavor is {flavor}; set it to token.", err=True)


@manage_tokens.command("list")
@with_application
def list_tokens():
    """List all tokens; used_at is accurate to the hour.

    \b
    Example:
      $ flask --app registry token list
    """
    prepare(current_app.settings.database)
    rows = auth.list_tokens()
    access = {0: "read-write", 1: "read-only"}
    shown = [{**row, "state": auth.token_state(row), "access": access[row["is_read_only"]]} for row in rows]
    lines = [COLUMNS, *([str("-" if row[name] in (None, "") else row[name]) for name in COLUMNS] for row in shown)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        click.echo("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


@manage_tokens.command("revoke")
@click.argument("number", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@with_application
def revoke_token(number):
    """Revoke a token, from the next request on.

    \b
    Example:
      $ flask --app registry token revoke 1
    """
    require_database(current_app.settings.database)
    auth.revoke_token(number)  # no integrity check: a leaked token must be revocable in a damaged database
    click.echo(f"Token {number} is revoked.", err=True)
