"""The same kernels and executor in CUDA."""
