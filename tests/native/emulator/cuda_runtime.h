// CUDA as far as cuda/*.cu use it, on a CPU: every GPU thread is a fiber, warps and blocks meet where they would, and blocks
// run one after the other. It is slow and exact: what it shows is that the kernels compute what they should, whatever the
// order in which their threads happen to run, and that they meet in the right places (else: a deadlock, reported).
#pragma once
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#define SPLAT_EMULATED 1
#define __host__
#define __device__
#define __global__ static
#define __shared__ static
#define __forceinline__ inline
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct int2 {
    int x, y;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
struct alignas(16) float4 {
    float x, y, z, w;
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulator {

constexpr int WARP = 32;

// A place where `expected` fibers wait for each other. What they bring is kept for two meetings, so that nobody overwrites
// what another has not read yet.
struct Meeting {
    int expected = 0, arrived = 0;
    uint64_t number = 0;
    uint64_t brought[2][WARP];
};

// Fibers live as long as the process: each runs the body once per block. They begin with makecontext and go on with
// _longjmp, which unlike swapcontext asks nothing of the kernel.
struct Fiber {
    ucontext_t start;
    jmp_buf here;
    bool started = false;
    std::unique_ptr<char[]> stack;
    Meeting* waits_in = nullptr;
    uint64_t waits_for = 0;
    bool done = false;
};

struct Machine {
    std::vector<Fiber> fibers;
    std::vector<Meeting> warps;
    Meeting block;
    jmp_buf scheduler;
    std::function<void()> body;
    int current = 0;
};
inline Machine machine;

inline void come(Meeting& m) {
    if (++m.arrived == m.expected) {
        m.arrived = 0;
        ++m.number;
    }
}
inline void meet(Meeting& m) {
    Fiber& self = machine.fibers[machine.current];
    const uint64_t number = m.number;
    come(m);
    if (m.number != number) return;
    self.waits_in = &m;
    self.waits_for = number;
    if (!_setjmp(self.here)) _longjmp(machine.scheduler, 1);
}

inline void leave(Meeting& m) {  // those that wait need not wait for this one
    --m.expected;
    if (m.expected > 0 && m.arrived == m.expected) {
        m.arrived = 0;
        ++m.number;
    }
}

inline void run_fiber() {
    while (true) {
        machine.body();
        Fiber& self = machine.fibers[machine.current];
        self.done = true;
        leave(machine.warps[machine.current / WARP]);
        leave(machine.block);
        if (!_setjmp(self.here)) _longjmp(machine.scheduler, 1);
    }
}

inline void resume(Fiber& f) {
    if (_setjmp(machine.scheduler)) return;
    if (f.started) _longjmp(f.here, 1);
    f.started = true;
    setcontext(&f.start);
}

inline void run_block(int threads) {
    constexpr size_t STACK = 96 << 10;
    static const bool room = (machine.fibers.reserve(1024), true);  // fibers must not move
    (void)room;
    while ((int)machine.fibers.size() < threads) {
        machine.fibers.emplace_back();
        Fiber& f = machine.fibers.back();
        f.stack.reset(new char[STACK]);
        getcontext(&f.start);
        f.start.uc_stack.ss_sp = f.stack.get();
        f.start.uc_stack.ss_size = STACK;
        makecontext(&f.start, run_fiber, 0);
    }
    machine.warps.assign((threads + WARP - 1) / WARP, Meeting());
    machine.block = Meeting();
    machine.block.expected = threads;
    for (int i = 0; i < threads; ++i) {
        Fiber& f = machine.fibers[i];
        ++machine.warps[i / WARP].expected;
        f.waits_in = nullptr;
        f.done = false;
    }
    for (int left = threads; left;) {
        bool moved = false;
        for (int i = 0; i < threads; ++i) {
            Fiber& f = machine.fibers[i];
            if (f.done || (f.waits_in && f.waits_in->number == f.waits_for)) continue;
            moved = true;
            f.waits_in = nullptr;
            machine.current = i;
            threadIdx = dim3((unsigned)i);
            resume(f);
            left -= f.done;
        }
        if (!moved) {
            fprintf(stderr, "deadlock: threads of a block wait for each other in different places\n");
            abort();
        }
    }
}

inline void launch(dim3 grid, int block, std::function<void()> body) {
    static std::mutex one_at_a_time;
    std::lock_guard lock(one_at_a_time);
    machine.body = std::move(body);
    gridDim = grid;
    blockDim = dim3((unsigned)block);
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) {
                blockIdx = dim3(x, y, z);
                run_block(block);
            }
}

inline Meeting& my_warp() { return machine.warps[machine.current / WARP]; }
inline int my_lane() { return machine.current % WARP; }

// Brings a value to the warp's meeting; returns where all that was brought lies.
template <class T>
const uint64_t* exchange(T value) {
    static_assert(sizeof(T) <= 8, "a register or two");
    Meeting& m = my_warp();
    uint64_t* slots = m.brought[m.number % 2];
    slots[my_lane()] = 0;
    memcpy(slots + my_lane(), &value, sizeof value);
    meet(m);
    return slots;
}
template <class T>
T fetch(const uint64_t* slots, int lane, T otherwise) {
    if (lane < 0 || lane >= WARP) return otherwise;
    T value;
    memcpy(&value, slots + lane, sizeof value);
    return value;
}

}  // namespace emulator

inline void __syncthreads() { emulator::meet(emulator::machine.block); }
inline void __syncwarp() { emulator::meet(emulator::my_warp()); }
inline unsigned __ballot_sync(unsigned, bool vote) {
    const uint64_t* slots = emulator::exchange((int)vote);
    unsigned bits = 0;
    for (int i = 0; i < emulator::WARP; ++i) bits |= (unsigned)(slots[i] != 0) << i;
    return bits;
}
inline bool __any_sync(unsigned everyone, bool vote) { return __ballot_sync(everyone, vote) != 0; }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulator::fetch(emulator::exchange(value), emulator::my_lane() ^ mask, value);
}
template <class T>
T __shfl_down_sync(unsigned, T value, int far) {
    return emulator::fetch(emulator::exchange(value), emulator::my_lane() + far, value);
}
inline int __ffs(unsigned bits) { return __builtin_ffs((int)bits); }
inline uint32_t __float_as_uint(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}
template <class T>
T atomicAdd(T* at, T value) {
    const T before = *at;
    *at += value;
    return before;
}

typedef int cudaError_t;
typedef void* cudaStream_t;
constexpr cudaError_t cudaSuccess = 0;
enum cudaMemcpyKind { cudaMemcpyDeviceToHost };
inline const char* cudaGetErrorString(cudaError_t) { return "an error"; }
inline cudaError_t cudaGetLastError() { return 0; }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
    memcpy(to, from, bytes);
    return 0;
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
    memset(to, value, bytes);
    return 0;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return 0; }
inline cudaError_t cudaMalloc(void** p, size_t bytes) { return (*p = malloc(bytes)) ? 0 : 1; }
inline cudaError_t cudaFree(void* p) {
    free(p);
    return 0;
}
