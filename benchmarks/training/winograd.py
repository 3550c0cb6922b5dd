"""3 × 3 convolutions by fewer multiplications: Winograd's F(2 × 2, 3 × 3) and F(4 × 4, 3 × 3).

Lavin & Gray, *Fast algorithms for convolutional neural networks*, CVPR 2016. A tile of m × m outputs reads a square
d of inputs, m + 2 a side. Seen as polynomials, d and the kernel g are given by their values at as many points in
each direction, and these are multiplied. With m = 4 that takes 36 products, where sums over positions take 144, and
with m = 2 16 instead of 36:

    Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A

Over channels it is one product of matrices for each pair of points, with all tiles of a batch. The outcome is the
convolution's but for rounding. In float32 that is less with m = 2 than sums over positions have, and two to three
times as much with m = 4. Of points that Barabasz, Anderson, Soodhalter & Gregg study (*Error analysis and improving
the accuracy of Winograd convolution for deep neural networks*, ACM TOMS 2020), ½ and −2 were found to leave a third
less of it than the usual 2 and −2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# By a map's side, the fewest channels, in and out together, with which a step is faster: in float32 as was found on
# AVX2, in bfloat16 as to be expected of AMX. The 4 × 4 tiles of larger maps round too much for the latter.
CHANNELS = {torch.float32: {4: 256, 8: 192, 16: 192}, torch.bfloat16: {4: 256}}
POINTS = (0.0, -1.0, 1.0, 0.5, -2.0)  # and infinity, where the leading coefficient is a polynomial's value
KERNEL = 3  # side


def serves(convolution: nn.Conv2d, side: int, precision: torch.dtype) -> bool:
    """Whether a convolution can be computed so on maps of a side, and gains by it, by the products' precision."""
    shape = (convolution.kernel_size, convolution.stride, convolution.padding, convolution.dilation)
    usual = shape == ((KERNEL, KERNEL), (1, 1), (1, 1), (1, 1)) and convolution.padding_mode == "zeros"
    channels = convolution.in_channels + convolution.out_channels
    return usual and convolution.groups == 1 and channels >= CHANNELS[precision].get(side, math.inf)


def install(convolution: nn.Conv2d, side: int, precision: torch.dtype) -> None:
    """Compute a convolution so on maps of a side from now on; a frozen one's kernels are transformed only once."""
    weight, tiling = convolution.weight, Tiling.of(side)
    # In this order kernels are transformed, and their gradients back, without being copied.
    weight.data = weight.data.permute(2, 3, 1, 0).contiguous().permute(3, 2, 0, 1)
    kernels = None if weight.requires_grad else transformed(weight, tiling).to(precision)
    compute = partial(convolve, tiling=tiling, kernels=kernels)
    convolution._conv_forward = compute  # type: ignore[method-assign]


