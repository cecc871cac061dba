"""Deliver.
INPUTS   every artifact of the run
OUTPUTS  results/<run>/report.md and figures/, report.md at the root; chat_ui and chat_cli run in the foreground
RERUN    the report is a pure function of the artifacts
"""


rule report:
    """The run's report."""
    input:
        layout.artifacts,
        tokens=layout.train_tokens_folders + [layout.val_tokens_folder],
    output:
        report=f"{layout.run}/report.md",
        figures=directory(f"{layout.run}/figures"),
    log:
        f"{layout.run}/logs/report.log",
    benchmark:
        f"{layout.run}/benchmarks/report.tsv"
    conda:
        ENVIRONMENT
    params:
        *settings("report"),
    message:
        f"Writing {layout.run}/report.md"
    shell:
        "python -m workflow_scripts.report --out {output.report:q} --figures {output.figures:q} --run {layout.run:q}"
        " --tokens {input.tokens:q} --settings {params:q} 2>&1 | tee -i {log:q}"


rule publish:
    input:
        f"{layout.run}/report.md",
    output:
        "report.md",
    log:
        f"{layout.run}/logs/publish.log",
    benchmark:
        f"{layout.run}/benchmarks/publish.tsv"
    """The configured run's report at the root of the checkout."""
    localrule: True
    conda:
        ENVIRONMENT
    params:
        run=layout.run,
    message:
        f"report.md is the report of {layout.run}"
    shell:
        "python -m workflow_scripts.publish {input:q} --out {output:q} 2>&1 | tee -i {log:q}"


# A chat takes the best stage there is, and asks for the whole chain only where there is none yet.
CHAT_NEEDS = [] if layout.newest_checkpoint else layout.checkpoint(cfg.chat_stages[-1])
CHAT = cfg.chat.model_dump_json()


rule chat_ui:
    input:
        CHAT_NEEDS,
    log:
        f"{layout.run}/logs/chat_ui.log",
    """A chat window in the browser; ends with Ctrl-C."""
    localrule: True
    handover: True
    conda:
        ENVIRONMENT
    message:
        "Starting the chat window; Ctrl-C ends it"
    shell:
        "exec python -m workflow_scripts.chat_ui --run {layout.run:q} --chat {CHAT:q} --log {log:q}"


rule chat_cli:
    input:
        CHAT_NEEDS,
    log:
        f"{layout.run}/logs/chat_cli.log",
    """A chat in the terminal."""
    localrule: True
    handover: True
    conda:
        ENVIRONMENT
    message:
        "Starting the terminal chat; /help lists its commands"
    shell:
        "exec python -m workflow_scripts.chat_cli --run {layout.run:q} --chat {CHAT:q} --log {log:q}"


rule clean:
    log:
        f"{layout.run}/logs/clean.log",
    """Removes the kept in-progress state (step checkpoints, finished copies); artifacts and data stay."""
    localrule: True
    conda:
        ENVIRONMENT
    message:
        f"Removing the in-progress state of {layout.run}"
    shell:
        "rm -rf {layout.run:q}/.progress {layout.run:q}/eval/.progress {layout.tokens_root:q}/.progress > {log:q} 2>&1"
