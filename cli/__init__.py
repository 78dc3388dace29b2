"""Commands of ``registry`` (``flask --app registry``), each in a module named after it."""

from cli.backup import back_up_database
from cli.check import check_database
from cli.create import create_image, update_image
from cli.delete import delete_images, undelete_images
from cli.demo import show_demo
from cli.doctor import examine
from cli.export_images import export_images
from cli.import_images import import_images
from cli.list_images import list_images
from cli.merge import merge_images
from cli.purge import purge_images
from cli.restore import restore_database
from cli.scan import scan_images
from cli.share import share_image, unshare_image
from cli.show import show_history, show_one
from cli.sync import sync
from cli.token import manage_tokens
from cli.verify import verify_images

COMMANDS = (
    list_images,
    show_one,
    show_history,
    create_image,
    update_image,
    delete_images,
    undelete_images,
    merge_images,
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
