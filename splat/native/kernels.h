// The one C ABI of the compiled kernels. cpu/*.cpp and cuda/*.cu implement these names.
//
// Rules: plain pointers to densely packed arrays; sizes before outputs; a `stream` last argument (a CUDA stream,
// ignored on the CPU); every function returns 0, or another value and leaves a sentence for splat_last_error(). Nothing
// here allocates: where scratch memory is needed, a *_workspace query says how many bytes the caller brings. Pointers
// are to the memory of the processor that computes, but for those said to be in host memory. What changes from one
// training step to the next is behind a pointer, so that a GPU's step can be recorded once and replayed with other
// numbers. The same input gives the same output bit for bit, whatever the number of threads.
#pragma once
#include <stdint.h>

#ifdef __cplusplus
#define SPLAT_API extern "C" __attribute__((visibility("default")))
#else
#define SPLAT_API
#endif

// --------------------------------------------------------------------------------------------------------- the library

// The sentence of the last failure on this thread ("" when there was none).
SPLAT_API const char* splat_last_error(void);

// How many threads a kernel may use (at least 1). Takes effect with the next call.
SPLAT_API int splat_set_threads(int threads);
SPLAT_API int splat_get_threads(void);

// ---------------------------------------------------------------------------------------------------------- the losses

// L1 and SSIM of an image and its target (both h w c, values about [0, 1]), and the gradient of
//   l1_weight * mean(w |x - t|) + dssim_weight * mean(w (1 - ssim))
// by the image. Means are over all h * w * c values. SSIM: 11x11 Gaussian window, sigma 1.5, zeros outside, per
// channel. The target is bytes (of 255) or floats, exactly one. `weight`, h w bytes of 255, may be null: 1. Where it is
// 0 both images count as black inside SSIM's windows, so that nothing there matters.
// affine [3 4], rows of [A | b], may be null: then x is the image itself; else A image + b per pixel (3 channels).
// losses [3]: the two means, before their weights (the second is 0 when dssim_weight is 0), and the mean of (x - t)^2,
// x clamped to [0, 1], over the pixels whose weight is not 0. `gradient` (by the image as it is given) may be null, and
// so may g_affine [3 4], which needs it.
SPLAT_API int64_t splat_photometric_workspace(int32_t height, int32_t width, int32_t channels);
SPLAT_API int splat_photometric(int32_t height, int32_t width, int32_t channels, const float* image,
                                const uint8_t* target_bytes, const float* target_floats, const uint8_t* weight,
                                float l1_weight, float dssim_weight, const float* affine, double* losses,
                                float* gradient, double* g_affine, uint8_t* workspace, int64_t workspace_bytes,
                                void* stream);

// ---------------------------------------------------------------------------------------------------------------- Adam

// One Adam step, in place, of `tensors` (at most 16) matrices of float rows that share their row numbers. `ids` names
// the rows to update, each at most once, and gradients then have `rows` rows; null: all `rows` rows. Of these, rows i
// with seen[i] 0 are left out (null: none is). Moments of other rows stay as they are, and bias is corrected by the
// global step for every row, as 3DGS's sparse Adam does: a row first seen late moves a little less at first than its
// own count would make it.
// table: seven numbers per tensor, in host memory: addresses of parameters, gradients, first and second moments;
// columns updated; floats from one row to the next, and from one row of gradients to the next (so a tensor's columns
// may have rates of their own).
// constants [1 + tensors] of the t-th step, t from 1: 1 / sqrt(1 - beta2^t), then of each tensor its rate over
// 1 - beta1^t. A gradient that is not finite counts as zero.
SPLAT_API int splat_adam(int32_t tensors, int64_t rows, const int64_t* ids, const int32_t* seen, const int64_t* table,
                         const float* constants, double beta1, double beta2, double eps, void* stream);

// The same for spherical harmonics [n k 3] from the gradient of the constant alone, g_constant [rows 3], of Gaussians
// at means [n 3] seen from one point [3]: the gradient of coefficient i is that times basis_i / basis_0. `ids` and
// `seen` as above, and `constants` [3] for the constant and for the others. Columns of a row before `from` (0 or 3)
// stay. k: 1, 4, 9 or 16.
SPLAT_API int splat_adam_harmonics(int64_t rows, const int64_t* ids, const int32_t* seen, int32_t k,
                                   const float* means, const float* seen_from, const float* g_constant, int32_t from,
                                   float* sh, float* first, float* second, const float* constants, double beta1,
                                   double beta2, double eps, void* stream);

// ------------------------------------------------------------------------------------------------------ rows by number

