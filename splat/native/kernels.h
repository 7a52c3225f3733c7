// The one C ABI of the compiled kernels. cpu/*.cpp and cuda/*.cu implement these names.
//
// Rules: plain pointers to densely packed arrays; sizes before outputs; a `stream` last argument (a CUDA stream, ignored
// on the CPU); every function returns 0, or another value and leaves a sentence for splat_last_error(). Nothing here
// allocates: where scratch memory is needed, a *_workspace query says how many bytes the caller brings. The same input
// gives the same output bit for bit, whatever the number of threads.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
#define SPLAT_API extern "C" __attribute__((visibility("default")))
#else
#define SPLAT_API
#endif

// ---------------------------------------------------------------------------------------------------------- the library

// The sentence of the last failure on this thread ("" when there was none).
SPLAT_API const char* splat_last_error(void);

// How many threads a kernel may use (at least 1). Takes effect with the next call.
SPLAT_API int splat_set_threads(int threads);
SPLAT_API int splat_get_threads(void);
