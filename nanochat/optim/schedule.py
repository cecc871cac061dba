"""Learning rate and momentum over the steps of a plan: pure functions, so that a resumed run follows the same line."""

from nanochat.model.scaling import Plan


def lr_multiplier(plan: Plan, step: int) -> float:
    """Factor on the peak learning rates at `step` (0-based): linear up, flat, linear down to `final_lr_ratio`."""
    if step < plan.warmup_steps:
        return (step + 1) / plan.warmup_steps
    left = plan.steps - step
    if left > plan.warmdown_steps:
        return 1.0
    # as a distance from 1, so that rounding cannot make it rise
    return 1.0 - (1.0 - left / plan.warmdown_steps) * (1.0 - plan.final_lr_ratio)


def momentum(plan: Plan, step: int) -> float:
    """Muon's momentum at `step`: rises linearly, since early gradients are soon out of date."""
    share = min(1.0, step / plan.momentum_warmup_steps) if plan.momentum_warmup_steps else 1.0
    return plan.momentum_start + share * (plan.momentum - plan.momentum_start)
