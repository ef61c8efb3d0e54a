// Runs kernels of our CUDA subset on the CPU: a fiber for each thread of a block, blocks one
// after the other. Threads take turns in a chosen order, each until its next barrier or shuffle,
// so that a missing barrier shows in one order or another. Shared memory starts poisoned.
#pragma once
#undef _FORTIFY_SOURCE      // whose longjmp refuses to leave a fiber's stack
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define SKNN_SHARED(T, name, n)              \
    static T name[n];                        \
    static long long name##_block = -1;      \
    simulated::poison(name, sizeof(name), name##_block)

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace simulated {

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };
enum Order { UP, DOWN, SHUFFLED };
constexpr size_t STACK = 64 << 10;
constexpr int WARP = 32, MAX_THREADS = 1024;

struct Context {
    ucontext_t start;
    jmp_buf place;
    bool begun = false;
};
// lives on from block to block
struct Fiber {
    Context context;
    State state = DONE;
    char* stack = nullptr;
};

static std::vector<Fiber> fibers(MAX_THREADS);
static Context scheduler;
static int current;
static Order order = UP;
static long long block_number = 0;
static uint64_t exchanged[MAX_THREADS];
static std::function<void()> body;
static uint64_t random_state = 88172645463325252ull;

// once for each block, by the first thread that comes
inline void poison(void* memory, size_t n, long long& seen) {
    if (seen == block_number) return;
    seen = block_number;
    memset(memory, 0xff, n);
}

// swapcontext without its system call, which sanitizers need to follow the stacks
__attribute__((noinline)) inline void switch_to(Context& from, Context& to) {
    const bool begun = to.begun;
    to.begun = true;
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&from.start, &to.start);
#else
    if (_setjmp(from.place)) return;
    if (begun) _longjmp(to.place, 1);
    setcontext(&to.start);
#endif
}

inline void wait(State state) {
    const int me = current;
    fibers[me].state = state;
    switch_to(fibers[me].context, scheduler);
    current = me;
    threadIdx.x = me;
}

template<class T> T exchange(T v, int source) {
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    exchanged[current] = bits;
    wait(AT_SHUFFLE);
    memcpy(&v, &exchanged[source], sizeof v);
    wait(AT_SHUFFLE);
    return v;
}

// a bit for each thread of the warp whose value is not 0
inline unsigned ballot(bool v) {
    unsigned bits = 0;
    exchanged[current] = v;
    wait(AT_SHUFFLE);
    for (int k = 0; k < WARP; ++k) bits |= unsigned(exchanged[current / WARP * WARP + k] != 0) << k;
    wait(AT_SHUFFLE);
    return bits;
}

inline void run_fiber() {
    for (;;) {
        body();
        wait(DONE);
    }
}

// at its begin, also if it was left in the middle of a block
inline void restart(Fiber& fiber) {
    ucontext_t& start = fiber.context.start;
    getcontext(&start);
    start.uc_stack.ss_sp = fiber.stack;
    start.uc_stack.ss_size = STACK;
    start.uc_link = &scheduler.start;
    makecontext(&start, run_fiber, 0);
    fiber.context.begun = false;
}

inline void put_in_order(std::vector<int>& turns) {
    const int n = static_cast<int>(turns.size());
    for (int i = 0; i < n; ++i) turns[i] = order == DOWN ? n - 1 - i : i;
    for (int i = n - 1; order == SHUFFLED && i > 0; --i) {
        random_state ^= random_state << 13;
        random_state ^= random_state >> 7;
        random_state ^= random_state << 17;
        std::swap(turns[i], turns[random_state % (i + 1)]);
    }
}

// a warp goes on when all of its threads that have not ended have shuffled
inline bool release_warps(int n) {
    bool released = false;
    for (int first = 0; first < n; first += WARP) {
        const int end = first + WARP < n ? first + WARP : n;
        bool all = true, any = false;
        for (int i = first; i < end; ++i) {
            any |= fibers[i].state == AT_SHUFFLE;
            all &= fibers[i].state == AT_SHUFFLE || fibers[i].state == DONE;
        }
        for (int i = first; i < end && any && all; ++i)
            if (fibers[i].state == AT_SHUFFLE) fibers[i].state = READY;
        released |= any && all;
    }
    return released;
}

// false if threads wait for each other forever
inline bool run_block(int n) {
    std::vector<int> turns(n);
    ++block_number;
    scheduler.begun = true;
    for (int i = 0; i < n; ++i) {
        Fiber& fiber = fibers[i];
        if (!fiber.stack) fiber.stack = static_cast<char*>(malloc(STACK));
        if (fiber.state != DONE || !fiber.context.begun) restart(fiber);
        fiber.state = READY;
    }
    for (;;) {
        put_in_order(turns);
        for (int i : turns) {
            if (fibers[i].state != READY) continue;
            current = i;
            threadIdx = {static_cast<unsigned>(i), 0, 0};
            switch_to(scheduler, fibers[i].context);
        }
        if (release_warps(n)) continue;
        int done = 0, waiting = 0;
        for (int i = 0; i < n; ++i) {
            done += fibers[i].state == DONE;
            waiting += fibers[i].state == AT_BARRIER;
        }
        if (done == n) return true;
        if (done + waiting < n || done > 0) return false;
        for (int i = 0; i < n; ++i) fibers[i].state = READY;
    }
}

// as cuLaunchKernel takes them: a pointer to each argument
template<class... Args, size_t... I>
bool launch(void (*kernel)(Args...), unsigned n_blocks, unsigned n_threads, void** arguments,
            std::index_sequence<I...>) {
    std::tuple<Args...> values(*static_cast<Args*>(arguments[I])...);
    body = [&] { std::apply(kernel, values); };
    gridDim = {n_blocks, 1, 1};
    blockDim = {n_threads, 1, 1};
    for (unsigned block = 0; block < n_blocks; ++block) {
        blockIdx = {order == DOWN ? n_blocks - 1 - block : block, 0, 0};
        if (!run_block(static_cast<int>(n_threads))) return false;
    }
    return true;
}

template<class... Args>
bool launch(void (*kernel)(Args...), unsigned n_blocks, unsigned n_threads, void** arguments) {
    return launch(kernel, n_blocks, n_threads, arguments, std::index_sequence_for<Args...>());
}

}  // namespace simulated

inline void __syncthreads() { simulated::wait(simulated::AT_BARRIER); }
template<class T> T __shfl_xor_sync(unsigned, T v, int mask) {
    return simulated::exchange(v, simulated::current ^ mask);
}

inline unsigned __ballot_sync(unsigned, bool v) { return simulated::ballot(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }

extern "C" void set_order(int order) { simulated::order = static_cast<simulated::Order>(order); }