// Copies rows `ids` [m] of `tensors` (at most 16) matrices of floats, in host memory a table of three numbers per
// tensor: addresses of the source and of the destination [m columns], and columns.
SPLAT_API int splat_gather(int32_t tensors, int64_t m, const int64_t* ids, const int64_t* table, void* stream);

// Statistics for density control. gradient [m 2] and radii [m] are of rows `ids` (null: of rows 0 to m - 1): pull[id]
// += the gradient's length in units of half the image's width and height (a length that is not finite counts as zero),
// seen[id] += 1 where the radius is not 0, and radius[id] becomes the largest radius / max(width, height) so far.
SPLAT_API int splat_density_statistics(int64_t m, const int64_t* ids, const float* gradient, const int32_t* radii,
                                       int32_t width, int32_t height, float* pull, float* seen, float* radius,
                                       void* stream);

// -------------------------------------------------------------------------------------------------- nearest neighbours

// Distances [count k], ascending, from each of `count` points [count 3] to its k (at most 32) nearest others, and their
// ids (may be null). Coincident points are at distance 0. Infinity and id -1 where there are fewer others; NaN for a
// point that is not finite (or beyond 1e18), which is also nobody's neighbour.
SPLAT_API int64_t splat_knn_workspace(int64_t count);
SPLAT_API int splat_knn(int64_t count, const float* positions, int32_t k, float* distances, int32_t* ids,
                        uint8_t* workspace, int64_t workspace_bytes, void* stream);

// ------------------------------------------------------------------------------------------------------- rasterization
//
// Tensors of n Gaussians are raw: means [n 3], quats_wxyz [n 4], log_scales [n 3], logit_opacities [n], sh [n k 3].
// cam_from_world is [4 4], row-major; intrinsics [4] are fx, fy, cx, cy in pixels. The formulas are those of
// splat/raster/reference.py.
//
// A projected Gaussian is a row of SPLAT_FIELDS floats. Its opacity at a pixel d = (dx, dy) away from its centre is
// 2^(log2_opacity - u^2 - v^2) with u = a dx + b dy, v = c dy: the Cholesky factor of its conic. (The conic itself
// loses every digit of a long thin footprint in float32: its terms are large and cancel.) A row with HALF_WIDTH 0 is
// not drawn.
enum {
    SPLAT_X, SPLAT_Y,                     // centre, pixels
    SPLAT_A, SPLAT_B, SPLAT_C,            // the factor above, 1 / pixels
    SPLAT_LOG2_OPACITY,
    SPLAT_HALF_WIDTH, SPLAT_HALF_HEIGHT,  // of the box around the pixels where the opacity is at least 1/255
    SPLAT_DEPTH,
    SPLAT_RED, SPLAT_GREEN, SPLAT_BLUE,
    SPLAT_FIELDS
};

// ids [n]: rows that may be drawn, ascending; count [1], in host memory, says how many. Never leaves out a row that
// splat_project_forward draws.
SPLAT_API int64_t splat_visible_workspace(int64_t n);
SPLAT_API int splat_visible(int64_t n, const float* means, const float* log_scales, const float* logit_opacities,
                            const float* cam_from_world, const float* intrinsics, int32_t width, int32_t height,
                            float near_z, int64_t* ids, int64_t* count, void* workspace, void* stream);

// Rows splats [n SPLAT_FIELDS], means2d [n 2] and radii [n] (pixels, rounded up; 0: not drawn, and its row is zero).
// `degree` <= 3: harmonics in use, (degree + 1)^2 <= k. `antialiased`: 0 or 1.
SPLAT_API int splat_project_forward(int64_t n, int32_t k, int32_t degree, const float* means, const float* quats_wxyz,
                                    const float* log_scales, const float* logit_opacities, const float* sh,
                                    const float* cam_from_world, const float* intrinsics, int32_t width,
                                    int32_t height, float near_z, int32_t antialiased, float* splats, float* means2d,
                                    int32_t* radii, void* stream);

// Gradients of every input from those of splats and means2d (either may be null). Writes all of the g_ tensors, zero
// where a row was not drawn; g_cam_from_world is [4 4] in double. g_sh is [n g_k 3]: g_k is k, or 1 for the constant's
// alone.
SPLAT_API int64_t splat_project_backward_workspace(int64_t n);
SPLAT_API int splat_project_backward(int64_t n, int32_t k, int32_t degree, int32_t g_k, const float* means,
                                     const float* quats_wxyz, const float* log_scales, const float* logit_opacities,
                                     const float* sh, const float* cam_from_world, const float* intrinsics,
                                     int32_t width, int32_t height, int32_t antialiased, const int32_t* radii,
                                     const float* g_splats, const float* g_means2d, float* g_means,
                                     float* g_quats_wxyz, float* g_log_scales, float* g_logit_opacities, float* g_sh,
                                     double* g_cam_from_world, void* workspace, void* stream);

