// Matrix products from register tiles: a block of the result stays in vector registers while
// one factor's rows are broadcast against the other's vectors.
//
// A library's product packs both factors into its own layout each time. Here the left factor is
// read where it lies, and the right one too where it is small or little used, which is what
// makes small minibatches and narrow layers fast.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace sknn {

// Bytes of a vector register, and the rows of a tile: with two vectors a row, the two of the
// right factor and one broadcast, they fill the registers.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, TILE_ROWS = 14;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32, TILE_ROWS = 6;
#else
constexpr int VECTOR_BYTES = 16, TILE_ROWS = 6;
#endif
constexpr int TILE_VECTORS = 2;
// Where the compiler may not assume fused multiply-add, a library that looks at the processor
// when it runs is faster.
constexpr bool HAVE_TILES = VECTOR_BYTES > 16;

template<class T> struct Vector {
    static constexpr int lanes = VECTOR_BYTES / sizeof(T);
    typedef T type __attribute__((vector_size(VECTOR_BYTES), aligned(alignof(T))));
};

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
    Factor(const T* data, ptrdiff_t row, ptrdiff_t column) : data(data), row(row), column(column) {}
    const T* at(ptrdiff_t i, ptrdiff_t j) const { return data + i * row + j * column; }
};

template<class T> using VectorOf = typename Vector<T>::type;

template<class T> inline VectorOf<T> load(const T* x) {
    return *reinterpret_cast<const VectorOf<T>*>(x);
}
template<class T> inline void store(T* x, VectorOf<T> v) {
    *reinterpret_cast<VectorOf<T>*>(x) = v;
}

// the first n lanes only
template<class T> inline void store(T* x, VectorOf<T> v, ptrdiff_t n) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        _mm512_mask_storeu_ps(x, static_cast<__mmask16>((1u << n) - 1), (__m512)v);
    else
        _mm512_mask_storeu_pd(x, static_cast<__mmask8>((1u << n) - 1), (__m512d)v);
#else
    std::memcpy(x, &v, n * sizeof(T));
#endif
}
template<class T> inline VectorOf<T> load(const T* x, ptrdiff_t n) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4)
        return (VectorOf<T>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1), x);
    else
        return (VectorOf<T>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1), x);
#else
    VectorOf<T> v{};
    std::memcpy(&v, x, n * sizeof(T));
    return v;
#endif
}

// c = a b, or added to it           a (ROWS, k), b (k, vectors), c (ROWS, columns)
template<class T, int ROWS, int VECTORS> __attribute__((noinline))
void tile(ptrdiff_t k, Factor<T> a, const T* __restrict b, ptrdiff_t ldb, T* __restrict c,
          ptrdiff_t ldc, ptrdiff_t columns, bool accumulate) {
    constexpr int LANES = Vector<T>::lanes;
    VectorOf<T> sum[ROWS][VECTORS];
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) sum[i][v] = VectorOf<T>{};
    if (k > 64)         // c may be far, and there is time to fetch it
        for (int i = 0; i < ROWS; ++i)
            for (int v = 0; v < VECTORS; ++v) __builtin_prefetch(c + i * ldc + v * LANES, 1);
    // two pointers, since the distances of all rows from one would not fit the registers
    constexpr int HALF = (ROWS + 1) / 2;
    const T *x = a.data, *y = a.data + HALF * a.row;
    for (ptrdiff_t s = 0; s < k; ++s, x += a.column, y += a.column, b += ldb) {
        VectorOf<T> w[VECTORS];
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) w[v] = load(b + v * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v)
                sum[i][v] += (i < HALF ? x[i * a.row] : y[(i - HALF) * a.row]) * w[v];
    }
    // all vectors are whole but the last
    const ptrdiff_t last = columns - (VECTORS - 1) * LANES;
#pragma GCC unroll 16
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            T* out = c + i * ldc + v * LANES;
            if (v + 1 < VECTORS || last == LANES)
                store(out, accumulate ? load(out) + sum[i][v] : sum[i][v]);
            else
                store(out, accumulate ? load(out, last) + sum[i][v] : sum[i][v], last);
        }
}

