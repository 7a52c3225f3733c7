"""Compiled kernels: `kernels.h` is their one C ABI, `build` compiles and loads them, `bindings` calls them."""