// Which tiles (SPLAT_TILE x SPLAT_TILE pixels) each ellipse touches, exactly. First the counts: order [n] (drawn rows
// by depth, ties by index; then anything), first [n + 1] (the slots of row i are first[i] ... first[i + 1] - 1), and
// total [1], in host memory: the number of intersections, for which the caller then makes room. A GPU waits for it;
// with total null it does not, and the caller must know a capacity.
enum { SPLAT_TILE = 16 };
SPLAT_API int64_t splat_bin_workspace(int64_t n, int32_t width, int32_t height);
SPLAT_API int splat_bin_count(int64_t n, const float* splats, int32_t width, int32_t height, int32_t* order,
                              int32_t* first, int64_t* total, void* workspace, void* stream);
// Then the lists: entries [capacity 2], (row, slot) by tile and within a tile front to back, those of tile i from
// tile_start[i] to tile_start[i + 1] [tiles + 1]. `workspace` is that of the count, untouched in between; `more` has as
// many bytes as its query says. Where the total is known here, too small a capacity fails and nothing is written. A GPU
// that did not wait leaves out the farthest Gaussians and says in overflow [1] how many intersections (null: the caller
// has waited and brings room); `first` then numbers the slots of what is left.
SPLAT_API int64_t splat_bin_fill_workspace(int64_t n, int32_t width, int32_t height, int64_t capacity);
SPLAT_API int splat_bin_fill(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* order,
                             int32_t* first, int64_t capacity, int32_t* tile_start, int32_t* entries,
                             int32_t* overflow, void* workspace, void* more, void* stream);

// Composites front to back until less than min_transmittance is left: rgb [h w 3] over background [3], alpha [h w],
// depth [h w] (sum of weight x z). hits [total] (null: not wanted): notes for the backward pass, by slot; on the CPU
// the 4 x 4 blocks of the tile in which the Gaussian contributed to some pixel.
// evaluated [tiles] (null: not wanted): (pixel, Gaussian) pairs that were computed, contributing or not.
SPLAT_API int splat_blend_forward(const float* splats, int32_t width, int32_t height, const int32_t* tile_start,
                                  const int32_t* entries, const float* background, float min_transmittance, float* rgb,
                                  float* alpha, float* depth, uint16_t* hits, int64_t* evaluated, void* stream);

// g_splats [n SPLAT_FIELDS] from g_rgb, g_alpha and g_depth (the last two may be null) and what the forward pass left.
// g_centres [n 2] (may be null) takes the gradient by SPLAT_X and SPLAT_Y, which is then 0 in g_splats.
// g_background [3] in double. absgrad [n 2] (null: not wanted) takes the sums over pixels of |dL/dx| and |dL/dy| of
// the centre. records [capacity SPLAT_RECORD] is scratch; slots beyond are left out.
enum { SPLAT_RECORD = 12 };
SPLAT_API int64_t splat_blend_backward_workspace(int32_t width, int32_t height);
SPLAT_API int splat_blend_backward(int64_t n, const float* splats, int32_t width, int32_t height, const int32_t* first,
                                   const int32_t* tile_start, const int32_t* entries, const uint16_t* hits,
                                   float min_transmittance, const float* rgb, const float* alpha,
                                   const float* depth, const float* g_rgb, const float* g_alpha,
                                   const float* g_depth, float* g_splats, float* g_centres,
                                   double* g_background, float* absgrad, float* records,
                                   int64_t capacity, void* workspace, void* stream);

// The same with `channels` (at least 1) extra channels: also image [h w channels], the sum of weight x features
// [n channels], over nothing. A feature must be finite. The workspace is that of the backward pass too, which needs
// nothing that was left in it.
SPLAT_API int64_t splat_blend_channels_workspace(int32_t width, int32_t height, int32_t channels);
SPLAT_API int splat_blend_channels_forward(const float* splats, int32_t width, int32_t height,
                                           const int32_t* tile_start, const int32_t* entries, const float* background,
                                           float min_transmittance, int32_t channels, const float* features,
                                           float* rgb, float* alpha, float* depth, float* image, uint16_t* hits,
                                           void* workspace, void* stream);