@dataclass(frozen=True)
class Tiling:
    """A map cut into tiles of m × m, and the transforms of one direction, in float64.

    Attributes:
        to_points: from positions to the points of each tile, `[points · tiles, S]`.
        to_positions: and back, `[S, points · tiles]`.
        of_kernels: from a kernel's positions to the points, `[points, 3]`.
    """

    to_points: Tensor
    to_positions: Tensor
    of_kernels: Tensor

    @property
    def points(self) -> int:
        """m + 2, in one direction."""
        return len(self.of_kernels)

    @classmethod
    def of(cls, side: int) -> Tiling:
        """That of maps of a side, a multiple of 4."""
        tile = min(side // 2, 4)  # four tiles at least, for otherwise products are of few rows
        tiles, points = side // tile, tile + KERNEL - 1
        # Sums over positions are a product of polynomials transposed: what finds its coefficients transforms maps.
        b, a = torch.linalg.inv(_values(points, points)).T, _values(points, tile)
        to_points = torch.zeros(points, tiles, side + KERNEL - 1, dtype=torch.float64)
        to_positions = torch.zeros(side, points, tiles, dtype=torch.float64)
        for k in range(tiles):
            first = k * tile
            to_points[:, k, first : first + points] = b
            to_positions[first : first + tile, :, k] = a.T
        unpadded = to_points[..., 1:-1]  # the zeros around a map need no product
        return cls(unpadded.flatten(0, 1), to_positions.flatten(1), _values(points, KERNEL))


def convolve(
    images: Tensor, weight: Tensor, bias: Tensor | None, tiling: Tiling, kernels: Tensor | None = None
) -> Tensor:
    """`F.conv2d(images, weight, bias, padding=1)`, by torch itself where nothing learns from it.

    Under autocast only products are in its precision.

    Args:
        images: `[B, C, S, S]`.
        weight: `[D, C, 3, 3]`.
        bias: `[D]`.
        tiling: of maps of side S.
        kernels: the transformed weight, if it is known in the products' precision.

    Returns:
        `[B, D, S, S]`, channels last.
    """
    # A student's figures are those of its weights in torch itself.
    if kernels is None and not torch.is_grad_enabled():
        return F.conv2d(images, weight, bias, padding=1)
    precision = _precision(weight)
    with torch.autocast(images.device.type, enabled=False):
        if kernels is None or kernels.dtype != precision:
            kernels = transformed(weight, tiling).to(precision)
        values = _to_points(_exact(images).permute(0, 2, 3, 1), tiling)
        sums = _to_positions(_exact(values.to(precision) @ kernels), tiling, len(images))
        sums = sums if bias is None else sums + bias
    return sums.to(precision).permute(0, 3, 1, 2)


def _precision(weight: Tensor) -> torch.dtype:
    """That of products with a weight: autocast's, if it is at work."""
    device = weight.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype


def transformed(weight: Tensor, tiling: Tiling) -> Tensor:
    """Kernels `[D, C, 3, 3]` at pairs of points: G g Gᵀ, `[points², C, D]`, in float32 at least."""
    width, channels = weight.shape[:2]
    flat = _exact(weight).permute(2, 3, 1, 0).reshape(KERNEL, -1)
    g = tiling.of_kernels.to(flat.dtype)
    values = (g @ flat).view(tiling.points, KERNEL, -1)
    return (g @ values).view(-1, channels, width)


def _exact(values: Tensor) -> Tensor:
    """Values in a precision in which they are added up: float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _to_points(maps: Tensor, tiling: Tiling) -> Tensor:
    """Maps `[B, S, S, C]` at pairs of points, `[points², tiles² · B, C]`: along columns first, then along rows."""
    num_images, side, _, channels = maps.shape
    transform = tiling.to_points.to(maps.dtype)
    columns = transform @ maps.reshape(num_images, side, -1)
    columns = columns.view(num_images, tiling.points, -1, side, channels).permute(1, 3, 2, 0, 4)
    return (transform @ columns.reshape(tiling.points, side, -1)).view(tiling.points**2, -1, channels)


def _to_positions(products: Tensor, tiling: Tiling, num_images: int) -> Tensor:
    """And back: `[points², tiles² · B, D]` to `[B, S, S, D]`."""
    side, width = len(tiling.to_positions), products.shape[-1]
    transform = tiling.to_positions.to(products.dtype)
    rows = transform @ products.view(tiling.points, transform.shape[1], -1)
    rows = rows.view(tiling.points, side, -1, num_images, width).permute(3, 0, 2, 1, 4)
    maps = transform @ rows.reshape(num_images, transform.shape[1], -1)
    return maps.view(num_images, side, side, width)


def _values(num_points: int, num_coefficients: int) -> Tensor:
    """From a polynomial's coefficients to its values at the first points and infinity, `[points, coefficients]`."""
    finite = [[point**k for k in range(num_coefficients)] for point in POINTS[: num_points - 1]]
    infinite = [0.0] * (num_coefficients - 1) + [1.0]
    return torch.tensor([*finite, infinite], dtype=torch.float64)
