// Every scalar formula, once: activations, losses, optimizer steps and random numbers, for
// the CPU and for CUDA. Templates on the float type, no allocation, no standard header.
// Selections are written so that NaN passes through.
#pragma once
#ifndef __CUDACC_RTC__
#include <cstdint>
#endif

#ifdef __CUDACC__
#define SKNN_FN __host__ __device__ __forceinline__
#else
#define SKNN_FN inline __attribute__((always_inline))
#endif

namespace sknn {

#ifdef __CUDACC_RTC__       // CUDA's compiler at run time brings no headers
using int32_t = int;
using uint8_t = unsigned char;
using uint32_t = unsigned int;
using int64_t = long long;
using uint64_t = unsigned long long;
#endif

// ---- what depends on the float type -------------------------------------------------------

template<class T> struct Limits;
template<> struct Limits<float> {
    using Bits = uint32_t;
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float epsilon = 1.1920928955078125e-07f, tiny = 1.17549435e-38f;
    static constexpr float infinity = __builtin_bit_cast(float, 0x7f800000u);
    static constexpr float nan = __builtin_bit_cast(float, 0x7fc00000u);
};
template<> struct Limits<double> {
    using Bits = uint64_t;
    static constexpr int mantissa = 52, bias = 1023;
    static constexpr double epsilon = 2.220446049250313e-16, tiny = 2.2250738585072014e-308;
    static constexpr double infinity = __builtin_bit_cast(double, 0x7ff0000000000000ull);
    static constexpr double nan = __builtin_bit_cast(double, 0x7ff8000000000000ull);
};

#ifdef __CUDACC__
#define SKNN_C(name) ::name
#else
#define SKNN_C(name) __builtin_##name
#endif
SKNN_FN float root(float x) { return SKNN_C(sqrtf)(x); }
SKNN_FN double root(double x) { return SKNN_C(sqrt)(x); }
SKNN_FN float magnitude(float x) { return SKNN_C(fabsf)(x); }
SKNN_FN double magnitude(double x) { return SKNN_C(fabs)(x); }
SKNN_FN float with_sign(float x, float s) { return SKNN_C(copysignf)(x, s); }
SKNN_FN double with_sign(double x, double s) { return SKNN_C(copysign)(x, s); }
#undef SKNN_C

template<class T> SKNN_FN T clip(T x, T low, T high) {
    x = high < x ? high : x;    // one after the other, each is an instruction
    return low > x ? low : x;
}

// ---- exponential --------------------------------------------------------------------------
// exp(x) = 2^n exp(r) with x = n log(2) + r, |r| <= log(2) / 2 (Cody and Waite, 1980).
// The polynomial is expm1(r) / r interpolated at Chebyshev points: relative error 2.5e-10 and
// 2.5e-19. Adding 1.5 * 2^(mantissa bits) rounds to an integer and leaves it in the low bits,
// so that no conversion stands in the way of a vector unit. Half of 2^n is kept, since 2^n
// itself overflows just before exp(x) does.

template<class T> struct Reduced { T expm1; T half_scale; };

SKNN_FN Reduced<float> reduce(float x) {
    float shifted = x * 1.44269504088896341f + 12582912.0f;
    float n = shifted - 12582912.0f;
    float r = (x - n * 0.693359375f) + n * 2.12194440054690583e-4f;
    float p = 1.9899285575896282e-4f;
    p = p * r + 1.3941118895837001e-3f;
    p = p * r + 8.3332984698005894e-3f;
    p = p * r + 4.1666352771112211e-2f;
    p = p * r + 1.6666666719028935e-1f;
    p = p * r + 5.0000000471460574e-1f;
    p = p * r * r + r;
    int32_t bits = (__builtin_bit_cast(int32_t, shifted) << 23) + (126 << 23);
    return {p, __builtin_bit_cast(float, bits)};
}

SKNN_FN Reduced<double> reduce(double x) {
    double shifted = x * 1.44269504088896340736 + 6755399441055744.0;
    double n = shifted - 6755399441055744.0;
    double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
    double p = 2.0918137737642736429e-9;
    p = p * r + 2.5110049204818659793e-8;
    p = p * r + 2.7557263279088496905e-7;
    p = p * r + 2.7557240887229868596e-6;
    p = p * r + 2.4801587336442237861e-5;
    p = p * r + 1.9841269890076402829e-4;
    p = p * r + 1.3888888888879073994e-3;
    p = p * r + 8.3333333333195896163e-3;
    p = p * r + 4.1666666666676774e-2;
    p = p * r + 1.6666666666666680820e-1;
    p = p * r + 5.0e-1;
    p = p * r * r + r;
    int64_t bits = (__builtin_bit_cast(int64_t, shifted) << 52) + (int64_t(1022) << 52);
    return {p, __builtin_bit_cast(double, bits)};
}

// where 2^n / 2 is 0, and where it is finite but 2^n no longer is
template<class T> struct ExpRange;
template<> struct ExpRange<float> { static constexpr float low = -87.0f, high = 89.0f; };
template<> struct ExpRange<double> { static constexpr double low = -708.4, high = 710.0; };

// below the smallest normal number it is 0, above the largest infinity
template<class T> SKNN_FN T exp(T x) {
    Reduced<T> e = reduce(clip(x, ExpRange<T>::low, ExpRange<T>::high));
    return (T(1) + e.expm1) * T(2) * e.half_scale;     // no step is below the smallest normal
}

// ---- logarithm ----------------------------------------------------------------------------
// log(x) = e log(2) + log(1 + f) with x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); and
// log(1 + f) = 2 atanh(s) = 2 s + s R(s^2) = f - s (f - R) with s = f / (2 + f). R / s^2 is
// interpolated at Chebyshev points: relative error of the logarithm 3e-9 and 5e-18. e passes
// through the mantissa of 2^(mantissa bits), as in the exponential. The high half of log(2) has
// so few digits that its product with e is exact.

SKNN_FN float atanh_series(float z) {
    return 0.66666685039575857f + z * (0.39988780566021981f + z * 0.29579949391972787f);
}
SKNN_FN double atanh_series(double z) {
    double p = 0.14616449685043406;
    p = p * z + 0.15331721600556042;
    p = p * z + 0.18182889125261723;
    p = p * z + 0.22222211134795081;
    p = p * z + 0.28571428625975487;
    p = p * z + 0.39999999999899505;
    return p * z + 0.66666666666666696;
}

template<class T> struct LogConstants;
template<> struct LogConstants<float> {
    static constexpr uint32_t root_half = 0x3f3504f3;
    static constexpr float log2_high = 0.693359375f, log2_low = -2.12194440054690583e-4f;
};
template<> struct LogConstants<double> {
    static constexpr uint64_t root_half = 0x3fe6a09e667f3bcd;
    static constexpr double log2_high = 0.693147180369123816490;
    static constexpr double log2_low = 1.90821492927058770002e-10;
};

template<class T> SKNN_FN T log(T x) {
    using L = Limits<T>;
    using Bits = typename L::Bits;
    constexpr Bits root_half = LogConstants<T>::root_half;
    constexpr Bits below_exponent = (Bits(1) << L::mantissa) - 1;
    constexpr T shift = T(Bits(1) << L::mantissa);
    bool subnormal = x < L::tiny;
    Bits bits = __builtin_bit_cast(Bits, subnormal ? x * shift : x);
    bits += (Bits(L::bias) << L::mantissa) - root_half;
    Bits exponent = (bits >> L::mantissa) | __builtin_bit_cast(Bits, shift);
    T e = __builtin_bit_cast(T, exponent) - (shift + T(L::bias));
    e -= subnormal ? T(L::mantissa) : T(0);
    T f = __builtin_bit_cast(T, (bits & below_exponent) + root_half) - T(1);
    T s = f / (T(2) + f);
    T z = s * s;
    T below = s * (f - z * atanh_series(z)) - e * LogConstants<T>::log2_low;
    T y = e * LogConstants<T>::log2_high - (below - f);
    y = x < L::infinity ? y : x;
    return x > T(0) ? y : (x == T(0) ? -L::infinity : (x < T(0) ? L::nan : x));
}

// x log(y), 0 where x is 0
template<class T> SKNN_FN T xlogy(T x, T y) { return x == T(0) ? T(0) : x * log(y); }

// ---- activations: value(x), and gradient(g, y) = g times the derivative -------------------
// from_output says what y is: the activation's output (then it may work in place) or its input.

struct Identity {
    static constexpr bool from_output = true;
    template<class T> static SKNN_FN T value(T x) { return x; }
    template<class T> static SKNN_FN T gradient(T g, T) { return g; }
};

struct Logistic {
    static constexpr bool from_output = true;
    template<class T> static SKNN_FN T value(T x) { return T(1) / (T(1) + exp(-x)); }
    template<class T> static SKNN_FN T gradient(T g, T y) { return g * y * (T(1) - y); }
};

// tanh(x) = expm1(2x) / (expm1(2x) + 2), which keeps its digits near 0
struct Tanh {
    static constexpr bool from_output = true;
    template<class T> static SKNN_FN T value(T x) {
        T twice = T(2) * magnitude(x);
        Reduced<T> e = reduce(twice > T(60) ? T(60) : twice);
        T half_expm1 = e.half_scale * e.expm1 + (e.half_scale - T(0.5));
        return with_sign(half_expm1 / (half_expm1 + T(1)), x);
    }
    template<class T> static SKNN_FN T gradient(T g, T y) { return g * (T(1) - y * y); }
};

struct Relu {
    static constexpr bool from_output = true;
    template<class T> static SKNN_FN T value(T x) { return x < T(0) ? T(0) : x; }
    template<class T> static SKNN_FN T gradient(T g, T y) { return y == T(0) ? T(0) : g; }
};

// ---- losses: link(z) = p, value(y, p), gradient(y, p) with respect to z -------------------

struct SigmoidLogLoss {
    template<class T> static SKNN_FN T link(T z) { return Logistic::value(z); }
    template<class T> static SKNN_FN T value(T y, T p) {
        T q = clip(p, Limits<T>::epsilon, T(1) - Limits<T>::epsilon);
        return -(xlogy(y, q) + xlogy(T(1) - y, T(1) - q));
    }
    template<class T> static SKNN_FN T gradient(T y, T p) { return p - y; }
};

struct SquaredError {
    template<class T> static SKNN_FN T link(T z) { return z; }
    template<class T> static SKNN_FN T value(T y, T p) { return T(0.5) * (y - p) * (y - p); }
    template<class T> static SKNN_FN T gradient(T y, T p) { return p - y; }
};

struct PoissonDeviance {
    template<class T> static SKNN_FN T link(T z) { return exp(z); }
    template<class T> static SKNN_FN T value(T y, T p) { return xlogy(y, y / p) - y + p; }
    template<class T> static SKNN_FN T gradient(T y, T p) { return p - y; }
};

// the link of SOFTMAX_LOG_LOSS takes a whole row; this is the loss of its true class
template<class T> SKNN_FN T log_loss(T p) {
    return -log(clip(p, Limits<T>::epsilon, T(1) - Limits<T>::epsilon));
}

// ---- optimizers: one step of one parameter ------------------------------------------------

template<class T> struct PlainSgd {
    static constexpr int n_slots = 0;
    T learning_rate;
    SKNN_FN void operator()(T& p, T g) const { p -= learning_rate * g; }
};

// Sutskever et al., On the importance of initialization and momentum in deep learning, 2013
// the parameter moves by velocity_part velocity - gradient_part gradient: (1, 0) with plain
// momentum, (momentum, learning rate) with Nesterov's
template<class T> struct Sgd {
    static constexpr int n_slots = 1;
    T learning_rate, momentum, velocity_part, gradient_part;
    SKNN_FN void operator()(T& p, T g, T& velocity) const {
        velocity = momentum * velocity - learning_rate * g;
        p += velocity_part * velocity - gradient_part * g;
    }
};

// Kingma and Ba, Adam: a method for stochastic optimization, 2014; the learning rate holds
// the correction of both moments' bias
template<class T> struct Adam {
    static constexpr int n_slots = 2;
    T learning_rate, beta_1, one_minus_beta_1, beta_2, one_minus_beta_2, epsilon;
    SKNN_FN void operator()(T& p, T g, T& mean, T& square) const {
        mean = beta_1 * mean + one_minus_beta_1 * g;
        square = beta_2 * square + one_minus_beta_2 * (g * g);
        p -= learning_rate * mean / (root(square) + epsilon);
    }
};

// ---- random numbers: Philox 4x32-10 (Salmon et al., Parallel random numbers: as easy as
// 1, 2, 3, 2011): a block of four words is a function of a counter and a key alone ------------

struct Block { uint32_t word[4]; };

SKNN_FN Block philox(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3,
                     uint32_t k0, uint32_t k1) {
    for (int round = 0; round < 10; ++round) {
        uint64_t a = uint64_t(0xD2511F53u) * c0;
        uint64_t b = uint64_t(0xCD9E8D57u) * c2;
        uint32_t n0 = uint32_t(b >> 32) ^ c1 ^ k0;
        uint32_t n2 = uint32_t(a >> 32) ^ c3 ^ k1;
        c1 = uint32_t(b);
        c3 = uint32_t(a);
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// the block for element / 4 of a random stream at one step
SKNN_FN Block random_block(uint64_t seed, uint64_t step, uint32_t stream, uint32_t block) {
    return philox(block, stream, uint32_t(step), uint32_t(step >> 32), uint32_t(seed),
                  uint32_t(seed >> 32));
}

}  // namespace sknn
