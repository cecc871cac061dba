"""Bring one file of the catalogue to its place.

python -m workflow_scripts.fetch files/words_alpha.txt --source hub --out F
"""

from pathlib import Path

from workflow_scripts.command import parser, run


def main() -> None:
    """Parse and fetch."""
    from nanochat.config import load_catalogue
    from nanochat.data.hub import fetch, fetch_bundle
    from nanochat.data.source import parse_source

    arguments = parser(__doc__)
    arguments.add_argument("path", help="path below the data folder, or eval_bundle")
    arguments.add_argument("--source", required=True, help="hub, the address of a mirror, or a folder laid out like it")
    arguments.add_argument("--out", type=Path, required=True)
    given = arguments.parse_args()
    source = parse_source(given.source)
    if given.path == "eval_bundle":
        fetch_bundle(source=source, out=given.out, catalogue=load_catalogue())
    else:
        fetch(given.path, source=source, out=given.out, catalogue=load_catalogue())


if __name__ == "__main__":
    run(main)
