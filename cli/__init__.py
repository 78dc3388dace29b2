"""The commands of ``flask --app registry``, a module per noun."""

from cli.backing_up import back_up_database
from cli.checking import check_database
from cli.deleting import delete_images, undelete_images
from cli.demo import show_demo
from cli.doctoring import examine
from cli.exporting import export_images
from cli.importing import import_images
from cli.listing import list_images
from cli.purging import purge_images
from cli.registering import create_image, update_image
from cli.restoring import restore_database
from cli.scanning import scan_images
from cli.sharing import share_image, unshare_image
from cli.showing import show_history, show_one
from cli.syncing import sync
from cli.tokens import manage_tokens
from cli.verifying import verify_images

COMMANDS = (
    list_images,
    show_one,
    show_history,
    create_image,
    update_image,
    delete_images,
    undelete_images,
    share_image,
    unshare_image,
    show_demo,
    examine,
    import_images,
    export_images,
    check_database,
    back_up_database,
    restore_database,
    purge_images,
    manage_tokens,
    scan_images,
    verify_images,
    sync,
)
