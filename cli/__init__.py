"""The commands of ``flask --app registry``, a module per noun."""

from cli.backing_up import back_up_database
from cli.checking import check_database
from cli.exporting import export_images
from cli.importing import import_images
from cli.purging import purge_images
from cli.restoring import restore_database
from cli.scanning import scan_images
from cli.tokens import manage_tokens

COMMANDS = (
    import_images,
    export_images,
    check_database,
    back_up_database,
    restore_database,
    purge_images,
    manage_tokens,
    scan_images,
)
