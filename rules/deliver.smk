"""Deliver.
INPUTS   every artifact of the run
OUTPUTS  results/<run>/report.md and figures/, report.md at the root; chat_ui and chat_cli run in the foreground
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
        config=cfg.model_dump_json(exclude_unset=True, exclude={"chat": {"password"}}),
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


# A chat takes the best stage there is, and asks for the whole chain only where there is none yet.
CHAT_NEEDS = [] if layout.newest_checkpoint else layout.checkpoint(cfg.chat_stages[-1])
CHAT = cfg.chat.model_dump_json()


rule chat_ui:
    """A chat window in the browser; ends with Ctrl-C."""
    input:
        CHAT_NEEDS,
    log:
        f"{layout.run}/logs/chat_ui.log",
    localrule: True
    handover: True
    conda:
        ENVIRONMENT
    params:
        run=run_folder,
        chat=CHAT,
    message:
        "Starting the chat window; Ctrl-C ends it"
    shell:
        "exec python -m workflow_scripts.chat_ui --run {params.run:q} --chat {params.chat:q} --log {log:q}"


rule chat_cli:
    """A chat in the terminal."""
    input:
        CHAT_NEEDS,
    log:
        f"{layout.run}/logs/chat_cli.log",
    localrule: True
    handover: True
    conda:
        ENVIRONMENT
    params:
        run=run_folder,
        chat=CHAT,
    message:
        "Starting the terminal chat; /help lists its commands"
    shell:
        "exec python -m workflow_scripts.chat_cli --run {params.run:q} --chat {params.chat:q} --log {log:q}"


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
