"""Deliver.
INPUTS   every artifact of the run
OUTPUTS  results/<run>/report.md and figures/, report.md at the root
RERUN    the report is a pure function of the artifacts
"""


rule report:
    """The run's report."""
    input:
        layout.artifacts,
        train=layout.train_tokens_folders,
        val=layout.val_tokens_folders,
        sources=layout.own_artifacts,
    output:
        report=f"{layout.run}/report.md",
        figures=directory(f"{layout.run}/figures"),
    log:
        f"{layout.run}/logs/report.log",
    benchmark:
        f"{layout.run}/benchmarks/report.tsv"
    conda:
        ENVIRONMENT
    resources:
        train_tokens=TRAIN_TOKENS,
        config=cfg.model_dump_json(exclude_unset=True, exclude={"chat": set(SECRETS)}),
    params:
        *settings("report"),
    message:
        f"Writing {layout.run}/report.md"
    shell:
        "python -m workflow_scripts.report --out {output.report:q} --figures {output.figures:q}"
        " --tokens {resources.train_tokens} {input.val:q} --sources {input.sources:q} --config {resources.config:q}"
        " --settings {params:q} 2>&1 | tee -i {log:q}"


rule publish:
    """The configured run's report at the root of the checkout."""
    input:
        f"{layout.run}/report.md",
    output:
        "report.md",
    log:
        f"{layout.run}/logs/publish.log",
    benchmark:
        f"{layout.run}/benchmarks/publish.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    message:
        f"report.md is the report of {layout.run}"
    shell:
        "python -m workflow_scripts.publish {input:q} --out {output:q} 2>&1 | tee -i {log:q}"


rule clean:
    """Removes the kept in-progress state (step checkpoints, finished copies); artifacts and data stay."""
    log:
        f"{layout.run}/logs/clean.log",
    localrule: True
    conda:
        ENVIRONMENT
    params:
        f"{layout.run}/.progress",
        f"{layout.run}/eval/.progress",
        [f"{layout.tokens_root}/{text.name}/.progress" for text in layout.texts],
        f"{layout.tokens_root}/.progress",
        f"{layout.run}/own/.progress",
        f"{layout.run}/compare/.progress",
        f"{layout.run}/compare/eval/.progress",
        f"{layout.world}/.progress",
        [f"{layout.own_text}/.progress"] if layout.own_text else [],
        f"{layout.run}/export/.progress",
    message:
        f"Removing the in-progress state of {layout.run}"
    shell:
        "rm -rf {params:q} > {log:q} 2>&1"
