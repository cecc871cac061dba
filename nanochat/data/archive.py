"""Archives from the network: unpacked with suspicion."""

import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from nanochat.errors import DataError

_LIMIT_BYTES = 8 << 30  # the public bundle unpacks to 0.2 GB; a zip bomb does not


def check_zip(archive: Path) -> None:
    """Read every file of a zip and compare its CRC.

    Raises:
        DataError: if one differs, or the file is no zip.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            damaged = file.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive} is no readable zip ({error})") from None
    if damaged:
        raise DataError(f"{archive} is no readable zip ({damaged} is damaged)")


def unzip(archive: Path, folder: Path) -> None:
    """Unpack a zip: regular files only, none outside of `folder`; every file's CRC is checked.

    Raises:
        DataError: if the archive is damaged, unreasonably large, or holds anything but plain files.
    """
    try:
        with zipfile.ZipFile(archive) as file:
            members = [member for member in file.infolist() if not member.is_dir()]
            total = sum(member.file_size for member in members)
            if total > _LIMIT_BYTES:
                raise DataError(f"{archive} unpacks to {total:,} bytes, expected at most {_LIMIT_BYTES:,}")
            for member in members:
                name = PurePosixPath(member.filename)
                kind = stat.S_IFMT(member.external_attr >> 16)
                if name.is_absolute() or ".." in name.parts or kind not in (0, stat.S_IFREG):
                    raise DataError(f"{archive} holds {member.filename!r}; expected plain files inside one folder")
                file.extract(member, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DataError(f"{archive} is no readable zip ({error}); run the same command again") from None
