// Exact nearest neighbours. Points are sorted along Morton's curve and cut into groups with a box around each; a query looks
// at its own group first, then at every group whose box is nearer than the k-th neighbour so far.
#include "library.cuh"
#include "order.cuh"

namespace splat {
namespace {

constexpr int GROUP = 128, MAX_K = 32;

struct Box {
    float low[3], high[3];
    int32_t count;  // of points that can be neighbours: the first of the group
};

__device__ bool usable(const float* p) { return abs(p[0]) < 1e18f && abs(p[1]) < 1e18f && abs(p[2]) < 1e18f; }

// The box of the points of each block. Its corner in the order of integers comes later, on the whole.
__global__ void bound(int64_t count, const float* points, const int32_t* order, Box* boxes) {
    const int64_t group = thread_number();
    if (group * GROUP >= count) return;
    Box b{{INFINITY, INFINITY, INFINITY}, {-INFINITY, -INFINITY, -INFINITY}, 0};
    for (int64_t i = group * GROUP; i < count && i < (group + 1) * GROUP; ++i) {
        const float* p = points + 3 * (int64_t)(order ? order[i] : i);
        if (!usable(p)) continue;
        for (int d = 0; d < 3; ++d) b.low[d] = min(b.low[d], p[d]), b.high[d] = max(b.high[d], p[d]);
        ++b.count;
    }
    boxes[group] = b;
}

__global__ void bound_all(int64_t groups, const Box* boxes, Box* whole) {
    Box b = boxes[0];
    for (int64_t i = 1; i < groups; ++i)
        for (int d = 0; d < 3; ++d) b.low[d] = min(b.low[d], boxes[i].low[d]), b.high[d] = max(b.high[d], boxes[i].high[d]);
    *whole = b;
}

// Every third bit of a number of ten bits.
__device__ uint32_t spread(uint32_t x) {
    x = (x | x << 16) & 0x030000ffu;
    x = (x | x << 8) & 0x0300f00fu;
    x = (x | x << 4) & 0x030c30c3u;
    return (x | x << 2) & 0x09249249u;
}

__global__ void encode(int64_t count, const float* points, const Box* whole, uint32_t* keys, int32_t* ids) {
    const int64_t i = thread_number();
    if (i >= count) return;
    const float* p = points + 3 * i;
    uint32_t key = 1u << 30;  // behind all others: not to be found
    if (usable(p)) {
        key = 0;
        for (int d = 0; d < 3; ++d) {
            const float size = whole->high[d] - whole->low[d];
            const float t = size > 0 ? (p[d] - whole->low[d]) / size : 0.0f;
            key |= spread((uint32_t)to_int(clamp(t * 1024, 0, 1023))) << d;
        }
    }
    keys[i] = key;
    ids[i] = (int32_t)i;
}

// The k nearest so far, nearest first; ties go to the smaller id.
struct Nearest {
    int k, found;
    float squared[MAX_K];
    int32_t ids[MAX_K];

    __device__ float limit() const { return found < k ? INFINITY : squared[k - 1]; }
    __device__ void offer(float d2, int32_t id) {
        if (found == k && !before(d2, id, k - 1)) return;
        int i = found < k ? found++ : k - 1;
        for (; i > 0 && before(d2, id, i - 1); --i) squared[i] = squared[i - 1], ids[i] = ids[i - 1];
        squared[i] = d2, ids[i] = id;
    }
    __device__ bool before(float d2, int32_t id, int i) const {
        return d2 < squared[i] || (d2 == squared[i] && id < ids[i]);
    }
};

__global__ void search(int64_t count, const float* points, const int32_t* order, const Box* boxes, int k,
                       float* distances, int32_t* ids) {
    const int64_t at = thread_number();
    if (at >= count) return;
    const int32_t self = order[at];
    const float* query = points + 3 * (int64_t)self;
    if (!usable(query)) {
        for (int i = 0; i < k; ++i) {
            distances[(int64_t)self * k + i] = NAN;
            if (ids) ids[(int64_t)self * k + i] = -1;
        }
        return;
    }
    Nearest best;
    best.k = k, best.found = 0;
    const int64_t groups = ceil_div<int64_t>(count, GROUP), own = at / GROUP;
    for (int64_t turn = 0; turn < groups; ++turn) {
        const int64_t group = turn == 0 ? own : turn <= own ? turn - 1 : turn;
        const Box& b = boxes[group];
        float away = 0;
        for (int d = 0; d < 3; ++d) {
            const float gap = max(0.0f, max(b.low[d] - query[d], query[d] - b.high[d]));
            away += gap * gap;
        }
        if (b.count == 0 || away * 0.99999f > best.limit()) continue;  // the margin covers rounding
        for (int64_t i = group * GROUP; i < group * GROUP + b.count; ++i) {
            const int32_t id = order[i];
            if (id == self) continue;
            float d2 = 0;
            for (int d = 0; d < 3; ++d) d2 += (points[3 * (int64_t)id + d] - query[d]) * (points[3 * (int64_t)id + d] - query[d]);
            best.offer(d2, id);
        }
    }
    for (int i = 0; i < k; ++i) {
        distances[(int64_t)self * k + i] = i < best.found ? sqrt(best.squared[i]) : INFINITY;
        if (ids) ids[(int64_t)self * k + i] = i < best.found ? best.ids[i] : -1;
    }
}

struct Memory {
    Box *boxes, *whole;
    uint32_t *keys, *sorted_keys;
    int32_t *ids, *order;
    void* scratch;

    Memory(Carve& memory, int64_t n)
        : boxes(memory.take<Box>(ceil_div<int64_t>(n, GROUP) + 1)), whole(memory.take<Box>(1)),
          keys(memory.take<uint32_t>(n)), sorted_keys(memory.take<uint32_t>(n)), ids(memory.take<int32_t>(n)),
          order(memory.take<int32_t>(n)), scratch(memory.rest()) {}
};

}  // namespace
}  // namespace splat

using namespace splat;

SPLAT_API int64_t splat_knn_workspace(int64_t count) {
    Carve memory(nullptr);
    Memory m(memory, count);
    return memory.bytes() + sort_scratch(count, false);
}

SPLAT_API int splat_knn(int64_t count, const float* positions, int32_t k, float* distances, int32_t* ids,
                        uint8_t* workspace, int64_t workspace_bytes, void* stream) {
    if (k < 1 || k > MAX_K) return fail("%d neighbours were asked for: choose 1 to %d.", k, MAX_K);
    if (count < 0 || count >= INT32_MAX) return fail("neighbours of %lld points cannot be found.", (long long)count);
    if (workspace_bytes < splat_knn_workspace(count))
        return fail("the workspace has %lld bytes; %lld are needed.", (long long)workspace_bytes,
                    (long long)splat_knn_workspace(count));
    if (count == 0) return 0;
    Carve memory(workspace);
    const Memory m(memory, count);
    const int64_t groups = ceil_div<int64_t>(count, GROUP);
    return launch_each("splat_knn", bound, groups, stream, count, positions, nullptr, m.boxes) ||
           launch("splat_knn", bound_all, dim3(1), 1, stream, groups, m.boxes, m.whole) ||
           launch_each("splat_knn", encode, count, stream, count, positions, m.whole, m.keys, m.ids) ||
           sort(count, 31, m.keys, m.sorted_keys, m.ids, m.order, m.scratch, stream) ||
           launch_each("splat_knn", bound, groups, stream, count, positions, m.order, m.boxes) ||
           launch_each("splat_knn", search, count, stream, count, positions, m.order, m.boxes, k, distances, ids);
}
