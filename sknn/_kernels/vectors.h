// Vectors of a register's length: whole ones, their first lanes, and what turns a square of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <type_traits>
#if defined(__AVX2__)
#pragma GCC diagnostic push
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // which GCC 12 says of this header
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif

namespace sknn {

// Bytes of a vector register.
#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX2__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif
// Whether a masked load or store costs no more than another.
constexpr bool FREE_MASKS = VECTOR_BYTES == 64;
// Whether vectors of half the length may take half the time: AMD's Zen 4 makes one of 64 bytes in
// two steps.
constexpr bool HALF_VECTORS = VECTOR_BYTES == 64;

template<class T, int BYTES = VECTOR_BYTES> struct Vector {
    static constexpr int lanes = BYTES / sizeof(T);
    typedef T aligned __attribute__((vector_size(BYTES)));
    typedef aligned type __attribute__((aligned(alignof(T))));      // wherever it lies
};
template<class T, int BYTES = VECTOR_BYTES> using VectorOf = typename Vector<T, BYTES>::type;
// of variables that functions change
template<class T> using AlignedVector = typename Vector<T>::aligned;

template<int BYTES = VECTOR_BYTES, class T> inline VectorOf<T, BYTES> load(const T* x) {
    return *reinterpret_cast<const VectorOf<T, BYTES>*>(x);
}
template<int BYTES = VECTOR_BYTES, class T> inline void store(T* x, VectorOf<T, BYTES> v) {
    *reinterpret_cast<VectorOf<T, BYTES>*>(x) = v;
}

#if defined(__AVX512F__)
template<class T, int BYTES = VECTOR_BYTES> inline auto first_lanes(ptrdiff_t n) {
    constexpr bool few = Vector<T, BYTES>::lanes <= 8;
    return static_cast<std::conditional_t<few, __mmask8, __mmask16>>((1u << n) - 1);
}
#elif defined(__AVX2__)
// read from so far before its middle that n lanes are ones
alignas(64) inline constexpr int32_t LANE_MASK[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
template<class T> inline __m256i first_lanes(ptrdiff_t n) {
    const int32_t* from = LANE_MASK + 8 - n * static_cast<ptrdiff_t>(sizeof(T) / 4);
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
#endif

// the first n lanes only
template<int BYTES = VECTOR_BYTES, class T>
inline void store(T* x, VectorOf<T, BYTES> v, ptrdiff_t n) {
#if defined(__AVX512F__)
    const auto some = first_lanes<T, BYTES>(n);
    if constexpr (BYTES == 64 && sizeof(T) == 4) _mm512_mask_storeu_ps(x, some, (__m512)v);
    else if constexpr (BYTES == 64) _mm512_mask_storeu_pd(x, some, (__m512d)v);
    else if constexpr (sizeof(T) == 4) _mm256_mask_storeu_ps(x, some, (__m256)v);
    else _mm256_mask_storeu_pd(x, some, (__m256d)v);
#elif defined(__AVX2__)
    // by halves, since AMD's processors before Zen 4 take ten times as long for a masked store
    typedef T Half __attribute__((vector_size(16)));
    constexpr int HALF = Vector<T>::lanes / 2;
    if (n >= 2 * HALF) return store(x, v);
    __m128 half = _mm256_castps256_ps128((__m256)v);
    if (n >= HALF) {
        _mm_storeu_ps(reinterpret_cast<float*>(x), half);
        half = _mm256_extractf128_ps((__m256)v, 1);
        x += HALF;
    }
    if (sizeof(T) == 4 && n & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(x), half);
        half = _mm_movehl_ps(half, half);
        x += 2;
    }
    if (n & 1) *x = ((Half)half)[0];
#else
    for (ptrdiff_t i = 0; i < n; ++i) x[i] = v[i];
#endif
}
template<int BYTES = VECTOR_BYTES, class T>
inline VectorOf<T, BYTES> load(const T* x, ptrdiff_t n) {
#if defined(__AVX512F__)
    using V = VectorOf<T, BYTES>;
    const auto some = first_lanes<T, BYTES>(n);
    if constexpr (BYTES == 64 && sizeof(T) == 4) return (V)_mm512_maskz_loadu_ps(some, x);
    else if constexpr (BYTES == 64) return (V)_mm512_maskz_loadu_pd(some, x);
    else if constexpr (sizeof(T) == 4) return (V)_mm256_maskz_loadu_ps(some, x);
    else return (V)_mm256_maskz_loadu_pd(some, x);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (VectorOf<T>)_mm256_maskload_ps(x, first_lanes<T>(n));
    else return (VectorOf<T>)_mm256_maskload_pd(x, first_lanes<T>(n));
#else
    VectorOf<T> v{};
    for (ptrdiff_t i = 0; i < n; ++i) v[i] = x[i];
    return v;
#endif
}

// the first n lanes, often all
template<int BYTES = VECTOR_BYTES, class T>
inline VectorOf<T, BYTES> load_lanes(const T* x, ptrdiff_t n) {
    return FREE_MASKS || n < Vector<T>::lanes ? load<BYTES>(x, n) : load<BYTES>(x);
}
template<int BYTES = VECTOR_BYTES, class T>
inline void store_lanes(T* x, VectorOf<T, BYTES> v, ptrdiff_t n) {
    if (FREE_MASKS || n < Vector<T>::lanes) store<BYTES>(x, v, n);
    else store<BYTES>(x, v);
}
// b where they have no order
template<class T, int BYTES = VECTOR_BYTES>
inline VectorOf<T, BYTES> largest(VectorOf<T, BYTES> a, VectorOf<T, BYTES> b) {
#if defined(__AVX512F__)
    using V = VectorOf<T, BYTES>;
    if constexpr (BYTES == 64 && sizeof(T) == 4) return (V)_mm512_max_ps((__m512)a, (__m512)b);
    else if constexpr (BYTES == 64) return (V)_mm512_max_pd((__m512d)a, (__m512d)b);
    else if constexpr (sizeof(T) == 4) return (V)_mm256_max_ps((__m256)a, (__m256)b);
    else return (V)_mm256_max_pd((__m256d)a, (__m256d)b);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (VectorOf<T>)_mm256_max_ps((__m256)a, (__m256)b);
    else return (VectorOf<T>)_mm256_max_pd((__m256d)a, (__m256d)b);
#else
    return a > b ? a : b;
#endif
}
template<class T> inline VectorOf<T> root_of(VectorOf<T> x) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return (VectorOf<T>)_mm512_sqrt_ps((__m512)x);
    else return (VectorOf<T>)_mm512_sqrt_pd((__m512d)x);
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4) return (VectorOf<T>)_mm256_sqrt_ps((__m256)x);
    else return (VectorOf<T>)_mm256_sqrt_pd((__m256d)x);
#else
    for (int k = 0; k < Vector<T>::lanes; ++k)
        x[k] = sizeof(T) == 4 ? T(__builtin_sqrtf(float(x[k]))) : T(__builtin_sqrt(x[k]));
    return x;
#endif
}
inline VectorOf<float> root(VectorOf<float> x) { return root_of<float>(x); }
inline VectorOf<double> root(VectorOf<double> x) { return root_of<double>(x); }
// a / b, for b that is not negative
inline VectorOf<float> quotient(VectorOf<float> a, VectorOf<float> b) {
#if defined(__AVX512F__)
    // An estimate and a step of Newton's method, less than two units in the last place away: a
    // division takes so long that the multipliers would wait. Of infinity the step makes nothing.
    const __m512 x = _mm512_min_ps(_mm512_set1_ps(__FLT_MAX__), (__m512)b);
    const VectorOf<float> y = (VectorOf<float>)_mm512_rcp14_ps(x);
    return a * (y + y * (1.0f - (VectorOf<float>)x * y));
#else
    return a / b;
#endif
}
inline VectorOf<double> quotient(VectorOf<double> a, VectorOf<double> b) { return a / b; }
// NaN stays
template<class T, int BYTES = VECTOR_BYTES>
inline VectorOf<T, BYTES> rectify(VectorOf<T, BYTES> v) {
    return largest<T, BYTES>(VectorOf<T, BYTES>{}, v);
}

