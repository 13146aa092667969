"""One head of a distilled model as a plain model: the other token stays, as a register that no head reads."""

from __future__ import annotations

from dataclasses import replace

import torch

from deitkit.errors import DeitkitError
from deitkit.models.load import LoadedModel
from deitkit.models.student import rebuild_student


def with_head(model: LoadedModel, head: str) -> LoadedModel:
    """The model that answers as this head alone does; "" and "fused" are the whole model, "class" that of a plain one.

    For the distillation head both tokens change places: a transformer does not see the order of its tokens.

    Raises:
        DeitkitError: a model with one head has no other.
    """
    if not model.student.distilled:
        if head in ("", "class"):
            return model
        raise DeitkitError(
            f"{model.origin} has one head, and no {head} head", value=head, choices=("class",),
            remedy=f"leave out :{head}; `deitkit distill` trains a model with both",
        )  # fmt: skip
    if head in ("", "fused"):
        return model
    state = dict(model.student.network.state_dict())
    tokens = [state.pop("dist_token"), state["cls_token"]]
    other = {key.removeprefix("head_dist."): state.pop(key) for key in list(state) if key.startswith("head_dist.")}
    if head == "distillation":
        state["cls_token"], state["reg_token"] = tokens
        state["pos_embed"] = torch.cat([state["pos_embed"][:, [1, 0]], state["pos_embed"][:, 2:]], dim=1)
        state |= {f"head.{key}": value for key, value in other.items()}
    else:
        state["reg_token"] = tokens[0]
    architecture = model.student.architecture.replace("_distilled", "")
    student = rebuild_student(architecture, {**model.student.arguments, "reg_tokens": 1})
    student.network.load_state_dict(state)
    return replace(model, student=student.eval(), info=replace(model.info, fusion="softmax"))
