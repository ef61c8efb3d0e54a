// Products on tensor cores together with what follows them, where cuBLASLt has no such epilogue.
// Factors are rounded to 11 bits, as matmul_precision="tf32" permits; sums are float32.
#include "tensor_cores.h"

namespace sknn {

// c = (a b') F'(y), and for each block of 128 rows the sums of its columns
//                          a (n, k), b (m, k), c and y (n, m), sums (blocks, m); m is even
template<class F> __global__ __launch_bounds__(MOST_THREADS, 2)
void gated_product(float* __restrict__ c, const __grid_constant__ TileMap a,
                   const __grid_constant__ TileMap b, const __grid_constant__ TileMap y,
                   float* __restrict__ sums, int64_t n, int64_t m, int64_t k, int64_t ldc) {
    constexpr int ROWS = 128, COLUMNS = 128, STAGES = 3, GROUP_ROWS = 64;
    constexpr int TILE = ROWS * ROW_CHUNKS, STAGE = 2 * TILE;
    constexpr int GATE_STEPS = COLUMNS / TILE_WIDTH / 2;
    SKNN_DYNAMIC_SHARED(Chunk, tiles, STAGES * STAGE + 2);
    Arrival* arrivals = reinterpret_cast<Arrival*>(tiles + STAGES * STAGE);

    const int64_t n_across = (m + COLUMNS - 1) / COLUMNS, row_block = blockIdx.x / n_across;
    const int first_row = int(row_block * ROWS);
    const int first_column = int(blockIdx.x - row_block * n_across) * COLUMNS;
    const int n_steps = int((k + TILE_WIDTH - 1) / TILE_WIDTH);
    // a tile of each factor; at last those of y, two at a time
    auto load = [&](int step) {
        if (threadIdx.x > 0 || step >= n_steps + GATE_STEPS) return;
        Chunk* stage = tiles + step % STAGES * STAGE;
        Arrival& arrival = arrivals[step % STAGES];
        arrival.announce(STAGE * int(sizeof(Chunk)));
        const int column = step * TILE_WIDTH;
        const int gate = first_column + (step - n_steps) * 2 * TILE_WIDTH;
        if (step < n_steps) copy_tile(stage, a, first_row, column, arrival);
        else copy_tile(stage, y, first_row, gate, arrival);
        if (step < n_steps) copy_tile(stage + TILE, b, first_column, column, arrival);
        else copy_tile(stage + TILE, y, first_row, gate + TILE_WIDTH, arrival);
    };
    auto wait = [&](int step) { arrivals[step % STAGES].wait(step / STAGES % 2); };

    if (threadIdx.x == 0)
        for (int i = 0; i < STAGES; ++i) arrivals[i].begin();
    __syncthreads();
    for (int step = 0; step < STAGES - 1; ++step) load(step);
    // each four warps make half of the rows
    const int warp = threadIdx.x / WARP, half = warp / 4;
    float sum[GROUP_ROWS] = {};
    for (int step = 0; step < n_steps; ++step) {
        const Chunk* stage = tiles + step % STAGES * STAGE;
        wait(step);
        begin_products();
        #pragma unroll
        for (int column = 0; column < TILE_WIDTH; column += 8)
            multiply_add(sum, stage + half * GROUP_ROWS * ROW_CHUNKS, stage + TILE, column);
        end_products();
        wait_for_products<1>();
        __syncthreads();    // all are done with the stage before
        load(step + STAGES - 1);
    }
    wait_for_products<0>();
    take_sums(sum);
    for (int step = n_steps; step < n_steps + GATE_STEPS; ++step) wait(step);

    // a thread has elements 2 t and 2 t + 1 of each 8 of rows g and g + 8 of its warp's 16
    const int g = threadIdx.x % WARP / 4, t = threadIdx.x % 4;
    float column[COLUMNS / 4] = {};
    #pragma unroll
    for (int lower = 0; lower < 2; ++lower) {
        const int row = warp * 16 + lower * 8 + g;
        float* out = c + (first_row + row) * ldc + first_column;
        #pragma unroll
        for (int j = 0; j < COLUMNS; j += 8) {
            const int at = j + 2 * t, tile = j / TILE_WIDTH, chunk = at % TILE_WIDTH / 4;
            if (first_row + row >= n || first_column + at >= m) continue;
            const Chunk* gate = tiles + (n_steps + tile / 2) % STAGES * STAGE + tile % 2 * TILE;
            const float* pair = gate[place_of(row, chunk)].element + at % 4;
            const float2 d = {F::gradient(sum[j / 2 + lower * 2], pair[0]),
                              F::gradient(sum[j / 2 + lower * 2 + 1], pair[1])};
            *reinterpret_cast<float2*>(out + at) = d;
            column[j / 4] += d.x;
            column[j / 4 + 1] += d.y;
        }
    }
    // in the memory of the last factors
    float* parts = tiles[(n_steps - 1) % STAGES * STAGE].element;
    __syncthreads();
    #pragma unroll
    for (int j = 0; j < COLUMNS / 4; ++j) {
        for (int distance = 4; distance < WARP; distance *= 2)
            column[j] += __shfl_xor_sync(ALL_LANES, column[j], distance);
        if (g == 0) parts[warp * COLUMNS + j / 2 * 8 + 2 * t + j % 2] = column[j];
    }
    __syncthreads();
    for (int j = threadIdx.x; j < COLUMNS && first_column + j < m; j += blockDim.x) {
        float total = 0;
        for (int w = 0; w < MOST_THREADS / WARP; ++w) total += parts[w * COLUMNS + j];
        sums[row_block * m + first_column + j] = total;
    }
}

}  // namespace sknn
