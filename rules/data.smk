"""Data.
INPUTS   the hub, a local mirror of it, or the embedded world
OUTPUTS  data/<source>/{datasets,files,eval_bundle}/, data/<source>/tokens/<key>/{tokenizer,shard_…}/
RERUN    a changed tokenizer setting makes new token files beside the old ones; files of a pinned source are made once
"""

# Files of the embedded world wait for it; a mirror folder is there, and the hub is asked by the jobs.
MADE = ancient(layout.mirror) if cfg.data.source == "world" else []


rule world:
    """The embedded world: text, tasks and evaluation bundle laid out like the public hub."""
    output:
        directory(f"{layout.data}/made"),
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
        MADE,
    output:
        f"{layout.data}/datasets/{layout.corpus.repo}/{{shard}}.parquet",
    log:
        f"{layout.run}/logs/shards/{{shard}}.log",
    benchmark:
        f"{layout.run}/benchmarks/shards/{{shard}}.tsv"
    retries: 0 if layout.mirror else 2
    conda:
        ENVIRONMENT
    resources:
        download=1,
    params:
        path=f"datasets/{layout.corpus.repo}/{{shard}}.parquet",
        source=data_source,
    message:
        "Fetching text {wildcards.shard}"
    shell:
        "python -m workflow_scripts.fetch {params.path:q} --source {params.source:q} --out {output:q}"
        " 2>&1 | tee -i {log:q}"


rule dataset:
    """One file of a task's data set."""
    input:
        MADE,
    output:
        f"{layout.data}/{{path}}",
    log:
        f"{layout.run}/logs/dataset/{{path}}.log",
    benchmark:
        f"{layout.run}/benchmarks/dataset/{{path}}.tsv"
    wildcard_constraints:
        path=r"(datasets|files)/.+",
    retries: 0 if layout.mirror else 2
    conda:
        ENVIRONMENT
    resources:
        download=1,
    params:
        path="{path}",
        source=data_source,
    message:
        "Fetching {wildcards.path}"
    shell:
        "python -m workflow_scripts.fetch {params.path:q} --source {params.source:q} --out {output:q}"
        " 2>&1 | tee -i {log:q}"


ruleorder: shards > dataset


rule bundle:
    """The CORE-format evaluation bundle."""
    input:
        MADE,
    output:
        directory(layout.bundle),
    log:
        f"{layout.run}/logs/bundle.log",
    benchmark:
        f"{layout.run}/benchmarks/bundle.tsv"
    retries: 0 if layout.mirror else 2
    conda:
        ENVIRONMENT
    resources:
        download=1,
    params:
        source=data_source,
    message:
        "Fetching the evaluation bundle"
    shell:
        "python -m workflow_scripts.fetch eval_bundle --source {params.source:q} --out {output:q}"
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
        "RAYON_NUM_THREADS={threads} python -m workflow_scripts.tokenizer --out {output:q} --shards {input.shards:q}"
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
        shard=f"{layout.data}/datasets/{layout.corpus.repo}/{{shard}}.parquet",
        tokenizer=layout.tokenizer,
    output:
        directory(f"{layout.tokens_root}/{{shard}}"),
    log:
        f"{layout.run}/logs/tokens/{{shard}}.log",
    benchmark:
        f"{layout.run}/benchmarks/tokens/{{shard}}.tsv"
    conda:
        ENVIRONMENT
    message:
        "Tokenizing {wildcards.shard}"
    shell:
        "RAYON_NUM_THREADS={threads} python -m workflow_scripts.tokens --out {output:q} --shard {input.shard:q} --tokenizer {input.tokenizer:q}"
        " 2>&1 | tee -i {log:q}"
