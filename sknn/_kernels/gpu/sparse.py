"""What DENSE_CSR launches: y = activation(x W + b) for rows x in compressed sparse row format.

Backward is `dense_backward`: the rows are an input of the program and have no gradient.
"""

from sknn._kernels.gpu.kernels import bias_gradient, grid
from sknn._kernels.gpu.source import formula, kernel_name

# of sparse.cu
CSR_COLUMNS = 8


def dense_csr_forward(run, op):
    y = run.value(op.y)
    shape = grid(run.n, y.columns)
    run.driver.launch(
        kernel_name("csr_dense", formula(op.activation), run.dtype), shape.blocks, y.address,
        *run.csr, run.parameter(op, 0).address, run.parameter(op, 1).address, *run.rows, run.n,
        y.columns, y.stride, shape.lanes,
    )  # fmt: skip


def dense_csr_gradient(run, op):
    """dW = x' dy, and db = sum of dy; added to what is there if the run says so"""
    trains_weights, trains_biases, *_ = op.trains
    if trains_biases:
        bias_gradient(run, op)
    if not trains_weights:
        return
    dW, dy = run.parameter_gradient(op, 0), run.gradient(op.y)
    run.driver.launch(
        kernel_name("csr_gradient", run.dtype), -(-dW.rows // CSR_COLUMNS), dW.address, *run.csr,
        *run.rows, dy.address, run.n, dW.rows, dW.columns, dy.stride,
        grid(run.n, dW.columns).lanes, int(run.accumulate),
    )  # fmt: skip
