// Compositing, front to back. See blend.cuh.
#include "blend.cuh"

namespace splat {
namespace {

// Copies the channels from `begin` on, as many as fit, of a Gaussian; 0 behind the last.
template <int CHUNK>
__device__ void read_channels(const Channels& channels, int64_t row, int begin, float (&out)[CHUNK]) {
    for (int j = 0; j < CHUNK; ++j)
        out[j] = begin + j < channels.count ? channels.rows[row * channels.count + begin + j] : 0.0f;
}

// CHUNK: extra channels that each row of the grid draws, the first row beside the colours; 0: there are none.
template <int CHUNK>
__global__ void __launch_bounds__(THREADS)
    blend(const float* splats, int32_t width, int32_t height, const int32_t* tile_start, const int2* entries,
          const float* background, float least, float* rgb, float* alpha, float* depth, int64_t* evaluated,
          const __grid_constant__ Channels channels, float* image) {
    constexpr int SIZE = CHUNK ? CHUNK : 1;
    __shared__ Row staged[WARPS][WARP];
    __shared__ float staged_channels[CHUNK ? WARPS : 1][WARP][SIZE];
    const Place p(width, height);
    const int from = (int)blockIdx.y * CHUNK;
    float passed = p.inside ? 1.0f : 0.0f, red = 0, green = 0, blue = 0, z = 0;
    [[maybe_unused]] float sums[SIZE] = {};
    int64_t pairs = 0;
    const int32_t end = tile_start[p.tile + 1];
    for (int32_t begin = tile_start[p.tile]; begin < end; begin += WARP) {
        if (!__any_sync(EVERYONE, passed >= least)) break;
        bool hit = false;
        if (begin + p.lane < end) {
            const int64_t number = entries[begin + p.lane].x;
            const Row row = read_row((const Row*)splats, number);
            hit = reaches(row, p);
            if (hit) {
                staged[p.warp][p.lane] = row;
                if constexpr (CHUNK > 0) read_channels(channels, number, from, staged_channels[p.warp][p.lane]);
            }
        }
        unsigned hits = __ballot_sync(EVERYONE, hit);
        __syncwarp();
        for (; hits; hits &= hits - 1) {
            const int at = __ffs(hits) - 1;
            const Row row = read_row(staged[p.warp], at);
            const float* s = row.field;
            const Share share = take(Whitened(s, p).power, passed >= least, passed);
            red += share.weight * s[SPLAT_RED];
            green += share.weight * s[SPLAT_GREEN];
            blue += share.weight * s[SPLAT_BLUE];
            z += share.weight * s[SPLAT_DEPTH];
            if constexpr (CHUNK > 0)
                for (int j = 0; j < CHUNK; ++j) sums[j] += share.weight * staged_channels[p.warp][at][j];
            pairs += WARP;
        }
        __syncwarp();
    }
    if (evaluated && p.lane == 0) atomicAdd((unsigned long long*)(evaluated + p.tile), (unsigned long long)pairs);
    if (!p.inside) return;
    if constexpr (CHUNK > 0) {
        for (int j = 0; j < CHUNK; ++j)
            if (from + j < channels.count) image[p.pixel * channels.count + from + j] = sums[j];
        if (from > 0) return;
    }
    rgb[3 * p.pixel] = red + passed * background[0];
    rgb[3 * p.pixel + 1] = green + passed * background[1];
    rgb[3 * p.pixel + 2] = blue + passed * background[2];
    alpha[p.pixel] = 1 - passed;
    depth[p.pixel] = z;
}

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int splat_blend_forward(const float* splats, int32_t width, int32_t height, const int32_t* tile_start,
                                  const int32_t* entries, const float* background, float min_transmittance, float* rgb,
                                  float* alpha, float* depth, uint16_t*, int64_t* evaluated, void* stream) {
    const int64_t tiles = tiles_of(width, height);
    if (evaluated && checked(cudaMemsetAsync(evaluated, 0, tiles * sizeof *evaluated, (cudaStream_t)stream),
                             "splat_blend_forward"))
        return 1;
    return launch("splat_blend_forward", blend<0>, dim3((unsigned)tiles), THREADS, stream, splats, width, height,
                  tile_start, (const int2*)entries, background, min_transmittance, rgb, alpha, depth, evaluated,
                  Channels(), (float*)nullptr);
}

SPLAT_API int splat_blend_channels_forward(const float* splats, int32_t width, int32_t height,
                                           const int32_t* tile_start, const int32_t* entries, const float* background,
                                           float min_transmittance, int32_t channels, const float* features,
                                           float* rgb, float* alpha, float* depth, float* image, uint16_t*, void*,
                                           void* stream) {
    if (channels < 1) return fail("splat_blend_channels_forward: %d channels; there must be one at least.", channels);
    const Channels extra{channels, features, nullptr, nullptr};
    const int chunk = channels <= 4 ? 4 : 16;
    const dim3 grid((unsigned)tiles_of(width, height), (unsigned)ceil_div(channels, chunk));
    return launch("splat_blend_channels_forward", chunk == 4 ? blend<4> : blend<16>, grid, THREADS, stream, splats,
                  width, height, tile_start, (const int2*)entries, background, min_transmittance, rgb, alpha, depth,
                  (int64_t*)nullptr, extra, image);
}