// Elements of 16 bytes, within which a processor moves them in less time than across.
template<class T> constexpr int BLOCK_LANES = 16 / sizeof(T);

// a = the elements first(0), first(1), ... of a and b after it, b = those `next` places later
template<class T, class F> inline __attribute__((always_inline))
void rearrange(AlignedVector<T>& a, AlignedVector<T>& b, F first, int next) {
    constexpr int LANES = Vector<T>::lanes;
    const AlignedVector<T> before = a;
#if defined(__clang__)      // whose shuffle takes constants alone, but which makes one of this
    const AlignedVector<T> other = b;
    const auto at = [=](int j) __attribute__((always_inline)) {
        return j < LANES ? before[j] : other[j - LANES];
    };
#pragma unroll
    for (int j = 0; j < LANES; ++j) {
        a[j] = at(first(j));
        b[j] = at(first(j) + next);
    }
#else
    typedef std::conditional_t<sizeof(T) == 4, int32_t, int64_t> Index;
    typedef Index Indices __attribute__((vector_size(VECTOR_BYTES)));
    [[maybe_unused]] Indices low{}, high{};
#pragma GCC unroll 16
    for (int j = 0; j < LANES; ++j) {
        low[j] = first(j);
        high[j] = first(j) + next;
    }
    a = __builtin_shuffle(before, b, low);
    b = __builtin_shuffle(before, b, high);
#endif
}
// Of each block, elements of a and b in turn: those of the first halves, and of the second ones.
template<class T> inline __attribute__((always_inline))
void interleave(AlignedVector<T>& a, AlignedVector<T>& b) {
    rearrange<T>(a, b, [](int j) __attribute__((always_inline)) {
        constexpr int BLOCK = BLOCK_LANES<T>;
        return j / BLOCK * BLOCK + j % BLOCK / 2 + j % 2 * Vector<T>::lanes;
    }, BLOCK_LANES<T> / 2);
}
// The blocks at even places, and those at odd ones.
template<class T> inline __attribute__((always_inline))
void part_blocks(AlignedVector<T>& a, AlignedVector<T>& b) {
    rearrange<T>(a, b, [](int j) __attribute__((always_inline)) {
        return 2 * (j / BLOCK_LANES<T> * BLOCK_LANES<T>) + j % BLOCK_LANES<T>;
    }, BLOCK_LANES<T>);
}