// The same with g_image [h w channels], and g_features [n channels]. more_records [capacity channels] is scratch.
SPLAT_API int splat_blend_channels_backward(int64_t n, const float* splats, int32_t width, int32_t height,
                                            const int32_t* first, const int32_t* tile_start, const int32_t* entries,
                                            const uint16_t* hits, float min_transmittance, int32_t channels,
                                            const float* features, const float* rgb, const float* alpha,
                                            const float* depth, const float* image, const float* g_rgb,
                                            const float* g_alpha, const float* g_depth, const float* g_image,
                                            float* g_splats, float* g_centres, double* g_background, float* absgrad,
                                            float* g_features, float* records, float* more_records,
                                            int64_t capacity, void* workspace, void* stream);

// The slow counter, for measurements and tests: composites the first `drawn` rows of `order` in double precision and
// counts contributing pairs [1]. margin [h w]: how close, relatively, the pixel came to a threshold (alpha 1/255,
// min_transmittance), where rounding may decide otherwise.
SPLAT_API int splat_count_pairs(const float* splats, int32_t width, int32_t height, int64_t drawn, const int32_t* order,
                                const float* background, float min_transmittance, float* rgb, float* margin,
                                int64_t* pairs, void* stream);

// ------------------------------------------------------------------------------------------------------ dense matching
//
// A plane at a pixel is its inverse depth there and how that changes from pixel to pixel: planes [3 h w]. The
// mathematics is in shared/stereo.h.
//
// Tries at every pixel of one colour of a chessboard (those with x + y + parity even) the planes of eight pixels of the
// other, and random changes of its own: `noise` [3 h w] in [-1, 1], times `spread` of the range [low, high] of inverse
// depths and `turn` of a unit slope (by which inverse depth changes by itself over a focal length).
// With noise null every pixel's cost is found for the plane it has. cost [h w]: 1 - correlation, the mean of the `best`
// (1 to 4) photos, each at most MAX_EXCESS above the best of them; 2 where none sees it. grey [h w] is 0 to 255. table, in host memory: of each of `sources` (at
// most 8) other photos the address of its texels [h w] (int32: the bytes of the grey values here, to the right, below
// and below to the right), width and height. warps [sources 12], in host memory: A by rows and b, such that pixel p at
// inverse depth w is at A p + w b there (homogeneous).
SPLAT_API int splat_stereo_search(int32_t height, int32_t width, const float* grey, float fx, float fy, float cx,
                                  float cy, int32_t sources, const int64_t* table, const double* warps, int32_t best,
                                  float low, float high, float spread, float turn, const float* noise,
                                  int32_t parity, float* planes, float* cost, void* stream);

// ---------------------------------------------------------------------------------------------------------- depth maps
//
// A depth [h w] (z) of 0 is not known. The mathematics is in shared/depths.h.
//
// Where the other photo shows every pixel: pixels [h w 2] (null: not wanted), and the number `at` [h w] of the pixel of the
// other that it falls into (the nearest where it is outside). agrees [h w]: 1 where the other's own depth there leads back
// to within `max_shift` px, depths differ by less than the fraction `max_difference`, and the tangent of the angle
// between the two rays is at least `min_tangent`. maps [2 12], in host memory: A by rows and b, such that pixel p at
// depth z is at A p z + b in the other photo (homogeneous), and the same for the way back.
SPLAT_API int splat_agreement(int32_t height, int32_t width, const float* depth, float fx, float fy, float cx, float cy,
                              int32_t other_height, int32_t other_width, const float* other_depth, const double* maps,
                              float max_shift, float max_difference, float min_tangent, float* pixels, int32_t* at,
                              uint8_t* agrees, void* stream);

// Whether one photo supports points [n 3] of the world: adds 1 to `support` [n] where its depth differs from the point's by
// less than the fraction `max_difference`, and 1 to `violations` [n] where its depth is larger by more than the fraction
// `max_free_space` (the point lies in free space). Points out of the frame or at unknown depth are skipped. map [12], in
// host memory: pixel_from_world by rows (homogeneous).
SPLAT_API int splat_count_support(int64_t count, const float* points, int32_t height, int32_t width, const float* depth,
                                  const double* map, float max_difference, float max_free_space, int32_t* support,
                                  int32_t* violations, void* stream);

// Normals [h w 3] averaged over every second pixel of 2 reach + 1 rows and columns around, of known depth that differs from
// the pixel's by less than the fraction `max_difference`; of unit length. Without any the pixel keeps its own.
SPLAT_API int splat_smooth_normals(int32_t height, int32_t width, const float* normals, const float* depth,
                                   int32_t reach, float max_difference, float* out, void* stream);

// Cycles per second of this core now [1].
SPLAT_API int splat_measure_clock(double* hertz, void* stream);
