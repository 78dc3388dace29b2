"""The commands of ``flask --app registry``, a module per noun."""

from cli.exporting import export_images
from cli.importing import import_images

COMMANDS = (import_images, export_images)
