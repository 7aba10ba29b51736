"""What the original DINO computes, from its description (arXiv 2203.03605).

Only for images without padding, at inference, from the maps of the backbone.
"""

import math

import torch
import torch.nn.functional as F
from mmcv.ops.multi_scale_deform_attn import (
    multi_scale_deformable_attn_pytorch,
)
from torch import Tensor

from .layouts import HEADS, LAYERS, QUERIES, WIDTH


class DinoReference:
    """Functions of an original state dict."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(
            x, self.state[f'{name}.weight'], self.state[f'{name}.bias']
        )

    def norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = self.state[f'{name}.weight'], self.state[f'{name}.bias']
        return F.layer_norm(x, (WIDTH,), weight, bias)

    def mlp(self, x: Tensor, name: str, length: int = 3) -> Tensor:
        for i in range(length):
            x = self.linear(x, f'{name}.layers.{i}')
            x = x.relu() if i < length - 1 else x
        return x

    def ffn(self, x: Tensor, layer: str, norm: str) -> Tensor:
        hidden = self.linear(x, f'{layer}.linear1').relu()
        return self.norm(
            x + self.linear(hidden, f'{layer}.linear2'), f'{layer}.{norm}'
        )

    def self_attention(self, x: Tensor, position: Tensor, name: str) -> Tensor:
        weight = self.state[f'{name}.in_proj_weight'].chunk(3)
        bias = self.state[f'{name}.in_proj_bias'].chunk(3)
        inputs = (x + position, x + position, x)
        query, key, value = (
            F.linear(*parts).unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for parts in zip(inputs, weight, bias, strict=True)
        )
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = mixed.transpose(1, 2).flatten(2)
        return self.linear(mixed, f'{name}.out_proj')

    def deformable_attention(
        self, query: Tensor, points: Tensor, value: Tensor, name: str
    ) -> Tensor:
        """Attend to points (N, Q, 2), or to boxes (N, Q, 4)."""
        sizes = torch.tensor(self.sizes)
        value = self.linear(value, f'{name}.value_proj')
        offsets = self.linear(query, f'{name}.sampling_offsets')
        offsets = offsets.unflatten(-1, (HEADS, len(sizes), 4, 2))
        weights = self.linear(query, f'{name}.attention_weights')
        weights = weights.unflatten(-1, (HEADS, -1)).softmax(-1)
        weights = weights.unflatten(-1, (len(sizes), 4))
        centre = points[:, :, None, None, None, :2]
        if points.shape[-1] == 2:
            scale = sizes.flip(1)[:, None]  # width, height
            places = centre + offsets / scale
        else:
            extent = points[:, :, None, None, None, 2:]
            places = centre + offsets / 4 * extent / 2
        out = multi_scale_deformable_attn_pytorch(
            value.unflatten(-1, (HEADS, -1)), sizes, places, weights
        )
        return self.linear(out, f'{name}.output_proj')

    def levels(self, maps: list[Tensor]) -> list[Tensor]:
        """Project the maps, and make a fourth from the last by stride."""
        out = []
        for i, x in enumerate([*maps, maps[-1]]):
            name = f'input_proj.{i}'
            stride = dict(stride=2, padding=1) if i == len(maps) else {}
            x = F.conv2d(
                x,
                self.state[f'{name}.0.weight'],
                self.state[f'{name}.0.bias'],
                **stride,
            )
            weight = self.state[f'{name}.1.weight']
            out.append(
                F.group_norm(x, 32, weight, self.state[f'{name}.1.bias'])
            )
        return out

    def __call__(self, maps: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits (N, Q, C) and boxes (N, Q, 4) of the last layer."""
        levels = self.levels(maps)
        self.sizes = [tuple(level.shape[-2:]) for level in levels]
        memory = torch.cat([x.flatten(2).mT for x in levels], 1)
        embed = self.state['transformer.level_embed']
        position = torch.cat(
            [
                sine_of_map(height, width) + embed[i]
                for i, (height, width) in enumerate(self.sizes)
            ]
        )
        points = torch.cat([grid(*size) for size in self.sizes])
        points = points.expand(len(memory), -1, -1)
        for i in range(LAYERS):
            layer = f'transformer.encoder.layers.{i}'
            attended = self.deformable_attention(
                memory + position, points, memory, f'{layer}.self_attn'
            )
            memory = self.norm(memory + attended, f'{layer}.norm1')
            memory = self.ffn(memory, layer, 'norm2')
        reference = self.proposals(memory, points)
        x = self.state['transformer.tgt_embed.weight']
        x = x.expand(len(memory), -1, -1)
        for i in range(LAYERS):
            layer = f'transformer.decoder.layers.{i}'
            query = self.mlp(
                sine_of_boxes(reference),
                'transformer.decoder.ref_point_head',
                2,
            )
            attended = self.self_attention(x, query, f'{layer}.self_attn')
            x = self.norm(x + attended, f'{layer}.norm2')
            attended = self.deformable_attention(
                x + query, reference, memory, f'{layer}.cross_attn'
            )
            x = self.norm(x + attended, f'{layer}.norm1')
            x = self.ffn(x, layer, 'norm3')
            before = inverse_sigmoid(reference)
            reference = (self.mlp(x, f'bbox_embed.{i}') + before).sigmoid()
        out = self.norm(x, 'transformer.decoder.norm')
        boxes = (self.mlp(out, f'bbox_embed.{i}') + before).sigmoid()
        return self.linear(out, f'class_embed.{i}'), boxes

    def proposals(self, memory: Tensor, points: Tensor) -> Tensor:
        """Boxes of the best places of the encoder (N, Q, 4)."""
        sizes = torch.cat(
            [
                torch.full((height * width, 2), 0.05 * 2**i)
                for i, (height, width) in enumerate(self.sizes)
            ]
        )
        anchors = torch.cat([points, sizes.expand_as(points)], -1)
        inside = ((anchors > 0.01) & (anchors < 0.99)).all(-1, keepdim=True)
        anchors = torch.logit(anchors).masked_fill(~inside, math.inf)
        x = self.linear(memory * inside, 'transformer.enc_output')
        x = self.norm(x, 'transformer.enc_output_norm')
        scores = self.linear(x, 'transformer.enc_out_class_embed').amax(-1)
        boxes = self.mlp(x, 'transformer.enc_out_bbox_embed') + anchors
        best = scores.topk(QUERIES, 1).indices[..., None].expand(-1, -1, 4)
        return boxes.gather(1, best).sigmoid()


