// Which Gaussians may be seen and how they look, and the way back: the twins of splat/native/cpu/project*.cpp, a thread
// per Gaussian.
#include "library.cuh"
#include "order.cuh"
#include "shared/projection.h"

namespace splat {
namespace {

constexpr int BLOCK = 128, POSE_SUMS = 15;

struct View {
    const float *cam_from_world, *intrinsics;
    int32_t width, height;
    __device__ Pinhole pinhole() const { return Pinhole(cam_from_world, intrinsics, width, height); }
};

struct Rows {
    const float *means, *quats, *log_scales, *logit_opacities, *sh;
    int32_t k;
};

template <int COUNT>
__device__ void load(const float* rows, int64_t i, vf (&out)[COUNT]) {
    for (int j = 0; j < COUNT; ++j) out[j] = rows[COUNT * i + j];
}

__global__ void mark_visible(int64_t n, const float* means, const float* log_scales, const float* logit_opacities,
                             const __grid_constant__ View view, float near_z, int32_t* kept) {
    const int64_t i = thread_number();
    if (i >= n) return;
    vf m[3], s[3];
    load(means, i, m);
    load(log_scales, i, s);
    kept[i] = may_be_seen(view.pinhole(), near_z, m, s, logit_opacities[i]);
}

// From the flags of rows [n + 1] summed up: where a row's number is put.
__global__ void list_visible(int64_t n, const int32_t* before, int64_t* ids) {
    const int64_t i = thread_number();
    if (i < n && before[i + 1] > before[i]) ids[before[i]] = i;
}

template <int DEGREE>
__global__ void project(int64_t n, const __grid_constant__ Rows in, const __grid_constant__ View view, float near_z,
                        bool antialiased, float* splats, float* means2d, int32_t* radii) {
    const int64_t i = thread_number();
    if (i >= n) return;
    const Pinhole c = view.pinhole();
    vf m[3], q[4], s[3];
    load(in.means, i, m);
    load(in.quats, i, q);
    load(in.log_scales, i, s);
    const Footprint f = footprint(c, m, q, s);
    Drawing d = drawing(c, near_z, antialiased, f, in.logit_opacities[i]);
    if (d.drawn) {  // harmonics are most of what a row has: they are read where they are needed
        vf coefficients[3 * (DEGREE + 1) * (DEGREE + 1)];
        for (int j = 0; j < 3 * (DEGREE + 1) * (DEGREE + 1); ++j) coefficients[j] = in.sh[3 * in.k * i + j];
        add_colour<DEGREE>(c, f, coefficients, d);
    }
    for (int j = 0; j < SPLAT_FIELDS; ++j) splats[SPLAT_FIELDS * i + j] = d.drawn ? d.row[j] : 0.0f;
    means2d[2 * i] = d.drawn ? d.row[SPLAT_X] : 0.0f;
    means2d[2 * i + 1] = d.drawn ? d.row[SPLAT_Y] : 0.0f;
    radii[i] = d.drawn ? max(1, (int32_t)ceilf(d.radius)) : 0;
}

struct Gradients {
    float *means, *quats, *log_scales, *logit_opacities, *sh;
    int32_t k;
};

template <int DEGREE>
__global__ void project_backward(int64_t n, const __grid_constant__ Rows in, const __grid_constant__ View view,
                                 bool antialiased, const int32_t* radii, const float* g_splats, const float* g_means2d,
                                 const __grid_constant__ Gradients out, double* partial) {
    constexpr int K = (DEGREE + 1) * (DEGREE + 1);
    const int64_t i = thread_number();
    RowGradient<DEGREE> by{};
    PoseGradient pose{};
    if (i < n && radii[i] > 0) {
        const Pinhole c = view.pinhole();
        vf m[3], q[4], s[3], coefficients[3 * K], g[SPLAT_FIELDS] = {}, centre[2] = {};
        load(in.means, i, m);
        load(in.quats, i, q);
        load(in.log_scales, i, s);
        for (int j = 0; j < 3 * K; ++j) coefficients[j] = in.sh[3 * in.k * i + j];
        if (g_splats) load(g_splats, i, g);
        if (g_means2d) load(g_means2d, i, centre);
        by = projection_gradient<DEGREE>(c, antialiased, footprint(c, m, q, s), in.logit_opacities[i], coefficients,
                                         true, g, centre, pose);
    }
    if (i < n) {
        const vec3 parts[2] = {by.mean, by.log_scale};
        float* to[2] = {out.means, out.log_scales};
        for (int j = 0; j < 2; ++j) to[j][3 * i] = parts[j].x, to[j][3 * i + 1] = parts[j].y, to[j][3 * i + 2] = parts[j].z;
        for (int j = 0; j < 4; ++j) out.quats[4 * i + j] = by.quat[j];
        out.logit_opacities[i] = by.logit;
        if (out.k == in.k) {
            for (int j = 0; j < 3 * K; ++j) out.sh[3 * out.k * i + j] = by.sh[j];
            for (int j = 3 * K; j < 3 * out.k; ++j) out.sh[3 * out.k * i + j] = 0;
        } else {
            for (int j = 0; j < 3; ++j) out.sh[3 * i + j] = by.sh[j];
        }
    }
    const vec3 sums[5] = {pose.r[0], pose.r[1], pose.r[2], pose.t, pose.centre};
    float flat[POSE_SUMS];
    for (int j = 0; j < 5; ++j) flat[3 * j] = sums[j].x, flat[3 * j + 1] = sums[j].y, flat[3 * j + 2] = sums[j].z;
    double total[POSE_SUMS];
    block_sums<BLOCK>(flat, total);
    if (threadIdx.x == 0)
        for (int j = 0; j < POSE_SUMS; ++j) partial[blockIdx.x * (int64_t)POSE_SUMS + j] = total[j];
}

__global__ void finish_pose(const __grid_constant__ View view, const double* sums, double* g_cam_from_world) {
    pose_gradient(view.pinhole(), sums, g_cam_from_world);
}

int64_t blocks_for(int64_t n) { return ceil_div<int64_t>(n, BLOCK); }

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_visible_workspace(int64_t n) {
    return (n + 1) * (int64_t)sizeof(int32_t) + 256 + scan_scratch(n + 1);
}

SPLAT_API int splat_visible(int64_t n, const float* means, const float* log_scales, const float* logit_opacities,
                            const float* cam_from_world, const float* intrinsics, int32_t width, int32_t height,
                            float near_z, int64_t* ids, int64_t* count, void* workspace, void* stream) {
    if (n >= INT32_MAX) return fail("%lld Gaussians are too many for one image.", (long long)n);
    const View view{cam_from_world, intrinsics, width, height};
    Carve memory(workspace);
    int32_t* before = memory.take<int32_t>(n + 1);
    void* scratch = memory.rest();
    if (launch_each("splat_visible", mark_visible, n, stream, n, means, log_scales, logit_opacities, view, near_z,
                    before) ||
        scan(before, before, n + 1, scratch, stream) ||
        launch_each("splat_visible", list_visible, n, stream, n, before, ids))
        return 1;
    int32_t found = 0;
    if (to_host(&found, before + n, stream)) return 1;
    *count = found;
    return 0;
}

SPLAT_API int splat_project_forward(int64_t n, int32_t k, int32_t degree, const float* means, const float* quats_wxyz,
                                    const float* log_scales, const float* logit_opacities, const float* sh,
                                    const float* cam_from_world, const float* intrinsics, int32_t width,
                                    int32_t height, float near_z, int32_t antialiased, float* splats, float* means2d,
                                    int32_t* radii, void* stream) {
    if (degree < 0 || degree > 3 || (degree + 1) * (degree + 1) > k)
        return fail("harmonics of degree %d cannot be read from %d coefficients: use 0 to 3.", degree, k);
    const View view{cam_from_world, intrinsics, width, height};
    const Rows rows{means, quats_wxyz, log_scales, logit_opacities, sh, k};
    int result = 0;
    with_degree(degree, [&](auto d) {
        result = launch("splat_project_forward", project<decltype(d)::value>, dim3((unsigned)blocks_for(n)), BLOCK,
                        stream, n, rows, view, near_z, antialiased != 0, splats, means2d, radii);
    });
    return result;
}

SPLAT_API int64_t splat_project_backward_workspace(int64_t n) {
    return (blocks_for(n) + 1) * POSE_SUMS * (int64_t)sizeof(double);
}

SPLAT_API int splat_project_backward(int64_t n, int32_t k, int32_t degree, int32_t g_k, const float* means,
                                     const float* quats_wxyz, const float* log_scales, const float* logit_opacities,
                                     const float* sh, const float* cam_from_world, const float* intrinsics,
                                     int32_t width, int32_t height, int32_t antialiased, const int32_t* radii,
                                     const float* g_splats, const float* g_means2d, float* g_means,
                                     float* g_quats_wxyz, float* g_log_scales, float* g_logit_opacities, float* g_sh,
                                     double* g_cam_from_world, void* workspace, void* stream) {
    if (degree < 0 || degree > 3 || (degree + 1) * (degree + 1) > k)
        return fail("harmonics of degree %d cannot be read from %d coefficients: use 0 to 3.", degree, k);
    if (g_k != k && g_k != 1) return fail("gradients of %d or of 1 coefficients can be had, not of %d.", k, g_k);
    const View view{cam_from_world, intrinsics, width, height};
    const Rows rows{means, quats_wxyz, log_scales, logit_opacities, sh, k};
    const Gradients out{g_means, g_quats_wxyz, g_log_scales, g_logit_opacities, g_sh, g_k};
    double *sums = (double*)workspace, *partial = sums + POSE_SUMS;
    int result = 0;
    with_degree(degree, [&](auto d) {
        result = launch("splat_project_backward", project_backward<decltype(d)::value>, dim3((unsigned)blocks_for(n)),
                        BLOCK, stream, n, rows, view, antialiased != 0, radii, g_splats, g_means2d, out, partial);
    });
    if (result || sum_rows(blocks_for(n), POSE_SUMS, partial, sums, stream)) return 1;
    return launch("splat_project_backward", finish_pose, dim3(1), 1, stream, view, sums, g_cam_from_world);
}
