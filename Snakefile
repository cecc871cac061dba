"""nanochat-as-a-workflow: from text shards to a chat window, one declarative DAG.

    snakemake                                          everything, on this machine, with config/tiny.yaml
    snakemake -n                                       what is left to do, and why
    snakemake --profile profiles/dgx-spark report.md   the same DAG on real data, one GPU
    snakemake chat_ui                                  chat with the best stage there is, in the browser
    snakemake chat_cli                                 the same in the terminal
    snakemake serve                                    the same for programs: an OpenAI-compatible API

results/<run>/ holds a run's artifacts, data/<source>/ what runs share. See docs/architecture.md.
"""

from snakemake.utils import min_version

min_version("9.27")


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/deliver.smk"
include: "rules/chat.smk"
include: "rules/export.smk"
include: "rules/compare.smk"


rule all:
    default_target: True
    input:
        "report.md",
        layout.artifacts,
    localrule: True
