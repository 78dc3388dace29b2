"""Shell completion of image names, image ids and formats."""

import os
import re
from contextlib import suppress

import click
from click.shell_completion import CompletionItem
from flask.cli import ScriptInfo

from cli.api_client import DELETED, LIVE
from cli.client import open_client
from cli.param_types import cleaned

MAX_COMPLETED_IMAGES = 2000
SHELL_WORD = re.compile(r"[\w.+@%,-][\w.+@%,=-]*")
# zsh and fish quote what they insert; click's script for fish ends a word at a comma.
QUOTING_SHELLS, QUOTED_WORD = ("zsh", "fish"), re.compile(r"[\w.+@%=-][ \w.+@%=()&!'-]*")


def image_argument(**options):
    """Add the argument IMAGE (an id, an id prefix or a name), with shell completion."""
    return click.argument("image", required=True, shell_complete=completions, **options)


def completions(ctx, param, incomplete):
    """Return completions of an image.

    An error gives none, and no database is created or migrated.
    """
    with suppress(Exception, SystemExit), ctx.ensure_object(ScriptInfo).load_app().app_context():
        url, token = (ctx.params.get(name) or os.environ.get(f"REGISTRY_{name.upper()}") for name in ("url", "token"))
        with open_client(url or None, token or None, is_prepared=True) as client:
            state = DELETED if ctx.command.name == "undelete" else LIVE
            images = client.every_image(state, limit=MAX_COMPLETED_IMAGES)
            return [item for image in images for item in completing(image, incomplete)]
    return []


def completing(image, incomplete):
    """Return the completions of one image.

    Its name, or its id if a shell cannot insert the name.
    """
    name, image_id = image["name"] or "", image["id"]
    is_quoted = os.environ.get("_REGISTRY_COMPLETE", "").startswith(QUOTING_SHELLS)
    if (QUOTED_WORD if is_quoted else SHELL_WORD).fullmatch(name):
        return [CompletionItem(name)] if name.lower().startswith(incomplete.lower()) else []
    is_meant = name.lower().startswith(incomplete.lower()) or image_id.startswith(incomplete)
    return [CompletionItem(image_id, help=cleaned(name) or None)] if is_meant else []


def formats(ctx, param, incomplete):
    """Return the formats in the local configuration that start with ``incomplete``."""
    with suppress(Exception, SystemExit):
        known = getattr(ctx.ensure_object(ScriptInfo).load_app().settings.api, f"{param.name}s")
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]
    return []
