#include "pool.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#ifdef __linux__
#include <sched.h>
#endif

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "../kernels.h"

namespace splat {
namespace {

thread_local char last_error[512] = "";

int default_threads() {
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
#endif
    return std::max(1u, std::thread::hardware_concurrency());
}

// Kernels come in quick succession, and putting a thread to sleep and waking it costs more than many of them take: it
// looks around for a while first.
template <class Condition>
void spin_while(Condition&& condition) {
    for (int i = 0; i < 8000 && condition(); ++i) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
    }
}

struct Pool {
    std::mutex use;    // held by the one caller whose jobs run on the pool
    std::mutex state;  // guards what follows
    std::condition_variable wake, done;
    std::vector<std::thread> workers;
    std::atomic<uint64_t> round{0};  // changed under `state` alone, as is `running`; read without it while spinning
    std::atomic<int> running{0};     // workers inside this round
    int wanted = 0;                  // workers that may still join this round
    bool stop = false;
    void (*job)(void*, int64_t) = nullptr;
    void* context = nullptr;
    int64_t count = 0;
    std::atomic<int64_t> next{0};

    ~Pool() {
        {
            std::lock_guard lock(state);
            stop = true;
        }
        wake.notify_all();
        for (auto& w : workers) w.join();
    }

    void drain() {
        for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < count;) job(context, i);
    }

    void worker() {
        uint64_t seen = 0;
        std::unique_lock lock(state);
        while (true) {
            lock.unlock();
            spin_while([&] { return round.load(std::memory_order_acquire) == seen; });
            lock.lock();
            wake.wait(lock, [&] { return stop || (wanted > 0 && round != seen); });
            if (stop) return;
            seen = round;
            --wanted;
            ++running;
            lock.unlock();
            drain();
            lock.lock();
            if (--running == 0) done.notify_one();
        }
    }

    void run(int64_t n, void (*f)(void*, int64_t), void* c, int helpers) {
        {
            std::lock_guard lock(state);
            while ((int)workers.size() < helpers) workers.emplace_back([this] { worker(); });
            job = f, context = c, count = n;
            next.store(0, std::memory_order_relaxed);
            wanted = helpers;
            ++round;
        }
        if (helpers == 1) wake.notify_one();
        else wake.notify_all();
        drain();
        std::unique_lock lock(state);
        wanted = 0;  // whoever has not woken yet has nothing left to do
        lock.unlock();
        spin_while([&] { return running.load(std::memory_order_acquire) > 0; });
        lock.lock();
        done.wait(lock, [&] { return running == 0; });
    }
};

std::atomic<int> threads{0};
std::mutex making;
std::atomic<Pool*> pool{nullptr};

// The pool lives until the process ends: joining threads from a static destructor or after a fork is a known trap.
Pool* the_pool() {
    Pool* p = pool.load(std::memory_order_acquire);
    if (p) return p;
    std::lock_guard lock(making);
    p = pool.load(std::memory_order_acquire);
    if (!p) {
        static bool registered = false;
        if (!registered) {
            // A forked child has no workers: it starts a pool of its own when it needs one.
            pthread_atfork([] { making.lock(); }, [] { making.unlock(); },
                           [] {
                               pool.store(nullptr);
                               making.unlock();
                           });
            registered = true;
        }
        p = new Pool;
        pool.store(p, std::memory_order_release);
    }
    return p;
}

}  // namespace

int fail(const char* sentence, ...) {
    va_list arguments;
    va_start(arguments, sentence);
    vsnprintf(last_error, sizeof last_error, sentence, arguments);
    va_end(arguments);
    return 1;
}

int thread_count() {
    int n = threads.load(std::memory_order_relaxed);
    if (n) return n;
    n = default_threads();
    threads.store(n, std::memory_order_relaxed);
    return n;
}

void run_jobs(int64_t count, void (*job)(void*, int64_t), void* context) {
    int helpers = (int)std::min<int64_t>(thread_count(), count) - 1;
    if (helpers > 0) {
        Pool* p = the_pool();
        // Busy with another caller's jobs (or called from inside one): run here, the result is the same.
        if (p->use.try_lock()) {
            p->run(count, job, context, helpers);
            p->use.unlock();
            return;
        }
    }
    for (int64_t i = 0; i < count; ++i) job(context, i);
}

}  // namespace splat

SPLAT_API const char* splat_last_error(void) { return splat::last_error; }

SPLAT_API int splat_set_threads(int n) {
    if (n < 1 || n > 4096) return splat::fail("%d threads were asked for: choose 1 to 4096.", n);
    splat::threads.store(n, std::memory_order_relaxed);
    return 0;
}

SPLAT_API int splat_get_threads(void) { return splat::thread_count(); }
