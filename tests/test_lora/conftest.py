import pytest
import torch
from torch import Tensor

from tests.test_lora.helpers import Toy


@pytest.fixture
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().eval()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, 7, 8, generator=torch.Generator().manual_seed(0))
