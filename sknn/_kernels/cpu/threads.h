// Threads for one call, and the barrier between its phases.
#pragma once
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif
#ifdef __linux__
#include <sched.h>
#endif

namespace sknn {

// How this thread takes numbers below the smallest normal one. A velocity without a gradient
// ends there, and each operation on it would take a hundred cycles: steps flush them to zero.
inline uint64_t float_control() {
    uint64_t control = 0;
#if defined(__x86_64__)
    control = _mm_getcsr();
#elif defined(__aarch64__)
    asm volatile("mrs %0, fpcr" : "=r"(control));
#endif
    return control;
}

inline void set_float_control(uint64_t control) {
#if defined(__x86_64__)
    _mm_setcsr(static_cast<unsigned>(control));
#elif defined(__aarch64__)
    asm volatile("msr fpcr, %0" : : "r"(control));
#endif
}

inline uint64_t flushing(uint64_t control) {
#if defined(__x86_64__)
    return control | 0x8040;            // results and operands
#else
    return control | 1 << 24;           // both
#endif
}

inline double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

inline void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Each thread counts itself in and waits for the next multiple of n: one cache line, which
// changes hands once per thread. It spins, since phases are short, and yields while it does,
// since the thread that it waits for may need this core; after as long as waking up would cost,
// it blocks. A barrier serves one call and so the count does not overflow.
class alignas(64) Barrier {
    static constexpr double SPIN_SECONDS = 50e-6;
    static constexpr int SPINS_PER_YIELD = 32;
    std::atomic<unsigned> arrived{0};
    const unsigned n;

  public:
    explicit Barrier(int n_threads) : n(n_threads) {}

    void wait() {
        if (n == 1) return;     // counting would wait for everything before it
        unsigned count = arrived.fetch_add(1, std::memory_order_acq_rel) + 1;
        const unsigned all = (count + n - 1) / n * n;
        if (count == all) {
            arrived.notify_all();
            return;
        }
        const double end = now() + SPIN_SECONDS;
        do {
            for (int spin = 0; spin < SPINS_PER_YIELD; ++spin) {
                if (arrived.load(std::memory_order_acquire) >= all) return;
                relax();
            }
            std::this_thread::yield();
        } while (now() < end);
        while ((count = arrived.load(std::memory_order_acquire)) < all)
            arrived.wait(count, std::memory_order_acquire);
    }
};

// Fetches what this thread is about to write and others have read: each store would wait for them.
inline void fetch_to_write(void* start, ptrdiff_t bytes) {
    constexpr ptrdiff_t LINE = 64;
    for (char* line = static_cast<char*>(start); bytes > 0; line += LINE, bytes -= LINE)
#if defined(__x86_64__)
        asm volatile("prefetchw %0" : : "m"(*line));    // does nothing where there is no such thing
#else
        __builtin_prefetch(line, 1);
#endif
}

// Takes n from what threads share, and returns where that began.
inline int64_t take(int64_t* next, int64_t n) {
    return __atomic_fetch_add(next, n, __ATOMIC_RELAXED);
}

// Core that the calling thread runs on; -1 if the system does not say.
inline int current_core() {
#ifdef __linux__
    return sched_getcpu();
#else
    return -1;
#endif
}

// Moves the calling thread to another core, if it may use one. Linux places a new thread by the
// load of the last milliseconds: where all cores were busy, often beside the thread that started
// it, and one that lives as shortly as ours would stay there.
inline void leave_core(int core) {
#ifdef __linux__
    cpu_set_t allowed;
    if (sched_getcpu() != core || sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    cpu_set_t others = allowed;
    CPU_CLR(core, &others);
    if (CPU_COUNT(&others) && sched_setaffinity(0, sizeof others, &others) == 0)
        sched_setaffinity(0, sizeof allowed, &allowed);
#else
    (void)core;
#endif
}

// Runs worker(job, 0 .. n_threads - 1), the first on the calling thread, and joins the others.
// Where they wait for each other, *barrier is theirs. Returns false, with nothing run, if the
// system gives no more threads.
template<class Job>
bool run_workers(void (*worker)(Job*, int), Job* job, int n_threads, Barrier** barrier) {
    enum { WAIT, GO, ABANDON };
    Barrier own(n_threads);
    if (barrier) *barrier = &own;
    std::atomic<int> start{WAIT};
    std::vector<std::thread> threads;
    const int core = current_core();
    bool all = true;
    try {
        threads.reserve(n_threads);
        for (int i = 1; i < n_threads; ++i)
            threads.emplace_back([&start, core, worker, job, i] {
                leave_core(core);
                start.wait(WAIT, std::memory_order_acquire);
                if (start.load(std::memory_order_acquire) == GO) worker(job, i);
            });
    } catch (const std::exception&) {
        all = false;
    }
    start.store(all ? GO : ABANDON, std::memory_order_release);
    start.notify_all();
    // to one that shall leave this core, and would wait for our time slice
    if (n_threads > 1) std::this_thread::yield();
    if (all) worker(job, 0);
    for (auto& thread : threads) thread.join();
    return all;
}

}  // namespace sknn
