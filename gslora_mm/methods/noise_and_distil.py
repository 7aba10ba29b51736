import re
from typing import Literal

import torch
from torch import Tensor, nn

from gslora_mm.registry import METHODS
from gslora_mm.utils import ConfigError
from .counterfactual_distillation import CounterfactualDistillation
from .retrain import initial_model
from .settings import NonNegative, PerStep, Positive, Seed, Share

#: Weights of a detector that say where things are, and not what: its boxes,
#: its queries, and where its decoder looks.
WHERE = 'reg_branches|query_embedding|reference_points|decoder.*offsets'
#: Defaults by whether there is a background, so that objects can be painted
#: over: of a classifier, all that a teacher says tells what was forgotten.
DEFAULTS = {
    True: dict(noise=0.4, w_hold=2.0, w_layers=3.0),
    False: dict(noise=0.8, w_hold=0.0, w_layers=0.0),
}
#: Added to seeds: those that MMEngine draws are below it, and so are those
#: that people choose.
APART = 2**31


@METHODS.register_module()
class NoiseAndDistil(CounterfactualDistillation):
    r"""Weights mixed with initial ones, and distilled.

    .. math:: w \leftarrow (1 - a)\, w + a\, w_{init}

    before the first iteration, less in the trunk, wholly in the rows of the
    classes to forget in class layers, and not where a weight says where a
    thing is rather than what; then the loss of
    :class:`CounterfactualDistillation`, with the model as it was as teacher.
    The initial weights are others than those that the model's own training
    began with: the way back to these is one that a few iterations go again.
    After "Distillation Robustifies Unlearning" (UNDO, Lee et al., 2025,
    https://arxiv.org/abs/2506.06278): a model that was only taught not to
    say something is taught back in a few iterations, one that was distilled
    into damaged weights never had what its teacher did not show. What is to
    be forgotten is kept from the student by its counterfactual teacher, not
    by a teacher that has forgotten before. In what the student is held to, it
    is given no probability, in any query of any decoder layer.

    Images count alike, in whichever half they are. Of a classifier those to
    retain alone are learned from, and unless told otherwise by their labels
    alone: what a teacher says of an image tells what was forgotten, whatever
    it leaves unsaid.

    It is for the level *weights*, and costs: all weights are trained, for
    about half of the epochs that training took, and what is retained comes
    back as far as images and iterations allow. Give it all images
    (``forgetting.retain_share = 1.0``, ``forget_share = 1.0``).

    Args:
        noise: a, the share of the initial weights. None, the default, is 0.4
            for what has a background, and 0.8 for a classifier.
        noise_of_trunk: a in the trunk of a detector, which takes longest to
            be found again.
        kept: Regular expression that is searched in the names of weights;
            those found keep theirs, and are trained all the same. None for
            none.
        w_forget: What an image to forget counts beside one to retain. More of
            it leaves less in the encoder of a detector, and less of what is
            retained.
        seed: Of the initial weights, which are not those that a training
            with this seed begins with.
        alpha_s, warmup_iters, warmup_epochs, sparsity, loss_structure: As in
            :class:`CounterfactualDistillation`.
        w_hold, w_layers: As there. None, the default, is 2 and 3 for what
            has a background, and 0 for a classifier.
        beta, margin, w_labels, unit: As there. A classifier has no
            ``overshoot``.
        teacher_of: As there.
    """

    name = 'noise_and_distil'
    level = 'weights'
    needs = ('forget', 'retain')
    # Statistics of normalisations have to be found anew.
    in_evaluation_mode = False
    noise: Share | None = None
    noise_of_trunk: Share = 0.2
    kept: str | None = WHERE
    w_forget: PerStep[Positive] = 1.0
    seed: Seed = 0
    w_layers: PerStep[NonNegative | None] = None
    w_hold: PerStep[NonNegative | None] = None
    w_labels: PerStep[NonNegative] = 2.0
    # A damaged model is far from everything.
    unit: Literal['change', 'variance'] = 'variance'
    beta: PerStep[NonNegative] = 0.0
    ruled_out = True

    def __post_init__(self):
        super().__post_init__()
        try:
            re.compile(self.kept or '')
        except re.error as error:
            raise ConfigError(
                'method.kept', self.kept, f'no regular expression: {error}'
            ) from error

    def setup(self, model):
        super().setup(model)
        if model.groups:
            raise ConfigError(
                'adapter',
                valid='must be None for NoiseAndDistil: all weights are '
                'mixed with initial ones, and trained',
            )
        state = model.model.state_dict()
        # What the teacher is made of.
        self.start = {name: value.clone() for name, value in state.items()}
        seed = (self.seed + APART) % 2**32
        fresh = initial_model(model.stock_config, seed)
        shares = {name: self.noise_of_trunk for name in model.task.trunk}
        for name, default in DEFAULTS[model.task.has_background].items():
            if getattr(self, name) is None:
                setattr(self, name, default)
        mix_with(model.model, fresh, self.noise, shares, self.kept)
        self.fresh_layers = model.task.class_layers(fresh)

    def prepare(self, model, dataset):
        self.weights = self.start
        super().prepare(model, dataset)
        if not (self.w_layers or self.w_hold or self.w_labels or self.beta):
            raise ConfigError(
                'method.w_labels',
                self.w_labels,
                'leaves nothing to learn from: w_hold and w_layers are 0 for '
                'a classifier; give one of the three a weight',
            )
        rows = self.gone.nonzero().flatten()
        own = model.task.class_layers(model.model)
        for layer, fresh in zip(own, self.fresh_layers, strict=True):
            draw_anew(layer, fresh, rows)

    def class_means(self, model, dataset):
        return None

    def teaches(self, half):
        # Less the mean of its class, an image of a classifier still shows
        # all that tells it from others of its class, and so what it is of;
        # and so does what the teacher says of all other classes there.
        is_shown = self.can_paint or half.role == 'retain'
        return is_shown and bool(self.w_hold or self.w_layers)

    def losses(self, forget, retain):
        halves = [
            half
            for half in (forget, retain)
            if len(half)
            and (self.beta or self.teaches(half) or half.role == 'retain')
        ]
        weights = [self.images(half) for half in halves]
        for half, weight in zip(halves, weights, strict=True):
            terms = self.terms(half)
            loss = f'loss_{half.role}'
            share = weight * len(halves) / sum(weights)
            yield {**terms, loss: terms[loss] * share}

    def images(self, half):
        """What a half counts, in images to retain."""
        is_forget = half.role == 'forget'
        return len(half) * (self.w_forget if is_forget else 1.0)

    def carried_state(self):
        return {'gone': self.gone}


