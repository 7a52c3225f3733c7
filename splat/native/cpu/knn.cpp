// Exact nearest neighbours by a k-d tree (Bentley 1975): median splits along the widest side, leaves of a few points,
// no nodes in memory but the order of the points and one byte per split.
#include <math.h>
#include <string.h>

#include "../kernels.h"
#include "pool.h"

namespace splat {
namespace {

constexpr int64_t LEAF = 12;
constexpr int MAX_K = 32;

struct Point {
    float x[3];
    int32_t id;
};

// The points of [begin, end) with the median in the middle; what is left of it is not above it along `axis[middle]`.
struct Tree {
    Point* points;
    uint8_t* axis;
    int64_t count;

    int64_t split(int64_t begin, int64_t end) const {
        float low[3], high[3];
        for (int d = 0; d < 3; ++d) low[d] = high[d] = points[begin].x[d];
        for (int64_t i = begin + 1; i < end; ++i)
            for (int d = 0; d < 3; ++d) {
                low[d] = std::min(low[d], points[i].x[d]);
                high[d] = std::max(high[d], points[i].x[d]);
            }
        int widest = 0;
        for (int d = 1; d < 3; ++d)
            if (high[d] - low[d] > high[widest] - low[widest]) widest = d;
        const int64_t middle = (begin + end) / 2;
        std::nth_element(points + begin, points + middle, points + end, [=](const Point& a, const Point& b) {
            return a.x[widest] != b.x[widest] ? a.x[widest] < b.x[widest] : a.id < b.id;
        });
        axis[middle] = (uint8_t)widest;
        return middle;
    }

    void build(int64_t begin, int64_t end) const {
        if (end - begin <= LEAF) return;
        const int64_t middle = split(begin, end);
        build(begin, middle);
        build(middle + 1, end);
    }
};

// The k nearest so far, nearest first.
struct Nearest {
    const float* query;
    int32_t self;
    int k, found = 0;
    float squared[MAX_K];
    int32_t ids[MAX_K];

    float limit() const { return found < k ? INFINITY : squared[k - 1]; }

    void offer(const Point& p) {
        if (p.id == self) return;
        float d2 = 0;
        for (int d = 0; d < 3; ++d) d2 += (p.x[d] - query[d]) * (p.x[d] - query[d]);
        // Ties go to the smaller id: the answer does not depend on the tree.
        auto before = [&](int i) { return d2 < squared[i] || (d2 == squared[i] && p.id < ids[i]); };
        if (found == k && !before(k - 1)) return;
        int i = found < k ? found++ : k - 1;
        for (; i > 0 && before(i - 1); --i) squared[i] = squared[i - 1], ids[i] = ids[i - 1];
        squared[i] = d2, ids[i] = p.id;
    }
};

// `offset` is the vector from the query to the box of [begin, end), `away` its squared length (Arya & Mount 1993).
void search(const Tree& t, int64_t begin, int64_t end, Nearest& best, float* offset, float away) {
    if (end - begin <= LEAF) {
        for (int64_t i = begin; i < end; ++i) best.offer(t.points[i]);
        return;
    }
    const int64_t middle = (begin + end) / 2;
    const int d = t.axis[middle];
    const float gap = best.query[d] - t.points[middle].x[d];
    const bool left = gap < 0;
    search(t, left ? begin : middle + 1, left ? middle : end, best, offset, away);
    best.offer(t.points[middle]);
    const float old = offset[d], farther = away - old * old + gap * gap;
    // The margin covers the rounding of `farther`; a point at exactly the limit may still win by its id.
    if (farther * 0.99999f <= best.limit()) {
        offset[d] = gap;
        search(t, left ? middle + 1 : begin, left ? end : middle, best, offset, farther);
        offset[d] = old;
    }
}

int64_t bytes_for(int64_t count) { return count * (int64_t)(sizeof(Point) + 1) + 64; }

}  // namespace
}  // namespace splat

SPLAT_API int64_t splat_knn_workspace(int64_t count) { return splat::bytes_for(count); }

SPLAT_API int splat_knn(int64_t count, const float* positions, int32_t k, float* distances, int32_t* ids,
                        uint8_t* workspace, int64_t workspace_bytes, void*) {
    using namespace splat;
    if (count < 0 || count > 2147483647) return fail("%lld points are more than fit 32-bit ids.", (long long)count);
    if (k < 1 || k > MAX_K) return fail("1 to %d neighbours can be found, not %d.", MAX_K, k);
    if (workspace_bytes < bytes_for(count))
        return fail("the workspace has %lld bytes; %lld are needed.", (long long)workspace_bytes,
                    (long long)bytes_for(count));
    Tree tree{(Point*)(((uintptr_t)workspace + 15) / 16 * 16), nullptr, 0};
    for (int64_t i = 0; i < count; ++i) {
        const float* p = positions + 3 * i;
        // Far beyond 1e18 the squares overflow; such points, like NaN, are nobody's neighbours.
        const bool usable = fabsf(p[0]) < 1e18f && fabsf(p[1]) < 1e18f && fabsf(p[2]) < 1e18f;
        if (usable) tree.points[tree.count++] = Point{{p[0], p[1], p[2]}, (int32_t)i};
        for (int32_t j = 0; j < k; ++j) {
            distances[i * k + j] = usable ? INFINITY : NAN;
            if (ids) ids[i * k + j] = -1;
        }
    }
    tree.axis = (uint8_t*)(tree.points + tree.count);

    // Split the first levels here, level by level, then each piece by a job of its own.
    constexpr int LEVELS = 6;
    int64_t edges[2][(1 << LEVELS) * 2];
    int pieces = 1, now = 0;
    edges[0][0] = 0, edges[0][1] = tree.count;
    for (int level = 0; level < LEVELS; ++level, now ^= 1) {
        int64_t *from = edges[now], *to = edges[now ^ 1];
        parallel_jobs(pieces, [&](int64_t i) {
            const int64_t begin = from[2 * i], end = from[2 * i + 1];
            const bool leaf = end - begin <= LEAF;
            const int64_t middle = leaf ? end : tree.split(begin, end);
            to[4 * i] = begin, to[4 * i + 1] = middle;
            to[4 * i + 2] = leaf ? end : middle + 1, to[4 * i + 3] = end;
        });
        pieces *= 2;
    }
    parallel_jobs(pieces, [&](int64_t i) { tree.build(edges[now][2 * i], edges[now][2 * i + 1]); });

    // In the tree's order, so that one query finds the memory of the one before still near.
    parallel_ranges(tree.count, 1024, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const Point query = tree.points[i];
            Nearest best{query.x, query.id, k, 0, {}, {}};
            float offset[3] = {0, 0, 0};
            search(tree, 0, tree.count, best, offset, 0);
            for (int j = 0; j < best.found; ++j) {
                distances[(int64_t)query.id * k + j] = sqrtf(best.squared[j]);
                if (ids) ids[(int64_t)query.id * k + j] = best.ids[j];
            }
        }
    });
    return 0;
}
