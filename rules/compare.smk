"""Compare.
INPUTS   two checkpoints and their evaluations, by --config compare='{first: results/a/sft, second: results/b/sft}'
OUTPUTS  results/<run>/compare/<what>/: compare.md, compare.csv, compare.svg; compare/eval/: evaluations made for it
RERUN    when an evaluation changes; not part of the default target
"""

from nanochat.config import Comparison

try:
    comparison = (
        Comparison.of(layout) if cfg.compare.first or "compare" in sys.argv else None
    )
except ConfigError as error:
    # Whoever asks for another target is not stopped by what the configuration says of this one.
    comparison = None
    if "compare" in sys.argv:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)

if comparison:

    rule compare:
        """Two checkpoints on the items both were evaluated on: table and plot."""
        input:
            first=comparison.first.checkpoint,
            second=comparison.second.checkpoint,
            first_evaluation=comparison.first.evaluation,
            second_evaluation=comparison.second.evaluation,
        output:
            directory(comparison.out),
        log:
            f"{layout.run}/logs/compare.log",
        benchmark:
            f"{layout.run}/benchmarks/compare.tsv"
        conda:
            ENVIRONMENT
        params:
            *settings("compare"),
        message:
            f"Comparing {comparison.second.checkpoint} with {comparison.first.checkpoint}: {comparison.out}/compare.md"
        shell:
            "python -m workflow_scripts.compare --out {output:q} --first {input.first:q} --second {input.second:q}"
            " --first-evaluation {input.first_evaluation:q} --second-evaluation {input.second_evaluation:q}"
            " --settings {params:q} 2>&1 | tee -i {log:q}"

    rule compare_eval:
        """Chat tasks of a checkpoint that has no evaluation beside it, with the settings of this run."""
        input:
            model=lambda wildcards: comparison.missing[wildcards.name].checkpoint,
            files=layout.task_files("chat_eval"),
        output:
            directory(f"{layout.run}/compare/eval/{{name}}"),
        log:
            f"{layout.run}/logs/compare_eval_{{name}}.log",
        benchmark:
            f"{layout.run}/benchmarks/compare_eval_{{name}}.tsv"
        conda:
            ENVIRONMENT
        threads: chat_eval_threads
        resources:
            launch="python",
            gpu=0,
            device="cpu",
            device_batch_size=cfg.execution.device_batch_size,
            data=layout.data,
            stage=lambda wildcards: comparison.missing[wildcards.name].stage,
        params:
            *settings("chat_eval"),
        message:
            "Evaluating {input.model} for the comparison;"
            " launch `{resources.launch}`, GPUs {resources.gpu}, device batch {resources.device_batch_size}"
        shell:
            "{resources.launch} -m workflow_scripts.chat_eval --stage {resources.stage} --out {output:q}"
            " --model {input.model:q} --data {resources.data:q} --device {resources.device}"
            " --device-batch-size {resources.device_batch_size} --settings {params:q} 2>&1 | tee -i {log:q}"
