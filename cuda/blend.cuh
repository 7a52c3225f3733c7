// What the forward and the backward pass of compositing share.
//
// A block of eight warps draws a tile; each warp draws a patch of 8 x 4 pixels on its own, a pixel per lane. For thirty-two
// Gaussians of the tile at a time, every lane asks for one of them whether its ellipse reaches the patch, and the warp then
// visits those that do, with the pixels' state in registers.
#pragma once
#include "library.cuh"
#include "shared/ellipse.h"
#include "shared/pair.h"

namespace splat {

constexpr int PATCH_WIDTH = 8, PATCH_HEIGHT = 4, WARPS = 8, THREADS = WARPS * WARP;
static_assert(PATCH_WIDTH * PATCH_HEIGHT == WARP && WARP * WARPS == SPLAT_TILE * SPLAT_TILE, "patches fill a tile");

// Where a thread's patch and pixel are.
struct Place {
    int lane, warp;
    int32_t tile, left, top, x, y;  // of the patch, of the pixel
    bool inside;
    int64_t pixel;

    __device__ Place(int32_t width, int32_t height) {
        lane = threadIdx.x % WARP;
        warp = threadIdx.x / WARP;
        const int32_t columns = ceil_div(width, (int32_t)SPLAT_TILE);
        tile = (int32_t)blockIdx.x;
        left = tile % columns * SPLAT_TILE + warp % 2 * PATCH_WIDTH;
        top = tile / columns * SPLAT_TILE + warp / 2 * PATCH_HEIGHT;
        x = left + lane % PATCH_WIDTH;
        y = top + lane / PATCH_WIDTH;
        inside = x < width && y < height;
        pixel = (int64_t)y * width + x;
    }
};

// A projected row and the same padded to whole reads of sixteen bytes.
struct alignas(16) Row {
    float field[SPLAT_FIELDS];
};
static_assert(sizeof(Row) == SPLAT_FIELDS * sizeof(float) && sizeof(Row) % 16 == 0, "three reads of sixteen bytes");

__device__ inline Row read_row(const Row* rows, int64_t i) {
    union {
        Row row;
        float4 parts[sizeof(Row) / 16];
    } copy;
    for (int j = 0; j < (int)(sizeof(Row) / 16); ++j) copy.parts[j] = ((const float4*)(rows + i))[j];
    return copy.row;
}

__device__ inline bool reaches(const Row& row, const Place& p) {
    const Ellipse e(row.field);
    const float slack = 0.005f + 2e-4f * (2 * e.half_width);
    const float low = e.c * (p.top + 0.5f - e.y), high = low + e.c * (PATCH_HEIGHT - 1);
    vf from, to;
    if (!e.span(low, high, from, to)) return false;
    const float at = p.left + 0.5f - e.x;
    return to + slack >= at && at + (PATCH_WIDTH - 1) >= from - slack;
}

// The whitened coordinates of a pixel relative to a Gaussian, and the log2 of its opacity there.
struct Whitened {
    float u, v, power;
    __device__ Whitened(const float* s, const Place& p) {
        const float dx = p.x + 0.5f - s[SPLAT_X], dy = p.y + 0.5f - s[SPLAT_Y];
        u = s[SPLAT_A] * dx + s[SPLAT_B] * dy;
        v = s[SPLAT_C] * dy;
        power = s[SPLAT_LOG2_OPACITY] - v * v - u * u;
    }
};

// Extra channels: of Gaussians [n count], and of the image [h w count] with its gradient.
struct Channels {
    int32_t count;
    const float *rows, *image, *g_image;
};

inline int64_t tiles_of(int32_t width, int32_t height) { return Grid(width, height).tiles(); }

}  // namespace splat