// To the next row, with an address that the compiler does not know ahead: it would keep those of
// all rows on the stack, which takes as long as a short product.
template<class T> inline void next_row(T*& x, ptrdiff_t row) {
    x += row;
    asm("" : "+r"(x));
}

// out = in', or added to it         in (n, m) of at most LANES rows and columns, in registers
template<class T> __attribute__((noinline))
void transpose(T* __restrict out, ptrdiff_t ldo, const T* in, ptrdiff_t ldi,
               ptrdiff_t n, ptrdiff_t m, bool accumulate) {
    constexpr int LANES = Vector<T>::lanes;
    const T* last = in + (n - 1) * ldi;
    AlignedVector<T> row[LANES];
#pragma GCC unroll 16
    for (int i = 0; i < LANES; ++i) {
        row[i] = load_lanes(in, m);
        next_row(in, in == last ? 0 : ldi);     // beyond the last row, that again
    }
#pragma GCC unroll 2
    for (int half = BLOCK_LANES<T> / 2; half > 0; half /= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            if (!(i & half)) interleave<T>(row[i], row[i | half]);
#pragma GCC unroll 2
    for (int half = BLOCK_LANES<T>; half < LANES; half *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            if (!(i & half)) part_blocks<T>(row[i], row[i | half]);
    const auto put = [&](bool added) __attribute__((always_inline)) {
        T* to = out;
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i) {
            if (i >= m) return;
            store_lanes(to, added ? load_lanes(to, n) + row[i] : row[i], n);
            next_row(to, ldo);
        }
    };
    if (accumulate) put(true);
    else put(false);
}

// Of LANES vectors, f(..., f(v[0], v[1])) of each, by pairs.
template<class T, class F> inline VectorOf<T> reduce_each(AlignedVector<T>* v, F f) {
    constexpr int LANES = Vector<T>::lanes;
#pragma GCC unroll 2
    for (int half = BLOCK_LANES<T> / 2; half > 0; half /= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; ++i)
            if (i % BLOCK_LANES<T> < half) {
                interleave<T>(v[i], v[i + half]);
                v[i] = f(v[i], v[i + half]);
            }
#pragma GCC unroll 2
    for (int half = BLOCK_LANES<T>; half < LANES; half *= 2)
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i += 2 * half) {
            part_blocks<T>(v[i], v[i + half]);
            v[i] = f(v[i], v[i + half]);
        }
    return v[0];
}
template<class T> inline VectorOf<T> sums_of(AlignedVector<T>* v) {
    return reduce_each<T>(v, [](VectorOf<T> a, VectorOf<T> b) { return a + b; });
}

}  // namespace sknn
