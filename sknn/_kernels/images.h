// Images as convolutions read them: channels-last, with zeros around, from the rows of a value or
// from the gradient of its pooled values.
#pragma once
#include "tiles.h"
#include <cstring>
#include <numeric>

namespace sknn {

// images in the workspace at once: so many elements and output pixels, at most
constexpr ptrdiff_t CHUNK_ELEMENTS = 96 << 10, CHUNK_PIXELS = 1024;

// the position of a maximum that a rectifier made zero
constexpr uint8_t DEAD = 4;

struct Conv {
    ptrdiff_t height, width, channels;              // of x
    ptrdiff_t out_height, out_width, filters;       // before pooling
    ptrdiff_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w;
    ptrdiff_t pad_top, pad_left, groups;
    bool pool;                                      // 2 x 2, every second pixel
    bool winograd;                                  // the algorithm; float only
    ptrdiff_t positions_image;                      // bytes from one sample to the next
    ptrdiff_t taps() const { return kernel_h * kernel_w; }
    // each channel has one filter of its own, and vectors hold channels rather than filters
    bool depthwise() const {
        return groups > 1 && groups == channels && groups == filters && !pool;
    }
    ptrdiff_t parts() const { return depthwise() ? 1 : groups; }    // one after the other
    ptrdiff_t part_channels() const { return channels / parts(); }
    ptrdiff_t part_filters() const { return filters / parts(); }
    ptrdiff_t sum_channels() const { return channels / groups; }    // that an output is a sum of
    ptrdiff_t sum_filters() const { return filters / groups; }      // the same for dx
    // what the taps of a kernel's row read lies together
    bool joins_taps() const { return groups == 1 && dilation_w == 1; }
    // every pixel of x is part of some window, but for those at the end
    bool reaches_all() const {
        return kernel_h >= stride_h && kernel_w >= stride_w
               && std::gcd(stride_h, dilation_h) == 1 && std::gcd(stride_w, dilation_w) == 1;
    }
};

inline ptrdiff_t ceil_div(ptrdiff_t a, ptrdiff_t b) { return (a + b - 1) / b; }
inline ptrdiff_t floor_div(ptrdiff_t a, ptrdiff_t b) { return a >= 0 ? a / b : -ceil_div(-a, b); }

// n things in as few blocks of at most `most` as possible, which differ by one
struct Blocks {
    ptrdiff_t n, least, larger;
    Blocks(ptrdiff_t count, ptrdiff_t most)
        : n(ceil_div(count, most)), least(n ? count / n : 0), larger(count - n * least) {}
    ptrdiff_t size(ptrdiff_t block) const { return least + (block < larger); }
};

// ---- positions of maxima, one byte each --------------------------------------------------------

template<class T> struct Masks;
template<> struct Masks<float> { using element = int32_t; };
template<> struct Masks<double> { using element = int64_t; };
template<class T> struct Positions {
    typedef typename Masks<T>::element type __attribute__((vector_size(VECTOR_BYTES)));
    typedef uint8_t bytes __attribute__((vector_size(VECTOR_BYTES / sizeof(T)), aligned(1)));
};
template<class T> using MaskOf = typename Positions<T>::type;
template<class T> using BytesOf = typename Positions<T>::bytes;

// compilers convert element by element
template<class T> inline MaskOf<T> widen(BytesOf<T> bytes) {
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) return (MaskOf<T>)_mm512_cvtepu8_epi32((__m128i)bytes);
    else return (MaskOf<T>)_mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i*)&bytes));
#elif defined(__AVX2__)
    if constexpr (sizeof(T) == 4)
        return (MaskOf<T>)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)&bytes));
    else return (MaskOf<T>)_mm256_cvtepu8_epi64(_mm_loadu_si32(&bytes));
#else
    return __builtin_convertvector(bytes, MaskOf<T>);
#endif
}
template<class T> inline BytesOf<T> narrow(MaskOf<T> v) {
    BytesOf<T> bytes;
#if defined(__AVX512F__)
    if constexpr (sizeof(T) == 4) bytes = (BytesOf<T>)_mm512_cvtepi32_epi8((__m512i)v);
    else _mm_storel_epi64((__m128i*)&bytes, _mm512_cvtepi64_epi8((__m512i)v));
#elif defined(__AVX2__)
    __m256i words = (__m256i)v;
    if constexpr (sizeof(T) == 8)
        words = _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(words),
                                           _mm256_extracti128_si256(words, 1));
    const __m128i packed = _mm_packus_epi16(halves, halves);
    std::memcpy(&bytes, &packed, sizeof bytes);
#else
    bytes = __builtin_convertvector(v, BytesOf<T>);
#endif
    return bytes;
}
template<class T> inline MaskOf<T> load_positions(const uint8_t* p, ptrdiff_t n) {
    BytesOf<T> bytes{};
    if (n == Vector<T>::lanes) bytes = *reinterpret_cast<const BytesOf<T>*>(p);
    else std::memcpy(&bytes, p, n);
    return widen<T>(bytes);
}
template<class T> inline void store_positions(uint8_t* p, MaskOf<T> v, ptrdiff_t n) {
    const BytesOf<T> bytes = narrow<T>(v);
    if (n == Vector<T>::lanes) *reinterpret_cast<BytesOf<T>*>(p) = bytes;
    else std::memcpy(p, &bytes, n);
}

// f(first element, how many of a vector) for m elements
template<class T, class F> inline __attribute__((always_inline))
void for_vectors(ptrdiff_t m, F f) {
    constexpr ptrdiff_t LANES = Vector<T>::lanes;
    for (ptrdiff_t k = 0; k < m; k += LANES) f(k, m - k < LANES ? m - k : LANES);
}

