"""Export.
INPUTS   a checkpoint, those it was trained from, their evaluations
OUTPUTS  results/<run>/export/<stage>/: a folder for transformers, with a model card
RERUN    when the checkpoint, a score, the type of the weights, the name or the chat's sampling changes
"""

CHECKPOINTS = ("base", *cfg.chat_stages)


rule export:
    """A folder for transformers, of the run's best chat stage or of export.stage."""
    input:
        layout.export(layout.export_stage),
    localrule: True


rule export_stage:
    """A folder for transformers, of one stage."""
    input:
        model=f"{layout.run}/{{stage}}",
        # The checkpoint is the last of these; the card tells of all of them.
        earlier=lambda wildcards: map(
            layout.checkpoint, CHECKPOINTS[: CHECKPOINTS.index(wildcards.stage)]
        ),
        evaluations=lambda wildcards: map(
            layout.evaluation, dict.fromkeys(("base", wildcards.stage))
        ),
    output:
        directory(f"{layout.run}/export/{{stage}}"),
    log:
        f"{layout.run}/logs/export_{{stage}}.log",
    benchmark:
        f"{layout.run}/benchmarks/export_{{stage}}.tsv"
    wildcard_constraints:
        stage="|".join(CHECKPOINTS),
    conda:
        ENVIRONMENT
    params:
        *settings("export"),
    message:
        "Exporting {input.model} to Hugging Face"
    shell:
        "python -m workflow_scripts.export --out {output:q} --model {input.model:q} --earlier {input.earlier:q}"
        " --evaluations {input.evaluations:q} --settings {params:q} 2>&1 | tee -i {log:q}"
