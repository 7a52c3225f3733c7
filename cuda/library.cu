#include "library.cuh"

#include <stdarg.h>
#include <stdio.h>

namespace splat {
namespace {

thread_local char last_error[512] = "";
constexpr int SUMMERS = 256;

// One block per column: each thread sums every SUMMERS-th row, then the threads are added up pairwise.
__global__ void sum_column(int64_t rows, int columns, const double* in, double* out) {
    __shared__ double part[SUMMERS];
    double s = 0;
    for (int64_t i = threadIdx.x; i < rows; i += SUMMERS) s += in[i * columns + blockIdx.x];
    part[threadIdx.x] = s;
    for (int half = SUMMERS / 2; half; half /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    }
    if (threadIdx.x == 0) out[blockIdx.x] = part[0];
}

}  // namespace

int fail(const char* sentence, ...) {
    va_list arguments;
    va_start(arguments, sentence);
    vsnprintf(last_error, sizeof last_error, sentence, arguments);
    va_end(arguments);
    return 1;
}

int sum_rows(int64_t rows, int columns, const double* in, double* out, void* stream) {
    return launch("sum_rows", sum_column, dim3((unsigned)columns), SUMMERS, stream, rows, columns, in, out);
}

}  // namespace splat

SPLAT_API const char* splat_last_error(void) { return splat::last_error; }

// The GPU has its own idea of threads: any number is accepted, and one is reported.
SPLAT_API int splat_set_threads(int) { return 0; }
SPLAT_API int splat_get_threads(void) { return 1; }
