// Matrix products from register tiles: a block of the result stays in vector registers while
// one factor's rows are broadcast against the other's vectors.
//
// A library's product packs both factors into its own layout each time. Here the left factor is
// read where it lies, and the right one too where it is small or little used, which is what
// makes small minibatches and narrow layers fast.
#pragma once
#include <utility>
#include "vectors.h"

namespace sknn {

// Rows of a tile, and vectors of each: with as many of the right factor and one broadcast they fill
// the registers.
constexpr int TILE_ROWS = VECTOR_BYTES == 64 ? 14 : 6, TILE_VECTORS = 2;
// Where the compiler may not assume fused multiply-add, a library that looks at the processor
// when it runs is faster.
constexpr bool HAVE_TILES = VECTOR_BYTES > 16;

// How much of the right factor is packed at once: a panel of TILE_VECTORS vectors stays in the
// first-level cache, all panels in the second.
constexpr ptrdiff_t PANEL_BYTES = 24 << 10, PACKED_BYTES = 768 << 10;
constexpr ptrdiff_t LEFT_BYTES = PANEL_BYTES / (TILE_VECTORS * VECTOR_BYTES) * TILE_ROWS * 8;
// what a product needs as scratch
constexpr ptrdiff_t SCRATCH_BYTES = PACKED_BYTES + LEFT_BYTES;

// The elements of a factor: element (i, j) is at data[i * row + j * column].
template<class T> struct Factor {
    const T* data = nullptr;
    ptrdiff_t row = 0, column = 0;
    Factor() = default;
    Factor(const T* data, ptrdiff_t row, ptrdiff_t column)
        : data(data), row(row), column(column) {}
    const T* at(ptrdiff_t i, ptrdiff_t j) const { return data + i * row + j * column; }
};

// What a product does to its result while that is in registers.
template<class T> struct ProductEpilogue {
    const T* bias = nullptr;    // (m,), added to each row
    bool rectify = false;
    // what a rectifier wrote, placed as c: where it is zero, so is c
    const T* gate = nullptr;
    bool is_empty() const { return !bias && !rectify && !gate; }
};

// What the tiles of a product have in common. They read it from here, and get the rest in
// registers: what is put on the stack waits for the results before it to leave for the cache, and
// the next tile with it.
template<class T> struct Tiles {
    ptrdiff_t k, a_row, a_column, ldb;
    ptrdiff_t step;             // from one panel of b to the next
    ptrdiff_t ldc;
    bool accumulate, rectify;
    const T* gate = nullptr;
    const T* gated = nullptr;   // the element of c that the gate begins with
};

// c = a b, or added to it           a (ROWS, k), b (k, columns), c (ROWS, columns): VECTORS whole
// vectors of columns, and one of LAST_BYTES for the rest
template<class T, int ROWS, int VECTORS, int LAST_BYTES> inline __attribute__((always_inline))
void tile(const Tiles<T>& s, const T* a, const T* __restrict b, T* __restrict c, const T* bias,
          ptrdiff_t columns) {
    constexpr int LANES = Vector<T>::lanes, WHOLE = VECTORS * LANES;
    struct Row {
        typename Vector<T>::aligned whole[VECTORS + 1];     // one of no use, as there may be none
        typename Vector<T, LAST_BYTES>::aligned last;
    } sum[ROWS]{};
    // f(vector, its first column, its lanes)
    const auto each = [=](Row& row, auto f) __attribute__((always_inline)) {
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) f(row.whole[v], v * LANES, LANES);
        f(row.last, WHOLE, columns - WHOLE);
    };
    if (bias) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
            each(sum[i], [&](auto& v, int j, ptrdiff_t n) __attribute__((always_inline)) {
                v = load_lanes<sizeof v>(bias + j, n);
            });
    }
    const ptrdiff_t k = s.k, ldb = s.ldb, ldc = s.ldc, row = s.a_row, column = s.a_column;
    T* out = c;
    if (k > 64)         // c may be far, and there is time to fetch it
        for (int i = 0; i < ROWS; ++i, next_row(out, ldc))
            for (int j = 0; j <= WHOLE; j += LANES) __builtin_prefetch(out + j, 1);
    // two pointers, since the distances of all rows from one would not fit the registers
    constexpr int HALF = (ROWS + 1) / 2;
    const T *x = a, *y = a + HALF * row;
    for (ptrdiff_t i = 0; i < k; ++i, x += column, y += column, b += ldb) {
        Row w;
        each(w, [&](auto& v, int j, ptrdiff_t n) __attribute__((always_inline)) {
            v = FREE_MASKS ? load_lanes<sizeof v>(b + j, n) : load<sizeof v>(b + j);
        });
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; ++r) {
            const T left = r < HALF ? x[r * row] : y[(r - HALF) * row];
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sum[r].whole[v] += left * w.whole[v];
            sum[r].last += left * w.last;
        }
    }
    if (s.accumulate) {
        out = c;
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i, next_row(out, ldc))
            each(sum[i], [&](auto& v, int j, ptrdiff_t n) __attribute__((always_inline)) {
                v += load_lanes<sizeof v>(out + j, n);
            });
    }
    if (s.rectify) {
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
            each(sum[i], [&](auto& v, int, ptrdiff_t) __attribute__((always_inline)) {
                v = rectify<T, sizeof v>(v);
            });
    }
    if (s.gate) {
        const T* gate = s.gate + (c - s.gated);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i, next_row(gate, ldc))
            each(sum[i], [&](auto& v, int j, ptrdiff_t n) __attribute__((always_inline)) {
                const std::remove_reference_t<decltype(v)> zero{};
                v = load_lanes<sizeof v>(gate + j, n) == zero ? zero : v;
            });
    }
    out = c;
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i, next_row(out, ldc))
        each(sum[i], [&](auto& v, int j, ptrdiff_t n) __attribute__((always_inline)) {
            store_lanes<sizeof v>(out + j, v, n);
        });
}