template<class T>
using Tile = void (*)(ptrdiff_t, Factor<T>, const T*, ptrdiff_t, T*, ptrdiff_t, ptrdiff_t, bool);

template<class T, int VECTORS, int... I>
Tile<T> tile_of_rows(int rows, std::integer_sequence<int, I...>) {
    static constexpr Tile<T> TILES[] = {tile<T, I + 1, VECTORS>...};
    return TILES[rows - 1];
}

template<class T> Tile<T> choose_tile(int rows, int vectors) {
    constexpr std::make_integer_sequence<int, TILE_ROWS> all;
    return vectors == 1 ? tile_of_rows<T, 1>(rows, all) : tile_of_rows<T, TILE_VECTORS>(rows, all);
}

// out = in', or added to it         in (n, m) of at most LANES rows and columns, in registers:
// at each step pairs of rows swap the halves, quarters, ... of their parts
template<class T> __attribute__((noinline))
void transpose(T* __restrict out, ptrdiff_t ldo, const T* __restrict in, ptrdiff_t ldi,
               ptrdiff_t n, ptrdiff_t m, bool accumulate) {
    constexpr int LANES = Vector<T>::lanes;
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index;
    typedef Index Indices __attribute__((vector_size(VECTOR_BYTES)));
    VectorOf<T> row[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) row[i] = i < n ? load(in + i * ldi, m) : VectorOf<T>{};
#pragma GCC unroll 4
    for (int half = 1; half < LANES; half *= 2) {
        Indices low{}, high{};
#pragma GCC unroll 16
        for (int j = 0; j < LANES; ++j) {
            low[j] = j & half ? LANES + j - half : j;
            high[j] = j & half ? LANES + j : j + half;
        }
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            if (!(i & half)) {
                VectorOf<T> a = row[i], b = row[i + half];
                row[i] = __builtin_shuffle(a, b, low);
                row[i + half] = __builtin_shuffle(a, b, high);
            }
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i)
        if (i < m) {
            T* to = out + i * ldo;
            store(to, accumulate ? load(to, n) + row[i] : row[i], n);
        }
}

// Panels of a right factor b (k, m), one after the other, each (k, width). What lies beyond the
// last column is not written, nor are the sums made of it.
template<class T> __attribute__((noinline))
void pack(T* __restrict out, Factor<T> b, ptrdiff_t k, ptrdiff_t m) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES, ROWS = 8;
    for (ptrdiff_t begin = 0; begin < k; begin += ROWS) {       // so that reads go along rows
        ptrdiff_t end = begin + ROWS < k ? begin + ROWS : k;
        for (ptrdiff_t j = 0; j < m; j += LANES) {
            ptrdiff_t n = m - j < LANES ? m - j : LANES;
            T* to = out + j / WIDTH * WIDTH * k + j % WIDTH;
            for (ptrdiff_t s = begin; s < end; ++s)
                store(to + s * WIDTH, n == LANES ? load(b.at(s, j)) : load(b.at(s, j), n));
        }
    }
}

// The same of a factor whose columns lie in one piece.
template<class T>
void pack_transposed(T* __restrict out, Factor<T> b, ptrdiff_t k, ptrdiff_t m) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    for (ptrdiff_t j = 0; j < m; j += LANES) {
        const ptrdiff_t columns = m - j < LANES ? m - j : LANES;
        T* to = out + j / WIDTH * WIDTH * k + j % WIDTH;
        for (ptrdiff_t s = 0; s < k; s += LANES)
            transpose(to + s * WIDTH, WIDTH, b.at(s, j), b.column, columns,
                      k - s < LANES ? k - s : LANES, false);
    }
}

// The rows of a left factor whose columns lie in one piece, as a block (k, rows).
template<class T> __attribute__((noinline))
void pack_left(T* __restrict out, Factor<T> a, ptrdiff_t rows, ptrdiff_t k) {
    for (ptrdiff_t s = 0; s < k; ++s)
        for (ptrdiff_t i = 0; i < rows; ++i) out[s * rows + i] = *a.at(i, s);
}

