"""Which functions an opcode has on a GPU; one that is not here has no GPU side."""

from typing import NamedTuple

from sknn._kernels.gpu import images, kernels
from sknn._kernels.gpu.source import ELEMENTWISE_LOSSES
from sknn._kernels.ops import Opcode


class Kernels(NamedTuple):
    """Of one opcode, by role; the gradient is None if it has no parameters.

    ``n_sums`` says of how many gradients it keeps column sums.
    """

    forward: object
    backward: object
    gradient: object = None
    n_sums: int = 0


TABLE = {
    Opcode.DENSE: Kernels(
        kernels.dense_forward, kernels.dense_backward, kernels.dense_gradient, n_sums=1
    ),
    Opcode.LAYER_NORM: Kernels(
        kernels.layer_norm_forward, kernels.layer_norm_backward, kernels.layer_norm_gradient,
        n_sums=2,
    ),
    Opcode.DROPOUT: Kernels(kernels.dropout_forward, kernels.dropout_backward),
    Opcode.ACTIVATE: Kernels(kernels.add_forward, kernels.add_backward),
    Opcode.ADD: Kernels(kernels.add_forward, kernels.add_backward),
    Opcode.COPY: Kernels(kernels.copy_forward, kernels.copy_backward),
    Opcode.MAX_POOL: Kernels(images.max_pool_forward, images.max_pool_backward),
    Opcode.AVERAGE_POOL: Kernels(images.average_pool_forward, images.average_pool_backward),
    **dict.fromkeys(
        (Opcode.SOFTMAX_LOG_LOSS, *ELEMENTWISE_LOSSES),
        Kernels(kernels.loss_forward, kernels.loss_backward),
    ),
}  # fmt: skip
