"""Computing a block of layers in horizontal strips, so that the values between its layers stay in the processor's cache.

A 512-pixel layer of 64 channels is 64 MB; every small step over it (scale, add noise, leaky ReLU) waits for memory, not for
arithmetic. Cut into strips of a few rows, the same steps run about twice as fast, forward and backward (`make bench`). The backward
pass computes each strip again (Chen et al. 2016, arXiv:1604.06174), which also saves the memory.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FLOATS = 2**20  # numbers in the widest layer of one strip: 4 MB, measured best on two cores

# A block of layers computes output rows [start, stop) from its whole input and some tensors it depends on.
Rows = Callable[[Tensor, int, int, tuple[Tensor, ...]], Tensor]
# The input rows [start, stop) that output rows [start, stop) depend on.
Needs = Callable[[int, int], tuple[int, int]]


def in_strips(rows: Rows, needs: Needs, x: Tensor, tensors: tuple[Tensor, ...], height: int, strip_rows: int) -> Tensor:
    """`rows` over the full height, `strip_rows` at a time: [n, c, h, w] -> [n, c', height, w'].

    `tensors` are all that `rows` depends on besides x; gradients reach x and each of them. Second derivatives do not.
    """
    return _Strips.apply(rows, needs, height, strip_rows, x, *tensors)


class _Strips(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # strips are for CPUs
    def forward(ctx, rows: Rows, needs: Needs, height: int, strip_rows: int, x: Tensor, *tensors: Tensor) -> Tensor:
        ctx.plan = (rows, needs, height, strip_rows)
        ctx.save_for_backward(x, *tensors)
        out = None
        for start in range(0, height, strip_rows):
            stop = min(start + strip_rows, height)
            strip = rows(_slice(x, needs(start, stop)), start, stop, tensors)
            if out is None:
                scale = strip.shape[2] // (stop - start)  # a block may enlarge its rows, as the last one does
                out = torch.empty((strip.shape[0], height * scale, strip.shape[3], strip.shape[1]), dtype=strip.dtype, device=x.device)
                out = out.permute(0, 3, 1, 2)  # channels last: a strip is one piece of memory
            out[:, :, start * scale : stop * scale] = strip
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, needs, height, strip_rows = ctx.plan
        inputs = ctx.saved_tensors
        wanted = ctx.needs_input_grad[4:]
        totals = [torch.zeros_like(tensor) if want else None for tensor, want in zip(inputs, wanted, strict=True)]
        scale = grad.shape[2] // height
        for start in range(0, height, strip_rows):
            stop = min(start + strip_rows, height)
            span = needs(start, stop)
            with torch.enable_grad():
                pieces = [_slice(inputs[0], span).detach(), *(tensor.detach() for tensor in inputs[1:])]
                leaves = [piece.requires_grad_() for piece, want in zip(pieces, wanted, strict=True) if want]
                strip = rows(pieces[0], start, stop, tuple(pieces[1:]))
                gradients = iter(torch.autograd.grad(strip, leaves, grad[:, :, start * scale : stop * scale]))
            for index, total in enumerate(totals):
                if total is not None:
                    (_slice(total, span) if index == 0 else total).add_(next(gradients))
        return None, None, None, None, *totals


def _slice(x: Tensor, span: tuple[int, int]) -> Tensor:
    return x[:, :, span[0] : span[1]]