// The same for any number of columns, tile by tile.
template<class T, int ROWS> __attribute__((noinline))
void strip(const Tiles<T>& s, const T* a, const T* b, T* c, const T* bias, ptrdiff_t columns) {
    constexpr int LANES = Vector<T>::lanes, WHOLE = TILE_VECTORS - 1, WIDTH = TILE_VECTORS * LANES;
    constexpr int FEW = HALF_VECTORS ? LANES / 2 : 0, HALF = VECTOR_BYTES / 2;
    const auto next = [&](ptrdiff_t width, ptrdiff_t step) {
        columns -= width;
        b += step;
        c += width;
        if (bias) bias += width;
    };
    // a few columns more than whole tiles are taken together with a vector
    const ptrdiff_t most = s.step == WIDTH ? WIDTH + FEW : WIDTH;
    for (; columns > most; next(WIDTH, s.step))
        tile<T, ROWS, WHOLE, VECTOR_BYTES>(s, a, b, c, bias, WIDTH);
    if (columns > WIDTH) {
        tile<T, ROWS, 0, VECTOR_BYTES>(s, a, b, c, bias, LANES);
        next(LANES, LANES);
    }
    if (columns > LANES + FEW)
        return tile<T, ROWS, WHOLE, VECTOR_BYTES>(s, a, b, c, bias, columns);
    if constexpr (HALF_VECTORS) {
        if (columns > LANES) return tile<T, ROWS, 1, HALF>(s, a, b, c, bias, columns);
        if (columns <= FEW) return tile<T, ROWS, 0, HALF>(s, a, b, c, bias, columns);
    }
    tile<T, ROWS, 0, VECTOR_BYTES>(s, a, b, c, bias, columns);
}

template<class T>
using Strip = void (*)(const Tiles<T>&, const T*, const T*, T*, const T*, ptrdiff_t);

template<class T, int... I> Strip<T> strip_of(ptrdiff_t rows, std::integer_sequence<int, I...>) {
    static constexpr Strip<T> STRIPS[] = {strip<T, I + 1>...};
    return STRIPS[rows - 1];
}

// for at most TILE_ROWS rows
template<class T> Strip<T> choose_strip(ptrdiff_t rows) {
    return strip_of<T>(rows, std::make_integer_sequence<int, TILE_ROWS>());
}

// Panels of a right factor b (k, m), one after the other, each (k, width). Beyond the last column
// are zeros: what the scratch held there may be subnormal numbers, whose products take a hundred
// cycles.
template<class T> __attribute__((noinline))
void pack(T* __restrict out, ptrdiff_t width, Factor<T> b, ptrdiff_t k, ptrdiff_t m) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, ROWS = 8;
    for (ptrdiff_t begin = 0; begin < k; begin += ROWS) {       // so that reads go along rows
        ptrdiff_t end = begin + ROWS < k ? begin + ROWS : k;
        for (ptrdiff_t j = 0; j < m; j += LANES) {
            ptrdiff_t n = m - j < LANES ? m - j : LANES;
            T* to = out + j / width * width * k + j % width;
            for (ptrdiff_t s = begin; s < end; ++s)
                store(to + s * width, load_lanes(b.at(s, j), n));
        }
    }
}

// Columns j.. of a factor whose columns lie in one piece, as k vectors that are `step` apart.
template<class T>
void pack_columns(T* __restrict out, ptrdiff_t step, Factor<T> b, ptrdiff_t k, ptrdiff_t j,
                  ptrdiff_t columns) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes;
    if (columns < LANES)
        for (ptrdiff_t s = 0; s < k; ++s) store(out + s * step, VectorOf<T>{});
    for (ptrdiff_t s = 0; s < k; s += LANES)
        transpose(out + s * step, step, b.at(s, j), b.column, columns,
                  k - s < LANES ? k - s : LANES, false);
}