// c = a b, or added to it           a (n, k), b (k, m), c (n, m) with ldc elements from row to
// row, b has rows or columns in one piece, scratch has SCRATCH_BYTES
template<class T>
void direct_product(T* __restrict c, ptrdiff_t ldc, Factor<T> a, Factor<T> b, ptrdiff_t n, ptrdiff_t m,
             ptrdiff_t k, bool accumulate, void* scratch) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, WIDTH = TILE_VECTORS * LANES;
    constexpr ptrdiff_t DEPTH = PANEL_BYTES / (WIDTH * sizeof(T));
    constexpr ptrdiff_t COLUMNS = PACKED_BYTES / (DEPTH * sizeof(T)) / WIDTH * WIDTH;
    T* packed = static_cast<T*>(scratch);
    T* left = packed + PACKED_BYTES / sizeof(T);
    const ptrdiff_t blocks = (n + TILE_ROWS - 1) / TILE_ROWS, parts = (k + DEPTH - 1) / DEPTH;
    // packing pays if it is used often, or if rows are so far apart that reading them is slow
    const bool b_in_place = b.column == 1 && (blocks <= 2 || k * b.row * sizeof(T) <= 32 << 10);
    const bool a_in_place = a.column == 1 || m < 4 * WIDTH || k * a.column * sizeof(T) <= 128 << 10;
    for (ptrdiff_t first = 0; first < m; first += COLUMNS) {
        const ptrdiff_t columns = m - first < COLUMNS ? m - first : COLUMNS;
        const ptrdiff_t whole = b_in_place ? columns / WIDTH * WIDTH : 0;
        for (ptrdiff_t part = 0; part < parts; ++part) {
            const ptrdiff_t begin = k * part / parts, depth = k * (part + 1) / parts - begin;
            const Factor<T> rest{b.at(begin, first + whole), b.row, b.column};
            if (b.column == 1) pack(packed, rest, depth, columns - whole);
            else pack_transposed(packed, rest, depth, columns - whole);
            for (ptrdiff_t block = 0; block < blocks; ++block) {
                const ptrdiff_t i = n * block / blocks, rows = n * (block + 1) / blocks - i;
                const Tile<T> wide = choose_tile<T>(rows, TILE_VECTORS);
                Factor<T> block_a{a.at(i, begin), a.row, a.column};
                if (!a_in_place) {
                    pack_left(left, block_a, rows, depth);
                    block_a = {left, 1, rows};
                }
                T* out = c + i * ldc + first;
                for (ptrdiff_t j = 0; j < columns; j += WIDTH) {
                    const ptrdiff_t width = columns - j < WIDTH ? columns - j : WIDTH;
                    const Tile<T> tile = width > LANES ? wide : choose_tile<T>(rows, 1);
                    const T* panel = j < whole ? b.at(begin, first + j)
                                               : packed + (j - whole) * depth;
                    tile(depth, block_a, panel, j < whole ? b.row : WIDTH, out + j, ldc, width,
                         accumulate || part > 0);
                }
            }
        }
    }
}

// The same; where c is narrow and b' would fill vectors better, as c' = b' a'.
template<class T>
void product(T* __restrict c, ptrdiff_t ldc, Factor<T> a, Factor<T> b, ptrdiff_t n, ptrdiff_t m,
             ptrdiff_t k, bool accumulate, void* scratch) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes, N = 16 * LANES;
    if (m > LANES || n < 2 * LANES || a.row != 1) {
        direct_product(c, ldc, a, b, n, m, k, accumulate, scratch);
        return;
    }
    T transposed[LANES * N];
    for (ptrdiff_t first = 0; first < n; first += N) {
        const ptrdiff_t rows = n - first < N ? n - first : N;
        direct_product(transposed, N, Factor<T>{b.data, b.column, b.row},
                       Factor<T>{a.at(first, 0), a.column, a.row}, m, rows, k, false, scratch);
        for (ptrdiff_t i = 0; i < rows; i += LANES)
            transpose(c + (first + i) * ldc, ldc, transposed + i, N, m,
                      rows - i < LANES ? rows - i : LANES, accumulate);
    }
}

}  // namespace sknn
