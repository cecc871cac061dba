"""Export.
INPUTS   a checkpoint, those it was trained from, their evaluations
OUTPUTS  results/<run>/export/<stage>/: a folder for transformers, with a model card
RERUN    when the checkpoint, a score, the type of the weights, the name or the chat's sampling changes
"""

EXPORTED = layout.export_stage
# The checkpoint is the last of these; the card tells of all of them.
EXPORTED_CHAIN = ("base", *cfg.chat_stages)[
    : ("base", *cfg.chat_stages).index(EXPORTED) + 1
]


rule export:
    """A folder for transformers, of the run's best chat stage or of export.stage."""
    input:
        model=layout.checkpoint(EXPORTED),
        earlier=[layout.checkpoint(stage) for stage in EXPORTED_CHAIN[:-1]],
        evaluations=[
            layout.evaluation(stage) for stage in dict.fromkeys(("base", EXPORTED))
        ],
    output:
        directory(layout.export(EXPORTED)),
    log:
        f"{layout.run}/logs/export.log",
    benchmark:
        f"{layout.run}/benchmarks/export.tsv"
    conda:
        ENVIRONMENT
    params:
        *settings("export"),
    message:
        f"Exporting {layout.checkpoint(EXPORTED)} to Hugging Face"
    shell:
        "python -m workflow_scripts.export --out {output:q} --model {input.model:q} --earlier {input.earlier:q}"
        " --evaluations {input.evaluations:q} --settings {params:q} 2>&1 | tee -i {log:q}"
