// L1 and structural similarity of an image and its target, and their gradient: the twin of splat/native/cpu/ssim.cpp.
//
// A block has 16 x 16 values of one channel and reads five more on every side into shared memory. The first kernel blurs
// four maps along rows and down columns, and leaves the loss's derivatives by three of them; the second blurs those, which
// gives the gradient; a third takes it through the affine map of colours.
#include "library.cuh"
#include "order.cuh"
#include "shared/similarity.h"

namespace splat {
namespace {

constexpr int SIDE = 16, WIDE = SIDE + 2 * R, THREADS = SIDE * SIDE;
enum { L1, DSSIM, SQUARES, COUNTED, LOSSES };

struct Job {
    int32_t height, width, channels;
    const float* image;
    const uint8_t* target_bytes;
    const float* target_floats;
    const uint8_t* weight;
    float l1_weight, dssim_weight;
    const float* affine;
    float* gradient;
    float* by[3];     // derivatives by the blurred maps, each [h w c]
    double* partial;  // [blocks LOSSES]

    __device__ bool inside(int32_t x, int32_t y) const { return x >= 0 && y >= 0 && x < width && y < height; }
    __device__ int64_t at(int32_t x, int32_t y, int32_t c) const {
        return ((int64_t)y * width + x) * channels + c;
    }
    __device__ float weight_at(int32_t x, int32_t y) const {
        return weight ? weight[(int64_t)y * width + x] * (1.0f / 255) : 1.0f;
    }
    // A pixel of weight 0 is black in both.
    __device__ void read(int32_t x, int32_t y, int32_t c, float& value, float& target) const {
        value = target = 0;
        if (!inside(x, y) || weight_at(x, y) == 0) return;
        const float* p = image + at(x, y, 0);
        value = affine ? affine[4 * c] * p[0] + affine[4 * c + 1] * p[1] + affine[4 * c + 2] * p[2] + affine[4 * c + 3]
                       : p[c];
        target = target_bytes ? target_bytes[at(x, y, c)] * (1.0f / 255) : target_floats[at(x, y, c)];
    }
    __device__ int64_t block() const {
        return ((int64_t)blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    }
    __device__ float scale() const { return 1.0f / ((float)height * (float)((int64_t)width * channels)); }
};

// Eleven taps around the middle of p, `step` apart.
__device__ float blurred(const float* p, int step) {
    float sum = window(0) * p[0];
#pragma unroll
    for (int k = 1; k <= R; ++k) sum += window(k) * (p[-k * step] + p[k * step]);
    return sum;
}

__global__ void __launch_bounds__(THREADS) compare(const __grid_constant__ Job job) {
    __shared__ float x[WIDE][WIDE], t[WIDE][WIDE], rows[4][WIDE][SIDE];
    const int32_t left = (int32_t)blockIdx.x * SIDE, top = (int32_t)blockIdx.y * SIDE, c = (int32_t)blockIdx.z;
    for (int i = threadIdx.x; i < WIDE * WIDE; i += THREADS)
        job.read(left - R + i % WIDE, top - R + i / WIDE, c, x[i / WIDE][i % WIDE], t[i / WIDE][i % WIDE]);
    __syncthreads();
    for (int i = threadIdx.x; i < WIDE * SIDE; i += THREADS) {
        const int row = i / SIDE, column = i % SIDE;
        float sums[4] = {};
#pragma unroll
        for (int k = -R; k <= R; ++k) {
            const float w = window(k < 0 ? -k : k), a = x[row][column + R + k], b = t[row][column + R + k];
            sums[0] += w * a, sums[1] += w * b, sums[2] += w * (a * a + b * b), sums[3] += w * (a * b);
        }
        for (int m = 0; m < 4; ++m) rows[m][row][column] = sums[m];
    }
    __syncthreads();
    const int column = threadIdx.x % SIDE, row = threadIdx.x / SIDE;
    const int32_t px = left + column, py = top + row;
    float found[1] = {};
    if (job.inside(px, py)) {
        vf maps[4], by[3];
        for (int m = 0; m < 4; ++m) maps[m] = blurred(&rows[m][row + R][column], SIDE);
        found[0] = dissimilarity(maps, job.weight_at(px, py), job.dssim_weight * job.scale(), by);
        if (job.gradient)
            for (int m = 0; m < 3; ++m) job.by[m][job.at(px, py, c)] = by[m];
    }
    double sum[1];
    block_sums<THREADS>(found, sum);
    if (threadIdx.x == 0) job.partial[job.block() * LOSSES + DSSIM] = sum[0];
}

__global__ void __launch_bounds__(THREADS) finish(const __grid_constant__ Job job, bool has_dssim) {
    __shared__ float maps[3][WIDE][WIDE], rows[3][WIDE][SIDE];
    const int32_t left = (int32_t)blockIdx.x * SIDE, top = (int32_t)blockIdx.y * SIDE, c = (int32_t)blockIdx.z;
    const int column = threadIdx.x % SIDE, row = threadIdx.x / SIDE;
    const int32_t px = left + column, py = top + row;
    vf by[3] = {};
    if (has_dssim && job.gradient) {
        for (int i = threadIdx.x; i < WIDE * WIDE; i += THREADS) {
            const int32_t ox = left - R + i % WIDE, oy = top - R + i / WIDE;
            for (int m = 0; m < 3; ++m)
                maps[m][i / WIDE][i % WIDE] = job.inside(ox, oy) ? job.by[m][job.at(ox, oy, c)] : 0.0f;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < WIDE * SIDE; i += THREADS)
            for (int m = 0; m < 3; ++m)
                rows[m][i / SIDE][i % SIDE] = blurred(&maps[m][i / SIDE][i % SIDE + R], 1);
        __syncthreads();
        for (int m = 0; m < 3; ++m) by[m] = blurred(&rows[m][row + R][column], SIDE);
    }
    float found[3] = {};
    if (job.inside(px, py)) {
        const float w = job.weight_at(px, py);
        float x, t;
        job.read(px, py, c, x, t);
        const float shown = clamp(x, 0, 1) - t;
        found[0] = w * abs(x - t);
        found[1] = w > 0 ? shown * shown : 0.0f;
        found[2] = w > 0 ? 1.0f : 0.0f;
        if (job.gradient)
            job.gradient[job.at(px, py, c)] = value_gradient(by, x, t, w, job.l1_weight * job.scale());
    }
    double sums[3];
    block_sums<THREADS>(found, sums);
    if (threadIdx.x != 0) return;
    double* out = job.partial + job.block() * LOSSES;
    out[L1] = sums[0], out[SQUARES] = sums[1], out[COUNTED] = sums[2];
    if (!has_dssim) out[DSSIM] = 0;
}

// `gradient` by A in + b becomes the gradient by in, A^T gradient, and the map's own is summed up.
__global__ void __launch_bounds__(THREADS)
    affine_backward(int64_t pixels, const float* affine, const float* image, float* gradient, double* partial) {
    const int64_t i = thread_number();
    float found[12] = {};
    if (i < pixels) {
        const float g[3] = {gradient[3 * i], gradient[3 * i + 1], gradient[3 * i + 2]};
        for (int j = 0; j < 3; ++j) {
            for (int k = 0; k < 3; ++k) found[4 * j + k] = g[j] * image[3 * i + k];
            found[4 * j + 3] = g[j];
            gradient[3 * i + j] = affine[j] * g[0] + affine[4 + j] * g[1] + affine[8 + j] * g[2];
        }
    }
    double sums[12];
    block_sums<THREADS>(found, sums);
    if (threadIdx.x == 0)
        for (int j = 0; j < 12; ++j) partial[blockIdx.x * (int64_t)12 + j] = sums[j];
}

__global__ void finish_losses(const double* sums, double values, double* losses) {
    losses[0] = sums[L1] / values, losses[1] = sums[DSSIM] / values;
    losses[2] = sums[COUNTED] > 0 ? sums[SQUARES] / sums[COUNTED] : 0;
}

dim3 grid_for(int32_t height, int32_t width, int32_t channels) {
    return dim3((unsigned)ceil_div(width, SIDE), (unsigned)ceil_div(height, SIDE), (unsigned)channels);
}

struct Memory {
    float* by[3];
    double *sums, *partial, *affine_partial;
    int64_t blocks, affine_blocks;

