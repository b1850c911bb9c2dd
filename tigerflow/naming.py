"""File name <-> stem <-> output, error and temporary names, and the rules for them."""

import errno
import os
import re
import secrets
import socket
import zlib

from tigerflow.errors import NameRuleError

ERROR_EXT = ".err"

#: Messages name no more files than this at once, and count the others.
NAMED_AT_MOST = 20

#: Every temporary file has this in its name, whoever made it; none is ever an input.
TEMP_PREFIX = ".~tf_"

#: macOS writes one such companion beside each file it copies to a foreign disk.
APPLE_DOUBLE_PREFIX = "._"

#: AzCopy writes to such a name beside the final one. Word, Excel and PowerPoint say by
#: the other who has a document open.
_UNFINISHED_PREFIXES = (".azDownload-", "~$")

#: yt-dlp's streams before it merges them, and what it converts. Only of media files: a
#: researcher's `a.f137.txt` is not one of them.
_UNFINISHED_MEDIA = re.compile(r"\.(temp|f\d{3,6}(-\w+)*|f(hls|dash|http)[\w-]*)")
_MEDIA_EXTENSIONS = frozenset(
    ".3gp .aac .aiff .avi .flac .flv .m4a .m4v .mka .mkv .mov .mp3 .mp4 .ogg .opus .ts"  # noqa: SIM905 -- readable
    " .wav .weba .webm".split()
)

_EXTENSION = re.compile(r"(\.[a-zA-Z0-9_]+)+")
_TASK_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_-]*")
_TEMPORARY = re.compile(
    re.escape(TEMP_PREFIX) + r"(?P<host>[0-9a-f]{8})-(?P<pid>[0-9]{1,10})-[0-9a-f]{12}"
)

# What Snakemake gives a meaning of its own inside a file name. Its own patterns are
# WILDCARD_REGEX (snakemake.io) and PATHVAR_REGEX (snakemake.pathvars); these two are
# at least as wide. A value repeated 20 times at the end is its PeriodicityDetector.
_WILDCARD = re.compile(r"\{\s*[.\w]+\s*(,.*)?\}", re.DOTALL)
_PATHVAR = re.compile(r"<[a-z][a-z0-9_]*>")
_PERIODIC = re.compile(r"(.+?)\1{19,}$")


def check_extension(extension: str) -> str:
    """Return `extension` when it can name files.

    Raises:
        NameRuleError: it is not dots and words (`.txt`, `.tar.gz`), or is reserved.
    """
    if not _EXTENSION.fullmatch(extension):
        hint = (
            f"; write {'.' + extension!r}"
            if _EXTENSION.fullmatch("." + extension)
            else "; write a dot and letters, digits or underscores, such as '.txt'"
        )
        msg = f"Invalid file extension: {extension!r}{hint}"
        raise NameRuleError(msg)
    if extension.lower().endswith(ERROR_EXT):
        msg = f"Invalid file extension: {extension!r}; '.err' is kept for error files"
        raise NameRuleError(msg)
    return extension


def check_task_name(name: str) -> str:
    """Return `name` when it can name a task, its directory and its rule.

    Raises:
        NameRuleError: it does not start with a letter, or has other characters.
    """
    if not _TASK_NAME.fullmatch(name):
        msg = (
            f"Invalid task name: {name!r}; "
            "start with a letter, then letters, digits, '-' or '_'"
        )
        raise NameRuleError(msg)
    return name


def is_input_name(name: str, extension: str) -> bool:
    """Tell whether a file of this name is an input: by its end, case-sensitively.

    Names that tools use for what is not finished are none, whatever they end in.
    """
    return name.endswith(extension) and not _is_unfinished(name, extension)


def is_result_name(name: str, extension: str) -> bool:
    """Tell whether a file of this name is an output, or an error, of ours."""
    return name.endswith(extension) and TEMP_PREFIX not in name


def _is_unfinished(name: str, extension: str) -> bool:
    if TEMP_PREFIX in name:
        return True
    if name.startswith((APPLE_DOUBLE_PREFIX, *_UNFINISHED_PREFIXES)):
        return True
    if extension not in _MEDIA_EXTENSIONS:
        return False
    _, dot, last = name.removesuffix(extension).rpartition(".")
    return _UNFINISHED_MEDIA.fullmatch(dot + last) is not None


def stem_of(name: str, extension: str) -> str:
    """Return the name without its extension: `a.b` for `a.b.tar.gz`."""
    return name.removesuffix(extension)


def output_name(stem: str, extension: str) -> str:
    """Return the name of the output that belongs to `stem`."""
    return stem + extension


def error_name(stem: str) -> str:
    """Return the name of the error file that belongs to `stem`."""
    return stem + ERROR_EXT


def temporary_name(target: str, extension: str | None = None) -> str:
    """Return a fresh hidden name that ends in `extension`.

    Without it, in the last suffix of `target`. Writers choose the format by the end of
    a name, or append a suffix that is missing. Nothing before it has a dot, so that the
    name's suffixes are those of the extension. The rest of the target is left out, so
    that a name of 255 bytes has a temporary as well. The host and process in the name
    tell a later start whose it was.
    """
    if extension is None:
        # Not splitext: the output of an input named `.txt` is all suffix.
        _, dot, suffix = target.rpartition(".")
        extension = f"{dot}{suffix}" if dot else ""
    owner = f"{_host_tag()}-{os.getpid()}"
    return f"{TEMP_PREFIX}{owner}-{secrets.token_hex(6)}{extension}"


def temporary_root(name: str) -> str | None:
    """Return what a temporary name of ours has before its extension.

    No other temporary has it. It stays when a suffix is appended or replaced, or a
    prefix is put before the name.
    """
    found = _TEMPORARY.search(name)
    return found and found[0]


def temporary_owner(name: str, host: str | None = None) -> tuple[bool, int] | None:
    """Return (made on `host`, process id) of a temporary name of ours.

    Without `host`, on this one.
    """
    found = _TEMPORARY.search(name)
    if found is None:
        return None
    return found["host"] == _host_tag(host), int(found["pid"])


def link_problem(error: OSError) -> str | None:
    """Return why a name leads to no file, as a link does that is wrong, or None."""
    return _LINK_PROBLEMS.get(error.errno or 0)


_LINK_PROBLEMS = {
    errno.ELOOP: "it is a link that leads back to itself",
    errno.ENOTDIR: "it is a link through a file that is no directory",
    errno.ENAMETOOLONG: "it is a link to a name that is too long",
    errno.EACCES: "it is a link into a directory that you may not enter",
}


def snakemake_problem(stem: str) -> str | None:
    """Return why Snakemake cannot carry a file of this stem, or None if it can."""
    try:
        stem.encode()
    except UnicodeEncodeError:
        return "its name is not valid UTF-8"
    if any(
        character in stem for character in "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    ):
        return "its name has a line break in it"
    if _WILDCARD.search(stem):
        return "Snakemake reads the {...} in its name as a wildcard"
    if _PATHVAR.search(stem):
        return "Snakemake reads the <...> in its name as a path variable"
    if _PERIODIC.search(stem):
        return "Snakemake refuses names that end in 20 or more repetitions"
    return None


def printable(name: str) -> str:
    """Return `name` for a log line: as it is, or quoted where a line would break."""
    return name if name.isprintable() else ascii(name)


def files_word(count: int) -> str:
    """Return the word that goes with a number of files."""
    return "file" if count == 1 else "files"


def _host_tag(host: str | None = None) -> str:
    return f"{zlib.crc32((host or socket.gethostname()).encode()):08x}"
