// Gradients of compositing.
//
// The backward pass walks as the forward pass does (see blend.cuh and shared/pair.h); sums over a patch are made by
// exchanging halves between lanes, sums over the patches of a tile in shared memory, and one record per (tile, Gaussian) is
// written: no atomics, the same bits every time.
#include "blend.cuh"

namespace splat {
namespace {

// Of sixteen numbers in every lane, the sums over all lanes: that of number i in lanes 2 i and 2 i + 1. Half of the numbers
// are handed over for the other half in each round, so that sixteen sums cost sixteen exchanges, not eighty.
__device__ float sums_of_sixteen(float (&a)[16], int lane) {
    int count = 16;
#pragma unroll
    for (int far = WARP / 2; far >= 2; far /= 2) {
        count /= 2;
        const bool upper = lane & far;
#pragma unroll
        for (int i = 0; i < 8; ++i)
            if (i < count) {
                const float mine = upper ? a[i + count] : a[i], other = upper ? a[i] : a[i + count];
                a[i] = mine + __shfl_xor_sync(EVERYONE, other, far);
            }
    }
    return a[0] + __shfl_xor_sync(EVERYONE, a[0], 1);
}

struct Image {
    const float *rgb, *alpha, *depth, *g_rgb, *g_alpha, *g_depth;
};

// What a backward walk sums at a time. Beside the sums of a record there is room for some extra channels.
constexpr int SUMS_AT_ONCE = 16, FOLDED = SUMS_AT_ONCE - SUMS;

// ALL: gradients of depth and alpha too, not of colours alone. EXTRA: and of extra channels; of these the first FOLDED have
// their own gradients summed here, in more_records, the others by channels_backward.
template <bool ALL, bool ABSGRAD, bool EXTRA>
__global__ void __launch_bounds__(THREADS)
    blend_backward(const float* splats, int32_t width, int32_t height, const int32_t* tile_start, const int2* entries,
                   float least, const __grid_constant__ Image image, const __grid_constant__ Channels channels,
                   float* records, float* more_records, int64_t capacity, double* background_sums) {
    constexpr int WIDTH = EXTRA ? SUMS_AT_ONCE : SUMS;
    __shared__ Row staged[WARP];
    __shared__ int32_t slots[WARP];
    __shared__ int32_t rows[EXTRA ? WARP : 1];
    __shared__ unsigned hits_of[WARPS];
    __shared__ float sums[WARPS][WARP][WIDTH];
    const Place p(width, height);
    [[maybe_unused]] float g_folded[FOLDED] = {};
    [[maybe_unused]] const float* g_channels = EXTRA && p.inside ? channels.g_image + p.pixel * channels.count : nullptr;
    float passed = 0, left = 0, g_red = 0, g_green = 0, g_blue = 0, g_alpha = 0, g_depth = 0;
    float by_background[3] = {};
    if (p.inside) {
        passed = 1;
        g_red = image.g_rgb[3 * p.pixel], g_green = image.g_rgb[3 * p.pixel + 1], g_blue = image.g_rgb[3 * p.pixel + 2];
        left = g_red * image.rgb[3 * p.pixel] + g_green * image.rgb[3 * p.pixel + 1] +
               g_blue * image.rgb[3 * p.pixel + 2];
        if (ALL && image.g_alpha) g_alpha = image.g_alpha[p.pixel], left += g_alpha * image.alpha[p.pixel];
        if (ALL && image.g_depth) g_depth = image.g_depth[p.pixel], left += g_depth * image.depth[p.pixel];
        if constexpr (EXTRA) {
            for (int k = 0; k < channels.count; ++k)
                left += g_channels[k] * channels.image[p.pixel * channels.count + k];
            for (int k = 0; k < FOLDED; ++k)
                if (k < channels.count) g_folded[k] = g_channels[k];
        }
        const float behind = 1 - image.alpha[p.pixel];
        by_background[0] = behind * g_red, by_background[1] = behind * g_green, by_background[2] = behind * g_blue;
    }
    double total[3];
    block_sums<THREADS>(by_background, total);
    if (threadIdx.x == 0)
        for (int j = 0; j < 3; ++j) background_sums[3 * (int64_t)p.tile + j] = total[j];

    const int32_t end = tile_start[p.tile + 1];
    for (int32_t begin = tile_start[p.tile]; begin < end; begin += WARP) {
        const int count = min(WARP, end - begin);
        __syncthreads();  // the batch before this one is read
        for (int i = threadIdx.x; i < count * SPLAT_FIELDS; i += THREADS)
            staged[i / SPLAT_FIELDS].field[i % SPLAT_FIELDS] =
                splats[(int64_t)entries[begin + i / SPLAT_FIELDS].x * SPLAT_FIELDS + i % SPLAT_FIELDS];
        if ((int)threadIdx.x < count) {
            slots[threadIdx.x] = entries[begin + threadIdx.x].y;
            if constexpr (EXTRA) rows[threadIdx.x] = entries[begin + threadIdx.x].x;
        }
        __syncthreads();
        unsigned hits = 0;
        if (__any_sync(EVERYONE, passed >= least))
            hits = __ballot_sync(EVERYONE, p.lane < count && reaches(staged[p.lane], p));
        if (p.lane == 0) hits_of[p.warp] = hits;
        for (; hits; hits &= hits - 1) {
            const int at = __ffs(hits) - 1;
            const Row row = read_row(staged, at);
            const float* s = row.field;
            const Whitened w(s, p);
            const Share share = take(w.power, passed >= least, passed);
            float q = g_red * s[SPLAT_RED] + g_green * s[SPLAT_GREEN] + g_blue * s[SPLAT_BLUE];
            if (ALL) q += g_depth * s[SPLAT_DEPTH] + g_alpha;
            if constexpr (EXTRA)
                if (share.on) {
                    const float* f = channels.rows + (int64_t)rows[at] * channels.count;
                    for (int k = 0; k < FOLDED; ++k)
                        if (k < channels.count) q += g_folded[k] * f[k];
                    for (int k = FOLDED; k < channels.count; ++k) q += g_channels[k] * f[k];
                }
            const float g = by_log_alpha(share, passed, q, left);
            const float gu = g * w.u, gv = g * w.v;
            float a[SUMS_AT_ONCE] = {};
            a[SUM_1] = g, a[SUM_U] = gu, a[SUM_V] = gv;
            a[SUM_UU] = gu * w.u, a[SUM_UV] = gu * w.v, a[SUM_VV] = gv * w.v;
            a[SUM_RED] = share.weight * g_red, a[SUM_GREEN] = share.weight * g_green;
            a[SUM_BLUE] = share.weight * g_blue;
            if (ALL) a[SUM_DEPTH] = share.weight * g_depth;
            if (ABSGRAD) a[SUM_ABS_X] = abs(gu), a[SUM_ABS_Y] = abs(s[SPLAT_B] * gu + s[SPLAT_C] * gv);
            if constexpr (EXTRA)
                for (int k = 0; k < FOLDED; ++k) a[SUMS + k] = share.weight * g_folded[k];
            const float sum = sums_of_sixteen(a, p.lane);
            if (p.lane % 2 == 0 && p.lane / 2 < WIDTH) sums[p.warp][at][p.lane / 2] = sum;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count * WIDTH; i += THREADS) {
            float sum = 0;
            for (int w = 0; w < WARPS; ++w)
                if (hits_of[w] >> (i / WIDTH) & 1) sum += sums[w][i / WIDTH][i % WIDTH];
            if constexpr (EXTRA) {
                const int64_t slot = slots[i / WIDTH];
                const int j = i % WIDTH, k = j - SUMS;
                if (slot < capacity && j < SUMS) records[slot * SPLAT_RECORD + j] = sum;
                if (slot < capacity && j >= SUMS && k < channels.count) more_records[slot * channels.count + k] = sum;
            } else if (slots[i / SUMS] < capacity) {
                records[(int64_t)slots[i / SUMS] * SPLAT_RECORD + i % SUMS] = sum;
            }
        }
    }
}

// Sums of weight x gradient of SUMS_AT_ONCE channels for each row of the grid, those behind the FOLDED: walks once more.
__global__ void __launch_bounds__(THREADS)
    channels_backward(const float* splats, int32_t width, int32_t height, const int32_t* tile_start,
                      const int2* entries, float least, const __grid_constant__ Channels channels, float* records,
                      int64_t capacity) {
    __shared__ Row staged[WARP];
    __shared__ int32_t slots[WARP];
    __shared__ unsigned hits_of[WARPS];
    __shared__ float sums[WARPS][WARP][SUMS_AT_ONCE];
    const Place p(width, height);
    const int from = FOLDED + (int)blockIdx.y * SUMS_AT_ONCE, wanted = min(SUMS_AT_ONCE, channels.count - from);
    float passed = p.inside ? 1.0f : 0.0f, g[SUMS_AT_ONCE] = {};
    for (int j = 0; j < SUMS_AT_ONCE; ++j)
        if (p.inside && j < wanted) g[j] = channels.g_image[p.pixel * channels.count + from + j];
    const int32_t end = tile_start[p.tile + 1];
    for (int32_t begin = tile_start[p.tile]; begin < end; begin += WARP) {
        const int count = min(WARP, end - begin);
        __syncthreads();  // the batch before this one is read
        for (int i = threadIdx.x; i < count * SPLAT_FIELDS; i += THREADS)
            staged[i / SPLAT_FIELDS].field[i % SPLAT_FIELDS] =
                splats[(int64_t)entries[begin + i / SPLAT_FIELDS].x * SPLAT_FIELDS + i % SPLAT_FIELDS];
        if ((int)threadIdx.x < count) slots[threadIdx.x] = entries[begin + threadIdx.x].y;
        __syncthreads();
        unsigned hits = 0;
        if (__any_sync(EVERYONE, passed >= least))
            hits = __ballot_sync(EVERYONE, p.lane < count && reaches(staged[p.lane], p));
        if (p.lane == 0) hits_of[p.warp] = hits;
        for (; hits; hits &= hits - 1) {
            const int at = __ffs(hits) - 1;
            const Row row = read_row(staged, at);
            const Share share = take(Whitened(row.field, p).power, passed >= least, passed);
            float a[SUMS_AT_ONCE];
            for (int j = 0; j < SUMS_AT_ONCE; ++j) a[j] = share.weight * g[j];
            const float sum = sums_of_sixteen(a, p.lane);
            if (p.lane % 2 == 0) sums[p.warp][at][p.lane / 2] = sum;
        }
        __syncthreads();
        for (int i = threadIdx.x; i < count * wanted; i += THREADS) {
            float sum = 0;
            for (int w = 0; w < WARPS; ++w)
                if (hits_of[w] >> (i / wanted) & 1) sum += sums[w][i / wanted][i % wanted];
            if (slots[i / wanted] < capacity)
                records[(int64_t)slots[i / wanted] * channels.count + from + i % wanted] = sum;
        }
    }
}

// Adds up the records of each row, in the order of its tiles.
__global__ void sum_records(int64_t n, const float* splats, const int32_t* first, int64_t capacity,
                            const float* records, float* g_splats, float* g_centres, float* absgrad) {
    const int64_t i = thread_number();
    if (i >= n) return;
    float sum[SUMS] = {}, g[SPLAT_FIELDS] = {}, by_abs[2] = {};
    const int64_t end = first[i + 1] < capacity ? first[i + 1] : capacity;
    for (int64_t slot = first[i]; slot < end; ++slot)
        for (int j = 0; j < SUMS; ++j) sum[j] += records[slot * SPLAT_RECORD + j];
    if (first[i] < end) {
        row_gradient(splats + i * SPLAT_FIELDS, sum, g);
        absolute_gradient(splats + i * SPLAT_FIELDS, sum, by_abs);
    }
    if (g_centres) {
        g_centres[2 * i] = g[SPLAT_X], g_centres[2 * i + 1] = g[SPLAT_Y];
        g[SPLAT_X] = g[SPLAT_Y] = 0;
    }
    for (int j = 0; j < SPLAT_FIELDS; ++j) g_splats[i * SPLAT_FIELDS + j] = g[j];
    if (absgrad) absgrad[2 * i] = by_abs[0], absgrad[2 * i + 1] = by_abs[1];
}

__global__ void sum_channel_records(int64_t numbers, int32_t channels, const int32_t* first, int64_t capacity,
                                    const float* records, float* g_rows) {
    const int64_t at = thread_number();
    if (at >= numbers) return;
    const int64_t i = at / channels, k = at % channels;
    const int64_t end = first[i + 1] < capacity ? first[i + 1] : capacity;
    float sum = 0;
    for (int64_t slot = first[i]; slot < end; ++slot) sum += records[slot * channels + k];
    g_rows[at] = sum;
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_blend_backward_workspace(int32_t width, int32_t height) {
    return tiles_of(width, height) * 3 * (int64_t)sizeof(double);
}

SPLAT_API int64_t splat_blend_channels_workspace(int32_t width, int32_t height, int32_t) {
    return splat_blend_backward_workspace(width, height);
}

SPLAT_API int splat_blend_backward(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* first,
                                   const int32_t* tile_start, const int32_t* entries, const uint16_t*,
                                   float min_transmittance, const float* rgb, const float* alpha, const float* depth,
                                   const float* g_rgb, const float* g_alpha, const float* g_depth, float* g_splats,
                                   float* g_centres, double* g_background, float* absgrad, float* records,
                                   int64_t capacity, void* workspace, void* stream) {
    const int64_t tiles = tiles_of(width, height);
    const Image image{rgb, alpha, depth, g_rgb, g_alpha, g_depth};
    auto walk = g_alpha || g_depth
                    ? (absgrad ? blend_backward<true, true, false> : blend_backward<true, false, false>)
                    : (absgrad ? blend_backward<false, true, false> : blend_backward<false, false, false>);
    double* partial = (double*)workspace;
    return launch("splat_blend_backward", walk, dim3((unsigned)tiles), THREADS, stream, splats, width, height,
                  tile_start, (const int2*)entries, min_transmittance, image, Channels(), records, (float*)nullptr, capacity,
                  partial) ||
           sum_rows(tiles, 3, partial, g_background, stream) ||
           launch_each("splat_blend_backward", sum_records, n, stream, n, splats, first, capacity, records,
                       g_splats, g_centres, absgrad);
}

SPLAT_API int splat_blend_channels_backward(int64_t n, const float* splats, int32_t width, int32_t height,
                                            const int32_t* first, const int32_t* tile_start, const int32_t* entries,
                                            const uint16_t*, float min_transmittance, int32_t channels,
                                            const float* features, const float* rgb, const float* alpha,
                                            const float* depth, const float* values, const float* g_rgb,
                                            const float* g_alpha, const float* g_depth, const float* g_image,
                                            float* g_splats, float* g_centres, double* g_background, float* absgrad,
                                            float* g_features, float* records, float* more_records,
                                            int64_t capacity, void* workspace, void* stream) {
    const char* me = "splat_blend_channels_backward";
    if (channels < 1) return fail("%s: %d channels; there must be one at least.", me, channels);
    const int64_t tiles = tiles_of(width, height);
    const Image image{rgb, alpha, depth, g_rgb, g_alpha, g_depth};
    const Channels extra{channels, features, values, g_image};
    auto walk = absgrad ? blend_backward<true, true, true> : blend_backward<true, false, true>;
    const int left = channels > FOLDED ? channels - FOLDED : 0;
    const dim3 grid((unsigned)tiles), chunks((unsigned)tiles, (unsigned)ceil_div(left, SUMS_AT_ONCE));
    const int2* pairs = (const int2*)entries;
    double* partial = (double*)workspace;
    return launch(me, walk, grid, THREADS, stream, splats, width, height, tile_start, pairs, min_transmittance, image,
                  extra, records, more_records, capacity, partial) ||
           launch(me, channels_backward, chunks, THREADS, stream, splats, width, height, tile_start, pairs,
                  min_transmittance, extra, more_records, capacity) ||
           sum_rows(tiles, 3, partial, g_background, stream) ||
           launch_each(me, sum_records, n, stream, n, splats, first, capacity, records, g_splats, g_centres, absgrad) ||
           launch_each(me, sum_channel_records, n * channels, stream, n * channels, channels, first, capacity,
                       more_records, g_features);
}
