"""The chain of digests: is every artifact made from the artifacts that lie beside it now?"""

from collections.abc import Iterator

from nanochat.artifact import Manifest
from nanochat.report.collect import Artifact, Run

# Artifact → the artifact it was made from.
_PARENTS = {
    "tokenizer_eval": "tokenizer",
    "base": "tokenizer",
    "base_eval": "base",
    "mid": "base",
    "mid_eval": "mid",
    "sft": "mid",
    "sft_eval": "sft",
    "rl": "sft",
    "rl_eval": "rl",
}


def breaks(run: Run) -> list[str]:
    """Every break of the chain, as a sentence: a stage made from another input than the one that is here now.

    An input counts as the right one if its digest, as its manifest gives it now, is among the digests that the
    later stage recorded when it read its inputs.
    """
    return list(_breaks(run))


def _breaks(run: Run) -> Iterator[str]:
    for child, parent in _PARENTS.items():
        if problem := _mismatch(run.artifacts[child], run.artifacts[parent]):
            yield problem
    yield from _tokenizer_copies(run)
    yield from _token_folders(run)


def _mismatch(child: Artifact, parent: Artifact) -> str | None:
    if child.manifest is None:
        return None
    if parent.manifest is None:
        return f"{child.title} is here, but the {parent.title} it was made from is not ({parent.note})."
    if parent.manifest.digest in child.manifest.inputs.values():
        return None
    recorded = _recorded(child.manifest, ("init", "model", "tokenizer", parent.key))
    return (
        f"{child.title} was made from another {parent.title} than the one here: it recorded {recorded}, "
        f"here is {parent.manifest.digest[:12]}. Numbers of the two do not belong together; run snakemake again."
    )


def _recorded(manifest: Manifest, names: tuple[str, ...]) -> str:
    return next((manifest.inputs[name][:12] for name in names if name in manifest.inputs), "no such input")


def _tokenizer_copies(run: Run) -> Iterator[str]:
    """Each checkpoint carries its tokenizer; it has to be the run's."""
    tokenizer = run.artifacts["tokenizer"].manifest
    if tokenizer is None or "tokenizer.json" not in tokenizer.files:
        return
    expected = tokenizer.files["tokenizer.json"].sha256
    for artifact in run.done:
        copy = artifact.manifest.files.get("tokenizer.json") if artifact.manifest else None
        if copy and copy.sha256 != expected:
            yield (
                f"The tokenizer inside {artifact.title} is not the run's: "
                f"SHA-256 {copy.sha256[:12]} instead of {expected[:12]}; run snakemake again."
            )


def _token_folders(run: Run) -> Iterator[str]:
    tokenizer, base = run.artifacts["tokenizer"].manifest, run.artifacts["base"].manifest
    for name, manifest in run.tokens:
        if tokenizer and tokenizer.digest not in manifest.inputs.values():
            yield f"The tokens of {name} were made with another tokenizer than the one here; run snakemake again."
        if base and manifest.digest not in base.inputs.values():
            yield f"base was not trained or validated on the tokens of {name} as they are here; run snakemake again."
