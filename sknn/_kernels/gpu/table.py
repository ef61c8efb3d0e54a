"""Which functions an opcode has on a GPU; one that is not here has no GPU side."""

from typing import NamedTuple

from sknn._kernels.gpu import images, kernels, narrow, norm, sparse
from sknn._kernels.gpu.source import ELEMENTWISE_LOSSES
from sknn._kernels.ops import Opcode


def always(n):
    """The same number for every op."""
    return lambda op: n


class Kernels(NamedTuple):
    """Of one opcode, by role.

    The gradient, which runs beside the backward pass, is None if there are no parameters or
    backward makes theirs. ``n_sums(op)`` says of how many gradients it keeps column sums,
    ``workspace(op, n, itemsize)`` how many bytes forward and backward need for n rows, ``whole``
    whether training needs all rows of a minibatch at once.
    """

    forward: object
    backward: object
    gradient: object = None
    n_sums: object = always(0)
    workspace: object = lambda op, n, itemsize: 0
    whole: bool = False


TABLE = {
    Opcode.DENSE: Kernels(
        narrow.dense_forward, narrow.dense_backward, narrow.dense_gradient, narrow.n_sums
    ),
    Opcode.DENSE_CSR: Kernels(
        sparse.dense_csr_forward, kernels.dense_backward, sparse.dense_csr_gradient, always(1)
    ),
    Opcode.LAYER_NORM: Kernels(
        norm.layer_norm_forward, norm.layer_norm_backward, norm.layer_norm_gradient, always(2)
    ),
    Opcode.BATCH_NORM: Kernels(
        norm.batch_norm_forward, norm.batch_norm_backward, workspace=norm.batch_norm_workspace,
        whole=True,
    ),
    Opcode.DROPOUT: Kernels(kernels.dropout_forward, kernels.dropout_backward),
    Opcode.ACTIVATE: Kernels(kernels.add_forward, kernels.add_backward),
    Opcode.ADD: Kernels(kernels.add_forward, kernels.add_backward),
    Opcode.COPY: Kernels(kernels.copy_forward, kernels.copy_backward),
    Opcode.CONV: Kernels(
        images.conv_forward, images.conv_backward, images.conv_gradient, always(1),
        workspace=images.conv_workspace,
    ),
    Opcode.MAX_POOL: Kernels(images.max_pool_forward, images.max_pool_backward),
    Opcode.AVERAGE_POOL: Kernels(images.average_pool_forward, images.average_pool_backward),
    Opcode.SOFTMAX_LOG_LOSS: Kernels(narrow.softmax_forward, kernels.loss_backward),
    **dict.fromkeys(ELEMENTWISE_LOSSES, Kernels(kernels.loss_forward, kernels.loss_backward)),
}  # fmt: skip
