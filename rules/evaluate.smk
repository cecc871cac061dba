"""Evaluate.
INPUTS   checkpoint directories, token folders, the evaluation bundle, task files
OUTPUTS  results/<run>/eval/{tokenizer,base,mid,sft,rl}/ : scores with standard errors, a record for each item
RERUN    an evaluation that was killed goes on with the items that are left
"""


rule tokenizer_eval:
    """Compression of the tokenizer on several kinds of text."""
    input:
        tokenizer=layout.tokenizer,
        shard=layout.texts[0].val_shard,
    output:
        directory(layout.evaluation("tokenizer")),
    log:
        f"{layout.run}/logs/tokenizer_eval.log",
    benchmark:
        f"{layout.run}/benchmarks/tokenizer_eval.tsv"
    conda:
        ENVIRONMENT
    message:
        "Measuring the tokenizer's compression"
    shell:
        "python -m workflow_scripts.tokenizer_eval --out {output:q} --tokenizer {input.tokenizer:q}"
        " --shard {input.shard:q} 2>&1 | tee -i {log:q}"


rule base_eval:
    """Bits per byte and CORE-format tasks of the base model."""
    input:
        model=layout.checkpoint("base"),
        bundle=layout.bundle,
        train=layout.train_tokens_folders,
        val=layout.val_tokens_folders,
    output:
        directory(layout.evaluation("base")),
    log:
        f"{layout.run}/logs/base_eval.log",
    benchmark:
        f"{layout.run}/benchmarks/base_eval.tsv"
    conda:
        ENVIRONMENT
    threads: 64
    resources:
        launch="python",
        gpu=0,
        device="cpu",
        device_batch_size=cfg.execution.device_batch_size,
        train_tokens=TRAIN_TOKENS,
    params:
        *settings("base_eval"),
    message:
        "Evaluating the base model: bits per byte and CORE-format tasks;"
        " launch `{resources.launch}`, GPUs {resources.gpu}, device batch {resources.device_batch_size}"
    shell:
        "{resources.launch} -m workflow_scripts.base_eval --out {output:q} --model {input.model:q}"
        " --bundle {input.bundle:q} --train-tokens {resources.train_tokens} --val-tokens {input.val:q}"
        " --device {resources.device} --device-batch-size {resources.device_batch_size}"
        " --settings {params:q} 2>&1 | tee -i {log:q}"


rule chat_eval:
    """Chat tasks of one chat stage."""
    input:
        model=f"{layout.run}/{{stage}}",
        files=layout.task_files("chat_eval"),
    output:
        directory(f"{layout.run}/eval/{{stage}}"),
    log:
        f"{layout.run}/logs/chat_eval_{{stage}}.log",
    benchmark:
        f"{layout.run}/benchmarks/chat_eval_{{stage}}.tsv"
    conda:
        ENVIRONMENT
    threads: chat_eval_threads
    resources:
        launch="python",
        gpu=0,
        device="cpu",
        device_batch_size=cfg.execution.device_batch_size,
        data=layout.data,
    params:
        *settings("chat_eval"),
    message:
        "Evaluating {wildcards.stage} on "
        f"{', '.join(cfg.chat_eval.tasks)};"
        " launch `{resources.launch}`, GPUs {resources.gpu}, device batch {resources.device_batch_size}"
    shell:
        "{resources.launch} -m workflow_scripts.chat_eval --stage {wildcards.stage} --out {output:q}"
        " --model {input.model:q} --data {resources.data:q} --device {resources.device}"
        " --device-batch-size {resources.device_batch_size} --settings {params:q} 2>&1 | tee -i {log:q}"
