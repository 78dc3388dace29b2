"""The product's version, as CHANGELOG.md has it."""

VERSION = "0.1.0"
