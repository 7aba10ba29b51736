import torch
from torch import Tensor, nn

from gslora_mm.lora.find import transformer_blocks
from ..object_rows import ObjectRows, recorded


def block_depths(model: nn.Module) -> dict[str, nn.Module]:
    """Transformer blocks of a classifier by depth, such as ``'layers.0'``."""
    modules = dict(model.named_modules())
    return {
        block.name.removeprefix('backbone.'): modules[block.name]
        for block in transformer_blocks(model)
    }


def classification_rows(model: nn.Module, batch: dict) -> ObjectRows:
    """Read the images of a batch at several depths.

    Depths are the patch embedding, each Transformer block and the embedding
    that the class layer reads. What a block gives is averaged over its
    tokens, the class token among them.

    Args:
        model (nn.Module): An ``ImageClassifier`` of mmpretrain, in
            evaluation mode.
        batch (dict): A batch of a data loader.
    """
    data = model.data_preprocessor(batch, training=False)
    depths = block_depths(model)
    patches = getattr(model.backbone, 'patch_embed', None)
    if patches is not None:
        depths = {'patch_embed': patches, **depths}
    with recorded(depths) as outputs:
        embedded = model.extract_feat(data['inputs'])
    embedding = model.head.pre_logits(embedded)
    logits = model.head(embedded)
    probabilities = logits.softmax(1)
    features = {
        name: _mean_over_tokens(outputs[name], len(logits))
        for name in depths
        if name in outputs
    }
    labels = torch.cat([each.gt_label for each in data['data_samples']])
    return ObjectRows(
        labels,
        {**features, 'embedding': embedding},
        logits,
        probabilities,
        probabilities.amax(1),
        probabilities.argmax(1) == labels.to(logits.device),
    )


def _mean_over_tokens(output: Tensor, num_images: int) -> Tensor:
    """Mean over all positions, shape (N, C).

    Args:
        output (Tensor): Tokens (N, tokens, C), or maps (N, C, H, W).
        num_images (int): N.
    """
    if output.ndim == 4 and output.shape[0] == num_images:
        return output.mean((2, 3))
    return output.reshape(num_images, -1, output.shape[-1]).mean(1)
