"""Properties that a scan keeps of a file, and the comparison of a file with its record."""

from cli.checksums import MD5
from cli.image_format import IMAGE

# Properties by which the next scan recognises a file; the third part of its signature is the record's size.
MODIFIED, INODE, HOST, GONE = "scan_mtime_ns", "scan_inode", "scan_host", "scan_missing"
# Property that says why the file is no longer the image of the record, and property of an encrypted disk.
PROBLEM, ENCRYPTION = "scan_problem", "encryption_format"
MARKS = (GONE, PROBLEM)


def has_mark(image):
    """Return whether a record says that its file is missing or replaced."""
    return any(name in image["properties"] for name in MARKS)


def restored_status(image):
    """Return the status to write if the file of a record was missing and is back."""
    return {"status": "active"} if GONE in image["properties"] else {}


def get_hash(found):
    """Return (os_hash_algo, os_hash_value) of a file that was read.

    (None, None) if it was not hashed.
    """
    return next((pair for pair in found.digests.items() if pair[0] != MD5), (None, None))


def has_content(image, found):
    """Return whether a file that was read has the checksums of a record."""
    known = {image["checksum"], image["properties"].get("os_hash_value")} - {None}
    return bool(known) and known <= {*found.digests.values()}


def is_same_kind(image, detected):
    """Return whether a record can take the facts of its file's new content.

    It cannot if nothing was recognised in it: then it is no image, or is called raw only for want of a format.
    """
    return detected.verdict == IMAGE and (not detected.is_guess or image["disk_format"] == "raw")


def describe_image(found):
    """Return a remark on an image: its encryption, or a misleading name."""
    encryption = f"encrypted ({found.detected.encryption})" if found.detected.encryption else ""
    return "; ".join(filter(None, (found.reason, encryption)))


def get_facts(found):
    """Return the record's fields that depend on a file's content."""
    return {
        "disk_format": found.detected.disk_format,
        "size": found.status.st_size,
        "virtual_size": found.detected.virtual_size,
        "checksum": found.digests.get(MD5),
    }


def entry_signature(entry):
    """Return the signature of a file, in the types of a record."""
    return entry.status.st_size, str(entry.status.st_mtime_ns), str(entry.status.st_ino)


def record_signature(image):
    """Return the signature of the file that a record was made of."""
    return image["size"], image["properties"].get(MODIFIED), image["properties"].get(INODE)
