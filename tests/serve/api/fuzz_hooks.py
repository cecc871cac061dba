"""What schemathesis is told beside the served description: what no description can say of a request."""

import schemathesis

MODELS = ("heart/sft", "heart/base", "sft")
VOCABULARY = 384


@schemathesis.hook
def before_call(context, case, kwargs):
    """A request of the right shape becomes one that means something; a wrong one stays as it is."""
    if case.path_parameters and len(str(case.path_parameters["id"])) % 2:
        case.path_parameters["id"] = MODELS[0]
    body = case.body
    if not case.meta.generation.mode.is_positive or not isinstance(body, dict):
        return
    case.body = body = dict(body)
    if len(str(body)) % 8:  # else it is a model that is not there
        body["model"] = MODELS[len(str(body)) % len(MODELS)]
    if "messages" in body:
        _order(body)
        if body.get("max_tokens") is None and body.get("max_completion_tokens") is None:
            body["max_tokens"] = 16  # else every answer would be as long as the context
    if body.get("top_logprobs"):
        body["logprobs"] = True
    if body.get("best_of"):
        body["best_of"] = body.get("n") or 1
    if "prompt" in body:
        body["prompt"] = _known(body["prompt"])


def _order(body):
    """Instructions come first, and the last word is the user's."""
    messages = body["messages"]
    first = [message for message in messages if message["role"] in ("system", "developer")]
    rest = [message for message in messages if message not in first]
    asked = {"role": "user", "content": "What is 12 + 30?"}
    body["messages"] = [*first, *([asked] if rest and rest[0]["role"] == "assistant" else []), *rest]
    if body["messages"][-1]["role"] != "user":
        body["messages"].append(asked)


def _known(prompt):
    """The same prompt with ids that the models have."""
    if isinstance(prompt, list):
        return [_known(one) for one in prompt]
    return int(prompt) % VOCABULARY if isinstance(prompt, int | float) else prompt