def inverse_sigmoid(x: Tensor) -> Tensor:
    return torch.logit(x.clamp(0, 1), 1e-3)


def grid(height: int, width: int) -> Tensor:
    """Relative centres of the cells of a map (HW, 2), x first."""
    y, x = torch.meshgrid(
        (torch.arange(height) + 0.5) / height,
        (torch.arange(width) + 0.5) / width,
        indexing='ij',
    )
    return torch.stack([x, y], -1).flatten(0, 1)


def sine(x: Tensor, temperature: float, number: int) -> Tensor:
    """Sines and cosines in turn of angles (...,), as (..., number)."""
    powers = temperature ** (torch.arange(0, number, 2) / number)
    angles = x[..., None] / powers
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)


def sine_of_map(height: int, width: int) -> Tensor:
    """Positions of a map (HW, WIDTH), y first, temperature 20."""
    y, x = torch.meshgrid(
        torch.arange(1, height + 1) / (height + 1e-6),
        torch.arange(1, width + 1) / (width + 1e-6),
        indexing='ij',
    )
    parts = [sine(2 * math.pi * z, 20, WIDTH // 2) for z in (y, x)]
    return torch.cat(parts, -1).flatten(0, 1)


def sine_of_boxes(boxes: Tensor) -> Tensor:
    """Positions of boxes (N, Q, 512) in the order y, x, w, h."""
    parts = [
        sine(2 * math.pi * boxes[..., i], 10000, 128) for i in (1, 0, 2, 3)
    ]
    return torch.cat(parts, -1)
