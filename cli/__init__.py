"""Commands of ``registry`` (``flask --app registry``), each in a module named after it.

A module is imported when its command is used: importing them all takes half a second.
"""

from importlib import import_module

import click

# Name → module, function, summary; tests compare the summaries with the functions.
COMMANDS = {
    "list": ("list_images", "list_images", "List the images that you may see, newest first."),
    "show": ("show", "show_one", "Show all fields of IMAGE: an id, a unique id prefix, or a name."),
    "history": ("show", "show_history", "Show the change log of IMAGE, newest first; for its owner and admins."),
    "create": ("create", "create_image", "Register an image named NAME; by default active, bare and private."),
    "update": ("create", "update_image", "Change the given fields of IMAGE (id, id prefix or name) and keep the rest."),
    "delete": ("delete", "delete_images", "Mark images as deleted."),
    "undelete": (
        "delete",
        "undelete_images",
        "Restore deleted images (admins only). IMAGE is an id, an id prefix or a name.",
    ),
    "merge": ("merge", "merge_images", "Merge the records OTHER into IMAGE, and delete OTHER."),
    "share": ("share", "share_image", "Make IMAGE (an id, an id prefix or a name) visible to TENANT."),
    "unshare": ("share", "unshare_image", "Remove TENANT from the members of IMAGE; a public image stays visible."),
    "demo": ("demo", "show_demo", "Serve a registry with thirty sample images, and open its page."),
    "doctor": ("doctor", "examine", "Diagnose this registry: versions, options, database, speed, and remedies."),
    "import": (
        "import_images",
        "import_images",
        "Read images from FILE, as export writes them: JSON, one record a line.",
    ),
    "export": ("export_images", "export_images", "Write all images to FILE as JSON, one record a line, oldest first."),
    "check": ("check", "check_database", "Report faults of the database: structure, rules, documents and checksums."),
    "backup": ("backup", "back_up_database", "Copy the database to the file TO, and check the copy."),
    "restore": ("restore", "restore_database", "Check and migrate the backup FROM, and replace the database by it."),
    "purge": ("purge", "purge_images", "Remove images that were deleted long ago, with all that belongs to them."),
    "token": ("token", "manage_tokens", "Manage access tokens, used if [auth] flavor is token."),
    "scan": ("scan", "scan_images", "Find images in folders, and register them."),
    "verify": ("verify", "verify_images", "Compare the files of images with their records."),
    "sync": ("sync", "sync", "Register images that others publish."),
}


def load_command(name):
    """Return a command of COMMANDS."""
    module, function, _ = COMMANDS[name]
    return getattr(import_module(f"cli.{module}"), function)


class CommandGroup(click.Group):
    """Group of the commands in COMMANDS, and of others that are added."""

    def list_commands(self, ctx):
        """Return the names of the commands, without importing them."""
        return sorted({*COMMANDS, *self.commands})

    def get_command(self, ctx, name):
        """Return a command by its name, or None."""
        return load_command(name) if name in COMMANDS else self.commands.get(name)

    def format_commands(self, ctx, formatter):
        """Write the list of commands for the help, without importing them."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        known = {name: click.Command(name, help=summary) for name, (_, _, summary) in COMMANDS.items()}
        rows = [(name, (self.commands | known)[name].get_short_help_str(room)) for name in names]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