// ---- images with zeros around them ----------------------------------------------------------

struct Padded {
    ptrdiff_t height, width, top, left;
    bool copied;            // otherwise the image itself will do
    ptrdiff_t size(ptrdiff_t channels) const { return height * width * channels; }
};

// What depthwise tiles read, which take whole vectors of channels, is always a copy: there may be
// nothing after an image.
inline Padded padded(ptrdiff_t height, ptrdiff_t width, ptrdiff_t top, ptrdiff_t left,
                     ptrdiff_t inner_height, ptrdiff_t inner_width, bool always) {
    if (!always && !top && !left && height <= inner_height && width <= inner_width)
        return {inner_height, inner_width, 0, 0, false};
    return {height, width, top, left, true};
}

// x as the windows see it
inline Padded padded_input(const Conv& s) {
    return padded((s.out_height - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1,
                  (s.out_width - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1,
                  s.pad_top, s.pad_left, s.height, s.width, s.depthwise());
}

// dy as the gradient of x sees it: x (i) is part of y (o) if o stride + a dilation - pad = i
inline Padded padded_gradient(const Conv& s) {
    const auto before = [](ptrdiff_t pad, ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t stride) {
        const ptrdiff_t first = floor_div(pad - (kernel - 1) * dilation, stride);
        return first < 0 ? -first : 0;
    };
    const auto end = [](ptrdiff_t n, ptrdiff_t pad, ptrdiff_t stride, ptrdiff_t out) {
        const ptrdiff_t last = (n - 1 + pad) / stride + 1;
        return last > out ? last : out;
    };
    const ptrdiff_t top = before(s.pad_top, s.kernel_h, s.dilation_h, s.stride_h);
    const ptrdiff_t left = before(s.pad_left, s.kernel_w, s.dilation_w, s.stride_w);
    return padded(top + end(s.height, s.pad_top, s.stride_h, s.out_height),
                  left + end(s.width, s.pad_left, s.stride_w, s.out_width), top, left,
                  s.out_height, s.out_width, s.pool || s.depthwise());
}

template<class T> __attribute__((noinline))
void fill_zero(T* out, ptrdiff_t n) {
    for (ptrdiff_t i = 0; i < n; ++i) out[i] = 0;
}

// Images (height, width, channels), or those whose gradient of the pooled values data is.
template<class T> struct Source {
    const T* data;
    ptrdiff_t image;                // elements from one to the next
    ptrdiff_t height, width, channels;
    const uint8_t* positions;       // of the maxima; null: not pooled
    ptrdiff_t positions_image;
};

// out = row i of image b, its first n pixels     out (n, channels)
template<class T> __attribute__((noinline))
void read_row(const Source<T>& s, ptrdiff_t b, ptrdiff_t i, ptrdiff_t n, T* __restrict out) {
    const ptrdiff_t m = s.channels;
    if (!s.positions) {
        const T* __restrict x = s.data + b * s.image + i * s.width * m;
        for (ptrdiff_t j = 0; j < n * m; ++j) out[j] = x[j];
        return;
    }
    const ptrdiff_t pairs = s.width / 2, whole = i / 2 < s.height / 2 ? n / 2 : 0;
    const ptrdiff_t at = i / 2 * pairs * m;
    const T* __restrict g = s.data + b * s.image + at;
    const uint8_t* __restrict positions = s.positions + b * s.positions_image + at;
    const typename Masks<T>::element left = i % 2 * 2, right = left + 1;
    for (ptrdiff_t j = 0; j < whole && j < pairs; ++j, out += 2 * m, g += m, positions += m) {
        for_vectors<T>(m, [&](ptrdiff_t k, ptrdiff_t lanes) __attribute__((always_inline)) {
            const VectorOf<T> v = load_lanes(g + k, lanes), zero{};
            const MaskOf<T> where = load_positions<T>(positions + k, lanes);
            store_lanes(out + k, where == left ? v : zero, lanes);
            store_lanes(out + m + k, where == right ? v : zero, lanes);
        });
    }
    const ptrdiff_t done = 2 * (whole < pairs ? whole : pairs);
    fill_zero(out, (n - done) * m);
}

// the inside of `out`, as far as it reaches      out (p.height, p.width, channels)
template<class T>
void copy_inside(T* out, const Padded& p, const Source<T>& s, ptrdiff_t b) {
    const ptrdiff_t rows = p.height - p.top < s.height ? p.height - p.top : s.height;
    const ptrdiff_t columns = p.width - p.left < s.width ? p.width - p.left : s.width;
    out += (p.top * p.width + p.left) * s.channels;
    for (ptrdiff_t i = 0; i < rows; ++i)
        read_row(s, b, i, columns, out + i * p.width * s.channels);
}

inline ptrdiff_t images_at_once(const Conv& s, ptrdiff_t elements) {
    const ptrdiff_t pixels = s.out_height * s.out_width;
    ptrdiff_t n = CHUNK_PIXELS / pixels;
    if (n * elements > CHUNK_ELEMENTS) n = CHUNK_ELEMENTS / elements;
    return n < 1 ? 1 : n > 16 ? 16 : n;
}

// Takes parts of a thread's workspace, one after the other.
template<class T> struct Workspace {
    T* next;
    T* take(ptrdiff_t n) {
        T* part = next;
        next += ceil_div(n, 16) * 16;
        return part;
    }
    int32_t* take_integers(ptrdiff_t n) { return reinterpret_cast<int32_t*>(take(n)); }
};

}  // namespace sknn
