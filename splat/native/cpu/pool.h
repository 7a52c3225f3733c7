// A small persistent pool of threads, and how a kernel reports failure.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include <algorithm>
#include <type_traits>

namespace splat {

// Leaves `sentence` (printf style) for splat_last_error() and returns 1: `return fail("...")`.
int fail(const char* sentence, ...) __attribute__((format(printf, 1, 2)));

int thread_count();

// Runs job(context, i) for every i of [0, count), in any order, on up to thread_count() threads; returns when all are done.
void run_jobs(int64_t count, void (*job)(void*, int64_t), void* context);

// body(i) for every i of [0, count): dynamic, so jobs may be uneven. A body must write only what belongs to its i; then
// the result depends neither on the number of threads nor on who ran what.
template <class Body>
void parallel_jobs(int64_t count, Body&& body) {
    using B = std::remove_reference_t<Body>;
    run_jobs(count, [](void* context, int64_t i) { (*static_cast<B*>(context))(i); }, (void*)&body);
}

// Like parallel_jobs, for bodies whose neighbours write to the same cache lines: threads begin far from each other.
template <class Body>
void parallel_jobs_apart(int64_t count, Body&& body) {
    const int64_t stretches = std::min<int64_t>(thread_count(), count);
    parallel_jobs(count, [&](int64_t i) {
        // The i-th job is the next of stretch i % stretches; the first count % stretches of them are longer by one.
        const int64_t stretch = i % stretches, longer = count % stretches;
        body(stretch * (count / stretches) + std::min(stretch, longer) + i / stretches);
    });
}

// body(begin, end) over pieces of [0, count) of `grain` elements each. The pieces depend on `grain` alone.
template <class Body>
void parallel_ranges(int64_t count, int64_t grain, Body&& body) {
    int64_t pieces = (count + grain - 1) / grain;
    parallel_jobs(pieces, [&](int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); });
}

}  // namespace splat
