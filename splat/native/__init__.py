"""Compiled kernels: `kernels.h` is their C ABI, `build` and `build_cuda` compile and load them, `bindings` calls them,
and `ops` has functions of tensors."""