// Panels as `pack` makes them, of a factor whose columns lie in one piece.
template<class T>
void pack_transposed(T* __restrict out, ptrdiff_t width, Factor<T> b, ptrdiff_t k, ptrdiff_t m) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes;
    for (ptrdiff_t j = 0; j < m; j += LANES) {
        T* to = out + j / width * width * k + j % width;
        pack_columns(to, width, b, k, j, m - j < LANES ? m - j : LANES);
    }
}

// The rows of a left factor whose columns lie in one piece, as a block (k, rows).
template<class T> __attribute__((noinline))
void pack_left(T* __restrict out, Factor<T> a, ptrdiff_t rows, ptrdiff_t k) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes;
    const T* from = a.data;
    for (ptrdiff_t s = 0; s < k; ++s, from += a.column, out += rows)
        for (ptrdiff_t i = 0; i < rows; i += LANES) {
            const ptrdiff_t n = rows - i < LANES ? rows - i : LANES;
            store_lanes(out + i, load_lanes(from + i, n), n);
        }
}

// c = a b, or added to it           a (n, k), b (k, m), c (n, m) with ldc elements from row to
// row, b has rows or columns in one piece, scratch has SCRATCH_BYTES
template<class T>
void direct_product(T* __restrict c, ptrdiff_t ldc, Factor<T> a, Factor<T> b, ptrdiff_t n,
                    ptrdiff_t m, ptrdiff_t k, bool accumulate,
                    const ProductEpilogue<T>& epilogue, void* scratch) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    constexpr ptrdiff_t DEPTH = PANEL_BYTES / (WIDTH * sizeof(T));
    constexpr ptrdiff_t COLUMNS = PACKED_BYTES / (DEPTH * sizeof(T)) / WIDTH * WIDTH;
    T* packed = static_cast<T*>(scratch);
    T* left = packed + PACKED_BYTES / sizeof(T);
    const ptrdiff_t blocks = (n + TILE_ROWS - 1) / TILE_ROWS, parts = (k + DEPTH - 1) / DEPTH;
    // packing pays if it is used often, or if rows are so far apart that reading them is slow
    const bool b_in_place = b.column == 1 && (blocks <= 2 || k * b.row * sizeof(T) <= 32 << 10);
    const bool a_in_place = a.column == 1 || m < 4 * WIDTH
                            || k * a.column * sizeof(T) <= 128 << 10;
    for (ptrdiff_t first = 0; first < m; first += COLUMNS) {
        const ptrdiff_t columns = m - first < COLUMNS ? m - first : COLUMNS;
        const ptrdiff_t whole = !b_in_place ? 0 : FREE_MASKS ? columns : columns / WIDTH * WIDTH;
        for (ptrdiff_t part = 0; part < parts; ++part) {
            const ptrdiff_t begin = k * part / parts, depth = k * (part + 1) / parts - begin;
            const Factor<T> rest{b.at(begin, first + whole), b.row, b.column};
            // a factor of one panel's size is one
            const ptrdiff_t row = (columns - whole + LANES - 1) / LANES * LANES;
            const bool is_small = depth * row <= DEPTH * WIDTH;
            const ptrdiff_t width = is_small ? row : WIDTH;
            if (b.column != 1) pack_transposed(packed, width, rest, depth, columns);
            else if (whole < columns) pack(packed, width, rest, depth, columns - whole);
            const bool is_last = part + 1 == parts;
            Tiles<T> in_place{depth, a.row, a.column, b.row, WIDTH, ldc, accumulate || part > 0,
                              is_last && epilogue.rectify, is_last ? epilogue.gate : nullptr, c};
            Tiles<T> in_panels = in_place;
            in_panels.ldb = width;
            in_panels.step = is_small ? WIDTH : WIDTH * depth;
            const T* bias = part == 0 && epilogue.bias ? epilogue.bias + first : nullptr;
            for (ptrdiff_t i = 0, rows, block = 0; block < blocks; i += rows, ++block) {
                rows = n / blocks + (block < n % blocks);
                const Strip<T> strip = choose_strip<T>(rows);
                const T* block_a = a.at(i, begin);
                if (!a_in_place) {
                    pack_left(left, Factor<T>{block_a, a.row, a.column}, rows, depth);
                    block_a = left;
                    in_place.a_row = in_panels.a_row = 1;
                    in_place.a_column = in_panels.a_column = rows;
                }
                T* out = c + i * ldc + first;
                if (whole > 0) strip(in_place, block_a, b.at(begin, first), out, bias, whole);
                if (whole < columns)
                    strip(in_panels, block_a, packed, out + whole, bias ? bias + whole : nullptr,
                          columns - whole);
            }
        }
    }
}