    Memory(Carve& memory, int32_t height, int32_t width, int32_t channels) {
        const dim3 grid = grid_for(height, width, channels);
        blocks = (int64_t)grid.x * grid.y * grid.z;
        affine_blocks = ceil_div<int64_t>((int64_t)height * width, THREADS);
        for (auto& map : by) map = memory.take<float>((int64_t)height * width * channels);
        sums = memory.take<double>(LOSSES);
        partial = memory.take<double>(blocks * LOSSES);
        affine_partial = memory.take<double>(affine_blocks * 12);
    }
};

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_photometric_workspace(int32_t height, int32_t width, int32_t channels) {
    Carve memory(nullptr);
    Memory m(memory, height, width, channels);
    return memory.bytes();
}

SPLAT_API int splat_photometric(int32_t height, int32_t width, int32_t channels, const float* image,
                                const uint8_t* target_bytes, const float* target_floats, const uint8_t* weight,
                                float l1_weight, float dssim_weight, const float* affine, double* losses,
                                float* gradient, double* g_affine, uint8_t* workspace, int64_t workspace_bytes,
                                void* stream) {
    if (height < 1 || width < 1 || channels < 1 || channels > 64)
        return fail("an image of %d x %d pixels with %d channels cannot be compared.", width, height, channels);
    if (!image || !losses || !workspace || !target_bytes == !target_floats)
        return fail("an image, exactly one target, an output and a workspace are needed.");
    if (affine && channels != 3) return fail("an affine map of colours needs 3 channels, not %d.", channels);
    if (g_affine && !(affine && gradient)) return fail("the map's gradient needs the map and the image's gradient.");
    Carve memory(workspace);
    Memory m(memory, height, width, channels);
    if (workspace_bytes < memory.bytes())
        return fail("the workspace has %lld bytes; %lld are needed.", (long long)workspace_bytes,
                    (long long)memory.bytes());
    const Job job{height, width, channels, image, target_bytes, target_floats, weight, l1_weight, dssim_weight, affine,
                  gradient, {m.by[0], m.by[1], m.by[2]}, m.partial};
    const dim3 grid = grid_for(height, width, channels);
    const bool has_dssim = dssim_weight != 0;
    if (has_dssim && launch("splat_photometric", compare, grid, THREADS, stream, job)) return 1;
    if (launch("splat_photometric", finish, grid, THREADS, stream, job, has_dssim) ||
        sum_rows(m.blocks, LOSSES, m.partial, m.sums, stream) ||
        launch("splat_photometric", finish_losses, dim3(1), 1, stream, m.sums, (double)height * width * channels, losses))
        return 1;
    if (!affine || !gradient) return 0;
    if (launch("splat_photometric", affine_backward, dim3((unsigned)m.affine_blocks), THREADS, stream,
               (int64_t)height * width, affine, image, gradient, m.affine_partial))
        return 1;
    return g_affine ? sum_rows(m.affine_blocks, 12, m.affine_partial, g_affine, stream) : 0;
}
