"""Data.
INPUTS   the hub, a mirror of it, the embedded world, the user's own files
OUTPUTS  data/<place>/{datasets,files,eval_bundle}/, data/tokens/<key>/{tokenizer,<corpus>/shard_…}/, results/<run>/own/
RERUN    a changed tokenizer setting makes new token files beside the old ones; files of a pinned source are made once
HOW      resources: download (connections at a time; --resources download=N), threads
"""


rule world:
    """The embedded world: text, tasks and evaluation bundle laid out like the public hub."""
    output:
        directory(f"{layout.world}/made"),
    log:
        f"{layout.run}/logs/world.log",
    benchmark:
        f"{layout.run}/benchmarks/world.tsv"
    conda:
        ENVIRONMENT
    params:
        *settings("world"),
    message:
        f"Making a small world: {cfg.world.people} people, {cfg.world.text_megabytes:g} MB of text"
    shell:
        "python -m workflow_scripts.world --out {output:q} --settings {params:q} 2>&1 | tee -i {log:q}"


rule shards:
    """One shard of pretraining text."""
    input:
        made,
    output:
        "data/{place}/datasets/{owner}/{name}/{shard}.parquet",
    log:
        f"{layout.run}/logs/shards/{{place}}/{{owner}}/{{name}}/{{shard}}.log",
    benchmark:
        f"{layout.run}/benchmarks/shards/{{place}}/{{owner}}/{{name}}/{{shard}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        download=1,
        plan=plan_of,
    params:
        path="datasets/{owner}/{name}/{shard}.parquet",
        source=source_of,
        version=lambda wildcards: layout.version(
            f"datasets/{wildcards.owner}/{wildcards.name}/{wildcards.shard}.parquet"
        ),
    message:
        "Fetching text {wildcards.owner}/{wildcards.name}/{wildcards.shard}"
    shell:
        "python -m workflow_scripts.fetch {params.path:q} --source {params.source:q} --out {output:q}"
        " --data data/{wildcards.place:q} --plan {resources.plan:q} 2>&1 | tee -i {log:q}"


rule dataset:
    """One file of a task's data set."""
    input:
        made,
    output:
        "data/{place}/{path}",
    log:
        f"{layout.run}/logs/dataset/{{place}}/{{path}}.log",
    benchmark:
        f"{layout.run}/benchmarks/dataset/{{place}}/{{path}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        download=1,
        plan=plan_of,
    params:
        path="{path}",
        source=source_of,
        version=lambda wildcards: layout.version(wildcards.path),
    message:
        "Fetching {wildcards.path}"
    shell:
        "python -m workflow_scripts.fetch {params.path:q} --source {params.source:q} --out {output:q}"
        " --data data/{wildcards.place:q} --plan {resources.plan:q} 2>&1 | tee -i {log:q}"


ruleorder: shards > dataset


rule bundle:
    """The CORE-format evaluation bundle."""
    input:
        made,
    output:
        directory("data/{place}/eval_bundle"),
    log:
        f"{layout.run}/logs/bundle/{{place}}.log",
    benchmark:
        f"{layout.run}/benchmarks/bundle/{{place}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        download=1,
        plan=plan_of,
    params:
        source=source_of,
        version=layout.version("eval_bundle"),
    message:
        "Fetching the evaluation bundle"
    shell:
        "python -m workflow_scripts.fetch eval_bundle --source {params.source:q} --out {output:q}"
        " --data data/{wildcards.place:q} --plan {resources.plan:q} 2>&1 | tee -i {log:q}"


if OWN in cfg.data.shares:

    rule own_text:
        """The user's own text as shards."""
        input:
            lambda wildcards: layout.input_files(OWN),
        output:
            directory(f"{layout.own_text}/made"),
        log:
            f"{layout.run}/logs/own_text.log",
        benchmark:
            f"{layout.run}/benchmarks/own_text.tsv"
        conda:
            ENVIRONMENT
        resources:
            # As the user wrote them: thousands of names are too long for a command line.
            files=json.dumps(cfg.own.text.files),
        params:
            *settings("own_text"),
        message:
            f"Reading {len(layout.own_files)} files of your own text"
        shell:
            "python -m workflow_scripts.own_text --out {output:q} --files {resources.files:q} --settings {params:q}"
            " 2>&1 | tee -i {log:q}"


