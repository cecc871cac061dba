"""Where a file of the catalogue lies on the hub, on a mirror of it, or already in the user's hub cache."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nanochat.config.catalogue import Catalogue
from nanochat.data.cache import DIGEST, Cached, find_cached, held_by_cache, is_offline, wanted_revision
from nanochat.data.download import Remote
from nanochat.data.remembered import COMMIT, remember_commit
from nanochat.data.retry import RETRIED_STATUS, Patience, Retry, TransientError, waiting_time
from nanochat.data.source import Mirror
from nanochat.errors import DataError

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

log = logging.getLogger(__name__)

_WAYS_OUT = "use a local folder or a mirror with data.source"


def locate(
    path: str, *, source: Literal["hub"] | Mirror, folder: Path, catalogue: Catalogue, retry: Retry
) -> Remote | Cached:
    """Find one file.

    The hub is asked for the catalogue's commit of a data set. Where the catalogue names a branch, the first file
    fetched decides on the commit for all that follow, this run's and later ones'. A mirror is asked for what it has.

    Args:
        path: `datasets/<owner>/<name>/<file>`, `files/<file>` or `eval_bundle`.
        source: the hub or a mirror.
        folder: of the data set, where the commit is recorded.
        catalogue: commits, and addresses of plain files.
        retry: patience with the server.

    Raises:
        DataError: if there is no such file, no access, no network, or offline mode and the file is not in the cache.
    """
    if not path.startswith("datasets/"):
        return _plain(path, source, catalogue)
    _, owner, name, *rest = path.split("/")
    repository, file = f"{owner}/{name}", "/".join(rest)
    if isinstance(source, Mirror):
        return _Hub(path, repository, file, retry, source.address).remote("main")
    hub = _Hub(path, repository, file, retry, None)
    revision = wanted_revision(path, folder, catalogue)
    cached = held_by_cache(path, folder, catalogue)
    if cached is not None:
        return cached
    if is_offline():
        raise DataError(
            f"{path}: HF_HUB_OFFLINE is set, and the hub cache does not hold it at revision {revision}; unset the "
            f"variable, or {_WAYS_OUT}"
        )
    if not COMMIT.fullmatch(revision):
        commit = hub.metadata(revision).commit_hash
        revision = remember_commit(folder, commit) if commit and COMMIT.fullmatch(commit) else revision
        return find_cached(path, revision) or hub.remote(revision)
    return hub.remote(revision)


def _plain(path: str, source: Literal["hub"] | Mirror, catalogue: Catalogue) -> Remote:
    known = catalogue.urls.get(path)
    if isinstance(source, Mirror):
        name = "eval_bundle.zip" if path == "eval_bundle" else path
        return Remote(name=path, address=f"{source.address}/{name}")
    if known is None:
        have = ", ".join(catalogue.urls)
        raise DataError(f"{path} has no address in the catalogue (it knows {have}); {_WAYS_OUT}")
    return Remote(name=path, address=known.address, digest=known.sha256)


class _Hub:
    """What huggingface_hub knows of one file: its address, token, digest and size."""

    def __init__(self, path: str, repository: str, file: str, retry: Retry, endpoint: str | None) -> None:
        try:
            import huggingface_hub
        except ImportError as error:
            raise DataError(f"{path}: downloads need the package huggingface_hub ({error}); install it") from None
        self._library: Any = huggingface_hub
        self._path = path
        self._repository = repository
        self._file = file
        self._retry = retry
        self._endpoint = endpoint
        # The user's token is the hub's business (HF_ENDPOINT included), not any mirror's.
        self._token = False if endpoint else None

    def address(self, revision: str) -> str:
        """Of the file at that revision."""
        return self._library.hf_hub_url(
            self._repository, self._file, repo_type="dataset", revision=revision, endpoint=self._endpoint
        )

    def remote(self, revision: str) -> Remote:
        """Ask the server for digest and size of the file at a revision."""
        from huggingface_hub.utils import build_hf_headers

        metadata = self.metadata(revision)
        return Remote(
            name=self._path,
            address=self.address(revision),
            size=metadata.size,
            digest=metadata.etag if metadata.etag and DIGEST.fullmatch(metadata.etag) else None,
            etag=metadata.etag,
            headers=build_hf_headers(token=self._token, library_name="nanochat"),
        )

    def metadata(self, revision: str) -> "HfFileMetadata":
        """The server's HEAD answer, with patience."""
        patience = Patience(self._path, self._retry)
        address = self.address(revision)
        while True:
            try:
                return self._library.get_hf_file_metadata(
                    address,
                    token=self._token,
                    timeout=self._retry.timeout_s,
                    library_name="nanochat",
                    endpoint=self._endpoint,
                )
            except Exception as error:  # the library's own, or its HTTP client's: which one changes by version
                patience.failed(self._judged(error, revision))

    def _judged(self, error: Exception, revision: str) -> TransientError:
        """The reason to try again, where there is one; else DataError is raised."""
        errors = self._library.errors
        response = getattr(error, "response", None)
        server = self._endpoint or self._library.constants.ENDPOINT
        if isinstance(error, errors.OfflineModeIsEnabled):
            raise DataError(f"{self._path}: HF_HUB_OFFLINE is set; unset it to use {server}") from None
        status = getattr(response, "status_code", None)
        if status is None:
            # Errors of the HTTP client (httpx, httpx2) and of sockets; anything else is no matter of the network.
            if isinstance(error, OSError) or type(error).__module__.startswith("http"):
                return TransientError(f"no answer from {server} ({str(error) or type(error).__name__})")
            raise DataError(f"{self._path}: {str(error).splitlines()[0]}") from None
        if status in RETRIED_STATUS:
            return TransientError(f"{server} answered {status}", waiting_time(response.headers))
        raise DataError(self.refusal(status, revision, server)) from None

    def refusal(self, status: int, revision: str, server: str) -> str:
        """In words, why there is no file and what to do."""
        what = f"{self._path}: {server} answered {status}"
        if status in (401, 403):
            return (
                f"{what}: the data set {self._repository} does not exist there or is not open to everyone; accept its "
                f"terms on its page and set HF_TOKEN to a token of yours, or {_WAYS_OUT}"
            )
        if self._endpoint:
            return f"{what}: this mirror has no such file; add it there, or use another data.source"
        return (
            f"{what}: the data set {self._repository} has no file {self._file} at revision {revision}; check the path "
            f"and the revision in nanochat/config/catalogue.yaml, or {_WAYS_OUT}"
        )
