"""Bring one file of the catalogue to its place.

python -m workflow_scripts.fetch files/words_alpha.txt --source hub --out F
"""

from pathlib import Path

from nanochat.config.plan import FetchPlan
from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and fetch."""
    from nanochat.config import load_catalogue
    from nanochat.data.disk import check_disk
    from nanochat.data.hub import fetch, fetch_bundle
    from nanochat.data.source import parse_source

    arguments = parser(__doc__)
    arguments.add_argument("path", help="path below the data folder, or eval_bundle")
    arguments.add_argument("--source", required=True, help="hub, the address of a mirror, or a folder laid out like it")
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--data", type=Path, help="the data folder, for the check of the disk")
    arguments.add_argument("--plan", type=FetchPlan.model_validate_json, help="all that is fetched into it, as JSON")
    given = arguments.parse_args()
    source = parse_source(given.source)
    if given.plan and given.data:
        catalogue = load_catalogue()
        paths = given.plan.paths(catalogue)
        more = given.plan.token_bytes_by_folder()
        check_disk(paths, source=source, data=given.data, catalogue=catalogue, more=more)
    if given.path == "eval_bundle":
        fetch_bundle(source=source, out=given.out, catalogue=load_catalogue())
    else:
        fetch(given.path, source=source, out=given.out, catalogue=load_catalogue())


if __name__ == "__main__":
    run(main)