// c = a b for COLUMNS columns, as dot products: vectors run along the sums, which stay in
// registers, as many as a vector has lanes.             rows of a and columns of b in one piece
template<class T, int COLUMNS> __attribute__((noinline))
void dot_products(T* __restrict c, ptrdiff_t ldc, Factor<T> a, Factor<T> b, ptrdiff_t n,
                  ptrdiff_t k, const ProductEpilogue<T>& epilogue) {
    constexpr int LANES = Vector<T>::lanes, ROWS = LANES / COLUMNS;
    const ptrdiff_t whole = k / LANES * LANES;
    VectorOf<T> bias{};
    if (epilogue.bias)
        for (int l = 0; l < LANES; ++l) bias[l] = epilogue.bias[l % COLUMNS];
    for (ptrdiff_t i = 0; i < n; i += ROWS) {
        const T* row[ROWS];     // beyond the last one, that again
        for (int r = 0; r < ROWS; ++r) row[r] = a.at(i + r < n ? i + r : n - 1, 0);
        AlignedVector<T> sum[LANES]{};
        const auto add = [&](ptrdiff_t s, auto load_at) __attribute__((always_inline)) {
            VectorOf<T> w[COLUMNS];
#pragma GCC unroll 16
            for (int j = 0; j < COLUMNS; ++j) w[j] = load_at(b.at(s, j));
#pragma GCC unroll 16
            for (int r = 0; r < ROWS; ++r) {
                const VectorOf<T> x = load_at(row[r] + s);
#pragma GCC unroll 16
                for (int j = 0; j < COLUMNS; ++j) sum[r * COLUMNS + j] += x * w[j];
            }
        };
        for (ptrdiff_t s = 0; s < whole; s += LANES) add(s, [](const T* x) { return load(x); });
        if (whole < k) add(whole, [=](const T* x) { return load(x, k - whole); });
        VectorOf<T> y = sums_of<T>(sum) + bias;
        if (epilogue.rectify) y = rectify<T>(y);
        for (int r = 0; r < ROWS && i + r < n; ++r)
            for (int j = 0; j < COLUMNS; ++j) c[(i + r) * ldc + j] = y[r * COLUMNS + j];
    }
}

// c = a b, or added to it, as above; where c is narrow, as dot products, or as c' = b' a' if b'
// fills vectors better.
template<class T>
void product(T* __restrict c, ptrdiff_t ldc, Factor<T> a, Factor<T> b, ptrdiff_t n, ptrdiff_t m,
             ptrdiff_t k, bool accumulate, const ProductEpilogue<T>& epilogue, void* scratch) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, N = 16 * LANES;
    // measured to be up to seven times as fast for one column, four for two, no faster for more
    if (m <= 2 && k >= 32 * m && a.column == 1 && !accumulate && !epilogue.gate
        && 2 * k * sizeof(T) <= SCRATCH_BYTES) {
        T* columns = static_cast<T*>(scratch);
        if (b.row != 1) {
            for (ptrdiff_t s = 0; s < k; ++s)
                for (ptrdiff_t j = 0; j < m; ++j) columns[j * k + s] = *b.at(s, j);
            b = {columns, 1, k};
        }
        if (m == 1) dot_products<T, 1>(c, ldc, a, b, n, k, epilogue);
        else dot_products<T, 2>(c, ldc, a, b, n, k, epilogue);
        return;
    }
    // what it saves must pay for turning the result around
    const auto vectors = [](ptrdiff_t elements) { return (elements + LANES - 1) / LANES; };
    if (m > 2 * LANES || n < 2 * LANES || a.row != 1 || !epilogue.is_empty()
        || 5 * m * vectors(n) > 4 * n * vectors(m)) {
        direct_product(c, ldc, a, b, n, m, k, accumulate, epilogue, scratch);
        return;
    }
    alignas(64) T transposed[2 * LANES * N];
    for (ptrdiff_t first = 0; first < n; first += N) {
        const ptrdiff_t rows = n - first < N ? n - first : N;
        direct_product(transposed, N, Factor<T>{b.data, b.column, b.row},
                       Factor<T>{a.at(first, 0), a.column, a.row}, m, rows, k, false, epilogue,
                       scratch);
        for (ptrdiff_t i = 0; i < rows; i += LANES)
            for (ptrdiff_t j = 0; j < m; j += LANES)
                transpose(c + (first + i) * ldc + j, ldc, transposed + j * N + i, N,
                          m - j < LANES ? m - j : LANES, rows - i < LANES ? rows - i : LANES,
                          accumulate);
    }
}

}  // namespace sknn
