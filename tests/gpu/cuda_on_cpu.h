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
#include <deque>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __grid_constant__
#define __launch_bounds__(threads, blocks)
#define SKNN_SIMULATED
#ifdef __SANITIZE_THREAD__      // it takes fibers for threads
extern "C" {
void *__tsan_create_fiber(unsigned), *__tsan_get_current_fiber();
void __tsan_destroy_fiber(void*), __tsan_switch_to_fiber(void*, unsigned);
void __tsan_acquire(void*), __tsan_release(void*);
void AnnotateIgnoreReadsBegin(const char*, int), AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int), AnnotateIgnoreWritesEnd(const char*, int);
}
#endif
#define SKNN_SHARED(T, name, n)              \
    static T name[n];                        \
    static long long name##_block = -1;      \
    simulated::poison(name, sizeof(name), name##_block)
#define SKNN_DYNAMIC_SHARED(T, name, n) SKNN_SHARED(T, name, n)

struct Index { unsigned x, y, z; };
struct float2 { float x, y; };
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace simulated {

// What a sanitizer of races has to know: what came before a `tell` of a place comes before what
// follows a `hear` of it, and the simulation's own accesses are unseen. Turns and shuffles order
// nothing, as on a device.
#ifdef __SANITIZE_THREAD__
inline void tell(void* place) { __tsan_release(place); }
inline void hear(void* place) { __tsan_acquire(place); }
struct Unseen {
    Unseen() { AnnotateIgnoreReadsBegin("", 0), AnnotateIgnoreWritesBegin("", 0); }
    ~Unseen() { AnnotateIgnoreReadsEnd("", 0), AnnotateIgnoreWritesEnd("", 0); }
};
#else
inline void tell(void*) {}
inline void hear(void*) {}
struct Unseen { Unseen() {} };
#endif

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };
enum Order { UP, DOWN, SHUFFLED };
constexpr size_t STACK = 64 << 10;
constexpr int WARP = 32, MAX_THREADS = 1024;

struct Context {
    ucontext_t start;
    jmp_buf place;
    bool begun = false;
    void* sanitized = nullptr;
};
// lives on from block to block
struct Fiber {
    Context context;
    State state = DONE;
    char* stack = nullptr;
    int barriers = 0;
};

static std::vector<Fiber> fibers(MAX_THREADS);
static Context scheduler;
static int current;
// places of `tell`; barriers take turns, since some threads reach the next before all left this
static char block_begin, block_end, barrier[2];
static Order order = UP;
static bool stuck;
static long long block_number = 0;
static uint64_t exchanged[MAX_THREADS];
static int shuffling[MAX_THREADS];      // by which shuffle, of those that a kernel has
static std::function<void()> body;
static uint64_t random_state = 88172645463325252ull;

inline uint64_t random_number() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

// once for each block, by the first thread that comes
inline void poison(void* memory, size_t n, long long& seen) {
    const Unseen unseen;
    if (seen == block_number) return;
    seen = block_number;
    memset(memory, 0xff, n);
}

// swapcontext without its system call, which sanitizers need to follow the stacks
__attribute__((noinline)) inline void switch_to(Context& from, Context& to) {
    const bool begun = to.begun;
    to.begun = true;
#ifdef __SANITIZE_THREAD__
    __tsan_switch_to_fiber(to.sanitized, 1);
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    swapcontext(&from.start, &to.start);
#else
    if (_setjmp(from.place)) return;
    if (begun) _longjmp(to.place, 1);
    setcontext(&to.start);
#endif
}

inline void wait(State state) {
    const Unseen unseen;
    const int me = current;
    Fiber& fiber = fibers[me];
    char* place = state == AT_BARRIER ? &barrier[fiber.barriers++ % 2] : nullptr;
    if (place) tell(place);
    fiber.state = state;
    switch_to(fiber.context, scheduler);
    current = me;
    threadIdx.x = me;
    if (place) hear(place);
}

// of each thread, groups of what goes on beside it and is done as late as it lets it
static std::deque<std::vector<std::function<void()>>> begun[MAX_THREADS];

// for some turns, which differ from warp to warp
static int turns_of_warp[MAX_THREADS / WARP];
inline void dawdle() {
    for (int k = turns_of_warp[current / WARP]; k > 0; --k) wait(READY);
}

template<class T> T exchange(T v, int mask, int line) {
    const Unseen unseen;
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    exchanged[current] = bits;
    shuffling[current] = line * WARP + mask;
    const int source = current ^ mask;
    wait(AT_SHUFFLE);
    memcpy(&v, &exchanged[source], sizeof v);
    wait(AT_SHUFFLE);
    return v;
}

// a bit for each thread of the warp whose value is not 0
inline unsigned ballot(bool v, int line) {
    const Unseen unseen;
    unsigned bits = 0;
    exchanged[current] = v;
    shuffling[current] = line * WARP;
    wait(AT_SHUFFLE);
    for (int k = 0; k < WARP; ++k) bits |= unsigned(exchanged[current / WARP * WARP + k] != 0) << k;
    wait(AT_SHUFFLE);
    return bits;
}

inline void run_fiber() {
    for (;;) {
        hear(&block_begin);
        body();
        tell(&block_end);
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
#ifdef __SANITIZE_THREAD__
    if (fiber.context.sanitized) __tsan_destroy_fiber(fiber.context.sanitized);
    fiber.context.sanitized = __tsan_create_fiber(0);
#endif
}

inline void put_in_order(std::vector<int>& turns) {
    const int n = static_cast<int>(turns.size());
    for (int i = 0; i < n; ++i) turns[i] = order == DOWN ? n - 1 - i : i;
    for (int i = n - 1; order == SHUFFLED && i > 0; --i) {
        std::swap(turns[i], turns[random_number() % (i + 1)]);
    }
}

// a warp goes on when all of its threads have shuffled: none has ended, or is at another shuffle
inline bool release_warps(int n) {
    bool released = false;
    for (int first = 0; first < n; first += WARP) {
        const int end = first + WARP < n ? first + WARP : n;
        bool all = true, any = false;
        for (int i = first; i < end; ++i) {
            any |= fibers[i].state == AT_SHUFFLE;
            all &= fibers[i].state == AT_SHUFFLE && shuffling[i] == shuffling[first];
        }
        for (int i = first; i < end && any && all; ++i) fibers[i].state = READY;
        released |= any && all;
    }
    return released;
}

// false if threads wait for each other forever
inline bool run_block(int n) {
    const Unseen unseen;
#ifdef __SANITIZE_THREAD__
    scheduler.sanitized = __tsan_get_current_fiber();
#endif
    tell(&block_begin);
    std::vector<int> turns(n);
    ++block_number;
    stuck = false;
    scheduler.begun = true;
    for (int i = 0; i < n; ++i) {
        Fiber& fiber = fibers[i];
        if (!fiber.stack) fiber.stack = static_cast<char*>(malloc(STACK));
        if (fiber.state != DONE || !fiber.context.begun) restart(fiber);
        fiber.state = READY;
        fiber.barriers = 0;
        begun[i].clear();
    }
    for (int& turns : turns_of_warp) turns = order == SHUFFLED ? int(random_number() % 32) : 0;
    for (;;) {
        put_in_order(turns);
        for (int i : turns) {
            if (fibers[i].state != READY) continue;
            current = i;
            threadIdx = {static_cast<unsigned>(i), 0, 0};
            switch_to(scheduler, fibers[i].context);
        }
        if (release_warps(n)) continue;
        int done = 0, waiting = 0, ready = 0;
        for (int i = 0; i < n; ++i) {
            done += fibers[i].state == DONE;
            waiting += fibers[i].state == AT_BARRIER;
            ready += fibers[i].state == READY;
        }
        if (stuck) return false;
        if (ready > 0) continue;
        if (done == n) {
            hear(&block_end);
            return true;
        }
        if (done + waiting < n || done > 0) return false;
        for (int i = 0; i < n; ++i) fibers[i].state = READY;
    }
}

template<class T> T copied(const void* from) {     // from where it may not be aligned
    T to;
    memcpy(&to, from, sizeof to);
    return to;
}

// as cuLaunchKernel takes them: a pointer to each argument
template<class... Args, size_t... I>
bool launch(void (*kernel)(Args...), unsigned n_blocks, unsigned n_threads, void** arguments,
            std::index_sequence<I...>) {
    std::tuple<Args...> values(copied<Args>(arguments[I])...);
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
template<class T> T __shfl_xor_sync(unsigned, T v, int mask, int line = __builtin_LINE()) {
    return simulated::exchange(v, mask, line);
}

inline unsigned __ballot_sync(unsigned, bool v, int line = __builtin_LINE()) {
    return simulated::ballot(v, line);
}
inline int __ffs(int v) { return __builtin_ffs(v); }

// tensor_cores.h
namespace sknn {

struct Chunk;
struct TileMap;
struct Arrival;
int place_of(int row, int chunk);

// what the driver says of a matrix of which tiles are copied
struct Tiles {
    const float* address;
    int64_t rows, columns, stride, tile_rows, rounds;
};
struct Copy {
    Chunk* to;
    const Tiles* from;
    int row, column;
};

// numbers as tensor cores take them, the nearest of 11 bits
inline float rounded(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof v);
    if (std::isfinite(v)) bits = (bits + 0x1000) & ~0x1fffu;
    memcpy(&v, &bits, sizeof v);
    return v;
}

inline void make(const Copy& copy) {
    const Tiles& from = *copy.from;
    float* to = reinterpret_cast<float*>(copy.to);
    for (int i = 0; i < from.tile_rows; ++i)
        for (int j = 0; j < 32; ++j) {
            const int64_t row = copy.row + i, column = copy.column + j;
            const bool inside = row < from.rows && column < from.columns;
            const float v = inside ? from.address[row * from.stride + column] : 0;
            to[place_of(i, j / 4) * 4 + j % 4] = from.rounds ? rounded(v) : v;
        }
}

// Copies are made when the first thread waits for them, as late as may be.
static std::vector<Copy> under_way[8];
constexpr int MOST_WAITS = 1000;

struct Arrival {
    int announced;
    int16_t phase, place;   // 8 bytes in all, as the hardware's
    void begin() {
        const simulated::Unseen unseen;
        static int begun = 0;
        *this = {0, 0, int16_t(begun++ % 8)};
        under_way[place].clear();
    }
    void announce(int n_bytes) {
        const simulated::Unseen unseen;
        announced += n_bytes;
    }
    void wait(int wanted) {
        const simulated::Unseen unseen;
        simulated::stuck |= place < 0;  // not begun
        for (int k = 0; phase == wanted && !simulated::stuck; ++k) {
            const bool come = announced > 0;
            if (come) {
                for (const Copy& copy : under_way[place]) {
                    make(copy);
                    announced -= int(copy.from->tile_rows) * 128;
                }
                under_way[place].clear();
                if (announced == 0) phase = int16_t(1 - phase);
            }
            simulated::stuck |= k == MOST_WAITS;
            if (phase == wanted) simulated::wait(simulated::READY);
        }
    }
};

inline void copy_tile(Chunk* to, const TileMap& map, int row, int column, Arrival& arrival) {
    const simulated::Unseen unseen;
    under_way[arrival.place].push_back({to, reinterpret_cast<const Tiles*>(&map), row, column});
}

inline void multiply_add(float (&c)[64], const Chunk* a, const Chunk* b, int column) {
    const int warp = simulated::current / 32 % 4, lane = simulated::current % 32;
    auto element = [=](const Chunk* tile, int row, int k) {
        const int at = place_of(row, column / 4 + k / 4) * 4 + k % 4;
        return reinterpret_cast<const float*>(tile)[at];
    };
    simulated::begun[simulated::current].back().push_back([=, &c] {
        for (int i = 0; i < 64; ++i)
            for (int k = 0; k < 8; ++k)
                c[i] += element(a, warp * 16 + i / 2 % 2 * 8 + lane / 4, k)
                    * element(b, i / 4 * 8 + lane % 4 * 2 + i % 2, k);
    });
}
inline void begin_products() { simulated::begun[simulated::current].emplace_back(); }
inline void end_products() {}
template<int LEFT> void wait_for_products() {
    simulated::dawdle();
    auto& groups = simulated::begun[simulated::current];
    for (; groups.size() > LEFT; groups.pop_front())
        for (const auto& product : groups.front()) product();
}
inline void take_sums(float (&)[64]) {}

}  // namespace sknn

extern "C" void set_order(int order) { simulated::order = static_cast<simulated::Order>(order); }
