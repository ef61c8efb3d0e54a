// Products on the tensor cores of compute capability 9.0 by groups of four warps, out of shared
// memory, and copies of tiles to it that go on beside them. A device simulated on the CPU has
// functions of its own.
#pragma once
#include "device.h"

namespace sknn {

// A tile has rows of 128 bytes, or 8 chunks. Chunks change places from row to row, as the hardware
// wants it, so that the same chunk of 8 rows uses all banks.
struct alignas(16) Chunk { float element[4]; };
constexpr int ROW_CHUNKS = 8, TILE_WIDTH = 4 * ROW_CHUNKS;
SKNN_DEVICE int place_of(int row, int chunk) {
    return row * ROW_CHUNKS + (chunk ^ (row % ROW_CHUNKS));
}

// A matrix in memory of which tiles are copied; the driver makes it, kernels take it by value.
struct alignas(64) TileMap { uint64_t word[16]; };

#ifndef SKNN_SIMULATED
SKNN_DEVICE uint32_t shared_address(const void* p) {
    return uint32_t(__cvta_generic_to_shared(p));
}

// Tells when all bytes that were announced have come; each time is a phase, 0 or 1 in turn.
// One thread begins it, before a barrier.
struct Arrival {
    uint64_t state;
    SKNN_DEVICE void begin() {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(shared_address(this)));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    SKNN_DEVICE void announce(int n_bytes) {
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                     :: "r"(shared_address(this)), "r"(n_bytes) : "memory");
    }
    SKNN_DEVICE void wait(int phase) {
        asm volatile("{.reg .pred come;\n"
                     "again: mbarrier.try_wait.parity.shared::cta.b64 come, [%0], %1;\n"
                     "@!come bra again;}"
                     :: "r"(shared_address(this)), "r"(phase) : "memory");
    }
};

// the tile that begins at a row and a column, zeros beyond the matrix
SKNN_DEVICE void copy_tile(Chunk* to, const TileMap& map, int row, int column, Arrival& arrival) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];"
                 :: "r"(shared_address(to)), "l"(&map), "r"(column), "r"(row),
                    "r"(shared_address(&arrival)) : "memory");
}

// Eight columns of a tile, from a multiple of eight on, as the hardware is told
SKNN_DEVICE uint64_t described(const Chunk* tile, int column) {
    constexpr uint64_t SWIZZLE_128_BYTES = 1ull << 62, EIGHT_ROWS = 1024;
    const uint32_t address = shared_address(tile) + column * 4;
    return SWIZZLE_128_BYTES | EIGHT_ROWS >> 4 << 32 | 1ull << 16 | (address & 0x3ffff) >> 4;
}

#define SKNN_EIGHT(i) "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), \
    "+f"(c[i + 4]), "+f"(c[i + 5]), "+f"(c[i + 6]), "+f"(c[i + 7])

// c += a b'                        a (64, 8), b (128, 8), c (64, 128); begins it
SKNN_DEVICE void multiply_add(float (&c)[64], const Chunk* a, const Chunk* b, int column) {
    asm volatile("{.reg .pred p; setp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
        "%64, %65, p, 1, 1;}\n"
        : SKNN_EIGHT(0), SKNN_EIGHT(8), SKNN_EIGHT(16), SKNN_EIGHT(24), SKNN_EIGHT(32),
          SKNN_EIGHT(40), SKNN_EIGHT(48), SKNN_EIGHT(56)
        : "l"(described(a, column)), "l"(described(b, column)), "r"(1));
}
#undef SKNN_EIGHT

SKNN_DEVICE void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
SKNN_DEVICE void end_products() {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// until at most LEFT of what `end_products` ended are under way
template<int LEFT> SKNN_DEVICE void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory");
}
// after the last wait: the compiler must not read sums earlier
SKNN_DEVICE void take_sums(float (&c)[64]) {
    #pragma unroll
    for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(c[i]) :: "memory");
}
#endif

}  // namespace sknn