rule own_conversations:
    """The user's own conversations, checked."""
    input:
        lambda wildcards: layout.input_files(wildcards.task),
    output:
        directory(f"{layout.run}/own/{{task}}"),
    log:
        f"{layout.run}/logs/own_conversations/{{task}}.log",
    benchmark:
        f"{layout.run}/benchmarks/own_conversations/{{task}}.tsv"
    wildcard_constraints:
        task="|".join(map(re.escape, cfg.own.conversations)) or "-",
    priority: 20
    conda:
        ENVIRONMENT
    resources:
        files=lambda wildcards: json.dumps([cfg.own.conversations[wildcards.task]]),
    params:
        *settings("own_conversations"),
    message:
        "Checking your conversations {wildcards.task}"
    shell:
        "python -m workflow_scripts.own_conversations --out {output:q} --files {resources.files:q} --settings {params:q}"
        " 2>&1 | tee -i {log:q}"


if cfg.own.persona.file:

    rule persona:
        """Who the model is, as conversations."""
        input:
            lambda wildcards: layout.input_files(PERSONA),
        output:
            directory(layout.own_conversations(PERSONA)),
        log:
            f"{layout.run}/logs/persona.log",
        benchmark:
            f"{layout.run}/benchmarks/persona.tsv"
        priority: 20
        conda:
            ENVIRONMENT
        params:
            *settings("persona"),
        message:
            f"Expanding your persona to {cfg.own.persona.conversations:,} conversations"
        shell:
            "python -m workflow_scripts.persona --out {output:q} --persona {input:q} --settings {params:q}"
            " 2>&1 | tee -i {log:q}"


rule tokenizer:
    """Byte-pair merges learned from the training text."""
    input:
        shards=layout.tokenizer_shards,
    output:
        directory(layout.tokenizer),
    log:
        f"{layout.run}/logs/tokenizer.log",
    benchmark:
        f"{layout.run}/benchmarks/tokenizer.tsv"
    conda:
        ENVIRONMENT
    threads: 16
    params:
        *settings("tokenizer"),
    message:
        f"Training a tokenizer of {cfg.tokenizer.vocab_size:,} tokens on {len(layout.tokenizer_shards)} shards"
    shell:
        "python -m workflow_scripts.tokenizer --out {output:q} --shards {input.shards:q} --threads {threads}"
        " --settings {params:q} 2>&1 | tee -i {log:q}"


rule run_tokenizer:
    """The run's own copy of its tokenizer."""
    input:
        layout.tokenizer,
    output:
        directory(layout.run_tokenizer),
    log:
        f"{layout.run}/logs/run_tokenizer.log",
    benchmark:
        f"{layout.run}/benchmarks/run_tokenizer.tsv"
    localrule: True
    conda:
        ENVIRONMENT
    message:
        f"Copying the tokenizer to {layout.run_tokenizer}"
    shell:
        "cp -R {input:q} {output:q} > {log:q} 2>&1"


rule tokens:
    """One shard of text as a memory-mapped token file."""
    input:
        shard=lambda wildcards: layout.text(wildcards.corpus).shard(
            int(wildcards.number)
        ),
        tokenizer=layout.tokenizer,
    output:
        directory(f"{layout.tokens_root}/{{corpus}}/shard_{{number}}"),
    log:
        f"{layout.run}/logs/tokens/{{corpus}}/{{number}}.log",
    benchmark:
        f"{layout.run}/benchmarks/tokens/{{corpus}}/{{number}}.tsv"
    conda:
        ENVIRONMENT
    threads: 2
    message:
        "Tokenizing {wildcards.corpus}, shard {wildcards.number}"
    shell:
        "RAYON_NUM_THREADS={threads} python -m workflow_scripts.tokens --out {output:q} --shard {input.shard:q}"
        " --tokenizer {input.tokenizer:q} --threads {threads} 2>&1 | tee -i {log:q}"
