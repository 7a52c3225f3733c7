// Draws random scenes, poisoned ones too, through every kernel of a training step: rasterizer, loss, statistics,
// optimizer; forward, backward, from two callers at once on four threads each. Built with a sanitizer by
// test_sanitizers.py. Buffers have exactly the size they must have.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <random>
#include <thread>
#include <vector>

#include "../../splat/native/kernels.h"

template <class T>
using Buffer = std::vector<T>;

#define CHECK(call)                                                     \
    if (call) {                                                         \
        fprintf(stderr, "%s: %s\n", #call, splat_last_error());         \
        exit(3);                                                        \
    }

static Buffer<float> draw(int seed, int64_t n, int32_t degree, int32_t width, int32_t height, bool poison) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    const float poisons[] = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 1e-40f, 0, 1e20f, 88, -88};
    auto random = [&](int64_t size, float scale, float offset) {
        Buffer<float> b(size);
        for (auto& x : b) x = poison && rng() % 50 == 0 ? poisons[rng() % 10] : offset + scale * normal(rng);
        return b;
    };
    int32_t k = (degree + 1) * (degree + 1);
    auto means = random(3 * n, 1, 0), quats = random(4 * n, 1, 0), scales = random(3 * n, 0.7f, n > 10000 ? -6.0f : -2.5f);
    auto logits = random(n, 1.5f, 0), sh = random(3 * n * k, 0.3f, 0.3f);
    for (int64_t i = 0; i < n; ++i) means[3 * i + 2] += 3;
    const float pose[16] = {0.995f, -0.0998f, 0, 0.1f, 0.0998f, 0.995f, 0, -0.2f, 0, 0, 1, 0.3f, 0, 0, 0, 1};
    const float fx = 0.8f * width, fy = 0.9f * width, cx = 0.45f * width, cy = 0.55f * height;
    const float intrinsics[4] = {fx, fy, cx, cy};

    Buffer<uint8_t> kept(splat_visible_workspace(n));
    Buffer<int64_t> ids(n);
    int64_t count = 0, total = 0;
    CHECK(splat_visible(n, means.data(), scales.data(), logits.data(), pose, intrinsics, width, height, 0.01f,
                        ids.data(), &count, kept.data(), nullptr));
    Buffer<float> splats(n * SPLAT_FIELDS), centres(2 * n);
    Buffer<int32_t> radii(n);
    CHECK(splat_project_forward(n, k, degree, means.data(), quats.data(), scales.data(), logits.data(), sh.data(), pose,
                                intrinsics, width, height, 0.01f, seed & 1, splats.data(), centres.data(),
                                radii.data(), nullptr));
    int64_t tiles = (int64_t)((width + 15) / 16) * ((height + 15) / 16), pixels = (int64_t)width * height;
    Buffer<int32_t> order(n), first(n + 1), start(tiles + 1);
    Buffer<int64_t> scratch((splat_bin_workspace(n, width, height) + 7) / 8);
    CHECK(splat_bin_count(n, splats.data(), width, height, order.data(), first.data(), &total, scratch.data(),
                          nullptr));
    Buffer<int32_t> entries(2 * total);
    CHECK(splat_bin_fill(n, splats.data(), width, height, order.data(), first.data(), total, start.data(),
                         entries.data(), nullptr, scratch.data(), nullptr, nullptr));
    if (total && !splat_bin_fill(n, splats.data(), width, height, order.data(), first.data(), total - 1, start.data(),
                                 entries.data(), nullptr, scratch.data(), nullptr, nullptr))
        exit(4);
    const float background[3] = {0.1f, 0.2f, 0.3f};
    Buffer<float> rgb(3 * pixels), alpha(pixels), depth(pixels);
    Buffer<uint16_t> hits(total);
    CHECK(splat_blend_forward(splats.data(), width, height, start.data(), entries.data(), background, 1e-4f, rgb.data(),
                              alpha.data(), depth.data(), hits.data(), nullptr, nullptr));
    Buffer<uint8_t> photo(3 * pixels), weight(pixels);
    for (auto& x : photo) x = (uint8_t)rng();
    for (auto& x : weight) x = rng() % 4 ? (uint8_t)rng() : 0;
    const float affine[12] = {1.1f, 0, 0.1f, 0, 0.1f, 0.9f, 0, 0.1f, 0, 0, 1, -0.1f};
    Buffer<uint8_t> loss_scratch(splat_photometric_workspace(height, width, 3));
    Buffer<float> g_rgb(3 * pixels);
    double losses[3], g_affine[12];
    CHECK(splat_photometric(height, width, 3, rgb.data(), photo.data(), nullptr, seed % 3 ? weight.data() : nullptr, 0.8f,
                            seed % 4 ? 0.2f : 0.0f, seed % 2 ? affine : nullptr, losses, g_rgb.data(),
                            seed % 2 ? g_affine : nullptr, loss_scratch.data(), (int64_t)loss_scratch.size(), nullptr));
    Buffer<float> g_splats(n * SPLAT_FIELDS), absgrad(2 * n), records(total * SPLAT_RECORD);
    Buffer<double> sums(splat_blend_backward_workspace(width, height) / 8), g_background(3), g_pose(16);
    CHECK(splat_blend_backward(n, splats.data(), width, height, first.data(), start.data(), entries.data(), hits.data(), 1e-4f,
                               rgb.data(), alpha.data(), depth.data(), g_rgb.data(), alpha.data(), depth.data(),
                               g_splats.data(), nullptr, g_background.data(), absgrad.data(), records.data(), total,
                               sums.data(), nullptr));
    const int32_t channels = 1 + seed % 6;
    auto features = random(n * channels, 1, 0);
    Buffer<uint8_t> lanes(splat_blend_channels_workspace(width, height, channels));
    Buffer<float> image(pixels * channels), g_features(n * channels), more_records(total * channels);
    CHECK(splat_blend_channels_forward(splats.data(), width, height, start.data(), entries.data(), background, 1e-4f,
                                       channels, features.data(), rgb.data(), alpha.data(), depth.data(), image.data(),
                                       seed % 2 ? hits.data() : nullptr, lanes.data(), nullptr));
    CHECK(splat_blend_channels_backward(n, splats.data(), width, height, first.data(), start.data(), entries.data(),
                                        hits.data(), 1e-4f, channels, features.data(), rgb.data(), alpha.data(),
                                        depth.data(), image.data(), g_rgb.data(), seed % 3 ? alpha.data() : nullptr,
                                        nullptr, image.data(), g_splats.data(), nullptr, g_background.data(),
                                        seed % 2 ? absgrad.data() : nullptr, g_features.data(), records.data(),
                                        more_records.data(), total, lanes.data(), nullptr));
    Buffer<double> partial(splat_project_backward_workspace(n) / 8);
    Buffer<float> gm(3 * n), gq(4 * n), gs(3 * n), gl(n), gh(3 * n * k);
    CHECK(splat_project_backward(n, k, degree, k, means.data(), quats.data(), scales.data(), logits.data(), sh.data(), pose,
                                 intrinsics, width, height, seed & 1, radii.data(), g_splats.data(), nullptr,
                                 gm.data(), gq.data(), gs.data(), gl.data(), gh.data(), g_pose.data(), partial.data(),
                                 nullptr));
    ids.resize(count);
    Buffer<float> pull(n), seen(n), largest(n), rows(3 * count), rows_sh(3 * k * count), g_sh0(3 * count);
    if (count) {
        const int64_t table[6] = {(int64_t)means.data(), (int64_t)rows.data(), 3, (int64_t)sh.data(),
                                  (int64_t)rows_sh.data(), 3 * k};
        CHECK(splat_gather(2, count, ids.data(), table, nullptr));
    }
    CHECK(splat_density_statistics(count, ids.data(), absgrad.data(), radii.data(), width, height, pull.data(),
                                   seen.data(), largest.data(), nullptr));
    for (int64_t i = 0; i < 3 * count; ++i) g_sh0[i] = gm[i];
    Buffer<float> m(3 * n * k), v(3 * n * k), mm(3 * n), vm(3 * n);
    const float constants[3] = {3.0f, 0.01f, 0.001f};
    CHECK(splat_adam_harmonics(count, ids.data(), seed % 3 ? nullptr : radii.data(), k, means.data(), pose,
                               g_sh0.data(), seed % 2 ? 3 : 0, sh.data(), m.data(), v.data(), constants, 0.9, 0.999,
                               1e-15, nullptr));
    const int64_t matrix[7] = {(int64_t)means.data(), (int64_t)gm.data(), (int64_t)mm.data(), (int64_t)vm.data(), 3, 3, 3};
    CHECK(splat_adam(1, count, ids.data(), seed % 3 ? nullptr : radii.data(), matrix, constants, 0.9, 0.999, 1e-15,
                     nullptr));
    Buffer<float> grey(pixels), noise(3 * pixels), planes(3 * pixels), cost(pixels);
    Buffer<int32_t> texels(pixels);
    for (auto& x : grey) x = (float)(rng() % 256);
    for (auto& x : texels) x = (int32_t)rng();
    for (auto& x : noise) x = (float)(rng() % 2001) / 1000 - 1;
    for (int64_t i = 0; i < pixels; ++i) planes[i] = 0.1f + (float)(rng() % 190) / 100;
    const int64_t photos[6] = {(int64_t)texels.data(), width, height, (int64_t)texels.data(), width, height};
    const double warps[24] = {1, 0, 0, 0, 1, 0, 0, 0, 1, 0.1 * width, 0, 0, 1, 0.1, 0, 0, 1, 0, 0, 1e-4, 1, 0, -8, 0.2};
    for (int turn = 0; turn < 3; ++turn)
        CHECK(splat_stereo_search(height, width, grey.data(), fx, fy, cx, cy, 2, photos, warps, 1, 0.1f, 2.0f, 0.1f, 0.5f,
                                  turn ? noise.data() : nullptr, turn & 1, planes.data(), cost.data(), nullptr));
    Buffer<float> there(2 * pixels), smooth(3 * pixels);
    Buffer<int32_t> at(pixels), support(n), violations(n);
    Buffer<uint8_t> agrees(pixels);
    CHECK(splat_agreement(height, width, planes.data(), fx, fy, cx, cy, height, width, cost.data(), warps, 20, 0.5f, 0.01f,
                          seed % 2 ? there.data() : nullptr, at.data(), agrees.data(), nullptr));
    CHECK(splat_count_support(n, means.data(), height, width, cost.data(), warps, 0.1f, 0.2f, support.data(), violations.data(),
                        nullptr));
    CHECK(splat_smooth_normals(height, width, planes.data(), cost.data(), 4, 0.5f, smooth.data(), nullptr));
    Buffer<float> all = rgb;
    all.insert(all.end(), there.begin(), there.end());
    all.insert(all.end(), smooth.begin(), smooth.end());
    all.insert(all.end(), planes.begin(), planes.end());
    all.insert(all.end(), sh.begin(), sh.end());
    all.insert(all.end(), gm.begin(), gm.end());
    all.insert(all.end(), gh.begin(), gh.end());
    all.insert(all.end(), image.begin(), image.end());
    all.insert(all.end(), g_features.begin(), g_features.end());
    return all;
}

static bool same(const Buffer<float>& a, const Buffer<float>& b) {
    return a.size() == b.size() && (a.empty() || memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

int main() {
    splat_set_threads(4);
    const int64_t counts[] = {0, 1, 15, 17, 400, 2500, 20000};
    for (int seed = 0; seed < 14; ++seed) {
        int64_t n = counts[seed % 7];
        int32_t width = 1 + 37 * (seed % 4), height = 16 + 23 * (seed % 3);
        auto work = [&] { return draw(seed, n, seed % 4, width, height, seed >= 7); };
        Buffer<float> one, two;
        std::thread other([&] { one = work(); });
        two = work();
        other.join();
        if (!same(one, two)) return 5;
    }
    return 0;
}