@torch.no_grad()
def draw_anew(layer: nn.Module, fresh: nn.Module, rows: Tensor) -> None:
    """Give some rows of a class layer the weights of another one.

    Args:
        layer (nn.Module): Changed in place.
        fresh (nn.Module): The other one, of the same shapes.
        rows (Tensor): Which ones, shape (K, ).
    """
    others = dict(fresh.named_parameters())
    for name, weight in layer.named_parameters():
        weight[rows] = others[name][rows].to(weight)


@torch.no_grad()
def mix_with(
    model: nn.Module,
    fresh: nn.Module,
    share: float,
    shares: dict[str, float],
    kept: str | None,
) -> None:
    """Mix weights with those of another model of the same architecture.

    Running statistics of normalisations whose weights are mixed begin anew.

    Args:
        model (nn.Module): Changed in place.
        fresh (nn.Module): The other one.
        share (float): Share of the other one's weights.
        shares (dict[str, float]): The same of some child modules, by name.
        kept (str, optional): Regular expression; weights whose names it is
            found in stay as they are.
    """
    others = dict(fresh.named_parameters())
    for name, module in model.named_modules():
        mixed = False
        own = shares.get(name.split('.')[0], share)
        for key, weight in module.named_parameters(name, recurse=False):
            if kept is None or not re.search(kept, key):
                weight.lerp_(others[key].to(weight), own)
                mixed = True
        if mixed and own and hasattr(module, 'reset_running_stats'):
            module.reset_running_stats()
