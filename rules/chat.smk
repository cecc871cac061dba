"""Chat.
INPUTS   the last checkpoint there is; the whole chain only where there is none yet
OUTPUTS  none: chat_ui (window and API), serve (API alone) and chat_cli (terminal) run in the foreground until Ctrl-C
RERUN    always, when asked for; nothing else depends on them
"""

from nanochat.config.secrets import Given

CHAT_NEEDS = [] if layout.newest_checkpoint else layout.checkpoint(cfg.chat_stages[-1])
CHAT = cfg.chat.model_dump_json(exclude=set(SECRETS))

# The secrets go to the servers by the environment, which other users cannot read and Snakemake does not note down. Its
# log would have them from the command line and its record of the configuration, if they were left there.
given = Given.of(cfg.chat, sys.argv)
sys.argv = given.arguments
for key in SECRETS:
    config.get("chat", {}).pop(key, None)
if {"chat_ui", "serve"} & chats:
    os.environ.update(given.environment)
if workflow.is_main_process:
    print(*given.told, sep="\n", end="\n" if given.told else "", file=sys.stderr)

# What the terminal chat answers is all there is on standard output, also if a model must be trained before.
if "chat_cli" in chats:
    shell.prefix(f"{prefix}exec 3>&1 1>&2; ")


rule chat_ui:
    """A chat window in the browser, and the API; ends with Ctrl-C."""
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


rule serve:
    """The OpenAI-compatible API without the window; ends with Ctrl-C."""
    input:
        CHAT_NEEDS,
    log:
        f"{layout.run}/logs/serve.log",
    localrule: True
    handover: True
    conda:
        ENVIRONMENT
    params:
        run=run_folder,
        chat=CHAT,
    message:
        "Starting the API; Ctrl-C ends it"
    shell:
        "exec python -m workflow_scripts.serve --run {params.run:q} --chat {params.chat:q} --log {log:q}"


rule chat_cli:
    """A chat in the terminal; one answer where chat.prompt or a pipe asks a question."""
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
        "exec python -m workflow_scripts.chat_cli --run {params.run:q} --chat {params.chat:q} --log {log:q} >&3 3>&-"
