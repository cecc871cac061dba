"""Train.
INPUTS   results/<run>/tokenizer/, token folders, task files
OUTPUTS  results/<run>/{base,mid,sft,rl}/ : checkpoint directories, each with a manifest
RERUN    a killed job goes on from its newest step checkpoint (results/<run>/.progress/); a changed setting starts anew
HOW      resources: launch (python or torchrun …), gpu, device_batch_size (rows per device and micro-batch, or
         auto), where data lie, when checkpoints are saved, what wandb does; none of them ever reruns a stage
"""

EXECUTION = cfg.execution.model_dump_json()
WANDB = cfg.wandb.model_dump_json()


rule base:
    """Pretraining."""
    input:
        tokenizer=layout.tokenizer,
        train=layout.train_tokens_folders,
        val=layout.val_tokens_folders,
    output:
        directory(layout.checkpoint("base")),
    log:
        f"{layout.run}/logs/base.log",
    benchmark:
        f"{layout.run}/benchmarks/base.tsv"
    priority: 10
    conda:
        ENVIRONMENT
    threads: 64
    resources:
        launch="python",
        gpu=0,
        device="cpu",
        device_batch_size=cfg.execution.device_batch_size,
        train_tokens=TRAIN_TOKENS,
        prompts=json.dumps(layout.texts[0].entry.sample_prompts),
        execution=EXECUTION,
        wandb=WANDB,
    params:
        *settings("base"),
    message:
        f"Pretraining d{cfg.depth} ({cfg.model.arch}): {plan.steps:,} steps of {plan.total_batch_size:,} tokens;"
        " launch `{resources.launch}`, GPUs {resources.gpu}, device batch {resources.device_batch_size}"
    shell:
        "{resources.launch} -m workflow_scripts.base --out {output:q} --tokenizer {input.tokenizer:q}"
        " --train-tokens {resources.train_tokens} --val-tokens {input.val:q} --device {resources.device}"
        " --device-batch-size {resources.device_batch_size} --prompts {resources.prompts:q}"
        " --execution {resources.execution:q} --wandb {resources.wandb:q}"
        " --settings {params:q} 2>&1 | tee -i {log:q}"


rule mid:
    """Midtraining: the chat format, tools and abilities."""
    input:
        init=layout.init("mid"),
        files=layout.task_files("mid"),
    output:
        directory(layout.checkpoint("mid")),
    log:
        f"{layout.run}/logs/mid.log",
    benchmark:
        f"{layout.run}/benchmarks/mid.tsv"
    priority: 10
    conda:
        ENVIRONMENT
    threads: 64
    resources:
        launch="python",
        gpu=0,
        device="cpu",
        device_batch_size=cfg.execution.device_batch_size,
        data=layout.data,
        own=f"{layout.run}/own",
        execution=EXECUTION,
        wandb=WANDB,
    params:
        *settings("mid"),
    message:
        f"Midtraining on {', '.join(cfg.mid.mixture)}: steps of {batch('mid'):,} tokens;"
        " launch `{resources.launch}`, GPUs {resources.gpu}, device batch {resources.device_batch_size}"
    shell:
        "{resources.launch} -m workflow_scripts.mid --out {output:q} --init {input.init:q} --data {resources.data:q}"
        " --own {resources.own:q}"
        " --device {resources.device} --device-batch-size {resources.device_batch_size}"
        " --execution {resources.execution:q} --wandb {resources.wandb:q} --settings {params:q} 2>&1 | tee -i {log:q}"


rule sft:
    """Supervised fine-tuning."""
    input:
        init=layout.init("sft"),
        files=layout.task_files("sft"),
    output:
        directory(layout.checkpoint("sft")),
    log:
        f"{layout.run}/logs/sft.log",
    benchmark:
        f"{layout.run}/benchmarks/sft.tsv"
    priority: 10
    conda:
        ENVIRONMENT
    threads: 64
    resources:
        launch="python",
        gpu=0,
        device="cpu",
        device_batch_size=cfg.execution.device_batch_size,
        data=layout.data,
        own=f"{layout.run}/own",
        execution=EXECUTION,
        wandb=WANDB,
    params:
        *settings("sft"),
    message:
        f"Fine-tuning on {', '.join(cfg.sft.mixture)}: steps of {batch('sft'):,} tokens;"
        " launch `{resources.launch}`, GPUs {resources.gpu}, device batch {resources.device_batch_size}"
    shell:
        "{resources.launch} -m workflow_scripts.sft --out {output:q} --init {input.init:q} --data {resources.data:q}"
        " --own {resources.own:q}"
        " --device {resources.device} --device-batch-size {resources.device_batch_size}"
        " --execution {resources.execution:q} --wandb {resources.wandb:q} --settings {params:q} 2>&1 | tee -i {log:q}"


if cfg.rl.enabled:

    rule rl:
        """Reinforcement learning with verifiable rewards."""
        input:
            init=layout.init("rl"),
            files=layout.task_files("rl"),
        output:
            directory(layout.checkpoint("rl")),
        log:
            f"{layout.run}/logs/rl.log",
        benchmark:
            f"{layout.run}/benchmarks/rl.tsv"
        priority: 10
        conda:
            ENVIRONMENT
        threads: 64
        resources:
            launch="python",
            gpu=0,
            device="cpu",
            device_batch_size=cfg.execution.device_batch_size,
            data=layout.data,
            execution=EXECUTION,
            wandb=WANDB,
        params:
            *settings("rl"),
        message:
            f"Reinforcement learning on {cfg.rl.task}: steps of {cfg.rl.prompts_per_step} problems"
            f" × {cfg.rl.samples_per_prompt} samples;"
            " launch `{resources.launch}`, GPUs {resources.gpu}, device batch {resources.device_batch_size}"
        shell:
            "{resources.launch} -m workflow_scripts.rl --out {output:q} --init {input.init:q} --data {resources.data:q}"
            " --device {resources.device} --device-batch-size {resources.device_batch_size}"
            " --execution {resources.execution:q} --wandb {resources.wandb:q} --settings {params:q} 2>&1 | tee -i {log:q}"
