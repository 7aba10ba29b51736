from .base import BaseMethod
from .counterfactual_distillation import CounterfactualDistillation
from .delete import DELETE
from .der import DER
from .der_pp import DERPP
from .ewc import EWC
from .fdr import FDR
from .fg_oriu import FGOrIU
from .fine_tune import FineTune
from .gradient_ascent import GradientAscent
from .gs_lora import GSLoRA
from .gs_lora_pp import GSLoRAPP
from .ingredients.proximal import group_soft_threshold
from .knowledge_swapping import KnowledgeSwapping
from .l2 import L2
from .lirf import LIRF
from .lwf import LwF
from .mas import MAS
from .masked_distillation import MaskedDistillation
from .neg_grad_plus import NegGradPlus
from .noise_and_distil import NoiseAndDistil
from .random_drop import RandomDrop
from .random_labels import RandomLabels
from .retrain import Retrain
from .scrub import SCRUB
from .scrub_s import SCRUBS
from .settings import Count, NonNegative, PerStep, Positive, Seed, Share

__all__ = [
    'BaseMethod',
    'Count',
    'CounterfactualDistillation',
    'DELETE',
    'DER',
    'DERPP',
    'EWC',
    'FDR',
    'FGOrIU',
    'FineTune',
    'GSLoRA',
    'GSLoRAPP',
    'GradientAscent',
    'KnowledgeSwapping',
    'L2',
    'LIRF',
    'LwF',
    'MAS',
    'MaskedDistillation',
    'NegGradPlus',
    'NonNegative',
    'NoiseAndDistil',
    'PerStep',
    'Positive',
    'RandomDrop',
    'RandomLabels',
    'Retrain',
    'SCRUB',
    'SCRUBS',
    'Seed',
    'Share',
    'group_soft_threshold',
]
