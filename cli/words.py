"""What people read: texts that no terminal acts on, sizes, times."""

# Joiners belong to letters and emoji; every other character that does not print could be an order to the terminal.
JOINERS = "\u200c\u200d"


def cleaned(text):
    """The text with what does not print written as Python writes it: \\n, \\x1b."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in JOINERS else letter.encode("unicode_escape").decode()
        for letter in text
    )
