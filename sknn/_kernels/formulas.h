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
    using Int = int32_t;
    static constexpr int mantissa = 23, bias = 127;
    static constexpr float epsilon = 1.1920928955078125e-07f, tiny = 1.17549435e-38f;
    static constexpr float infinity = __builtin_bit_cast(float, 0x7f800000u);
    static constexpr float nan = __builtin_bit_cast(float, 0x7fc00000u);
};
template<> struct Limits<double> {
    using Bits = uint64_t;
    using Int = int64_t;
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
SKNN_FN float quotient(float a, float b) { return a / b; }
SKNN_FN double quotient(double a, double b) { return a / b; }
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
// exp(x) = 2^n exp(r) with x = n log(2) + r, |r| <= log(2) / 2 (Cody and Waite, 1980). Adding
// 1.5 * 2^(mantissa bits) rounds to an integer and leaves it in the low bits, so that no
// conversion stands in the way of a vector unit.

template<class T> struct ExpConstants;
template<> struct ExpConstants<float> {
    static constexpr float per_log2 = 1.44269504088896341f, rounding = 12582912.0f;
    static constexpr float lowest = -87.0f;     // n = -126, the last whose 2^n is a normal number
    static constexpr int highest_n = 128;       // 2^n overflows just before exp(x) does
};
template<> struct ExpConstants<double> {
    static constexpr double per_log2 = 1.44269504088896340736, rounding = 6755399441055744.0;
    static constexpr double lowest = -708.4;
    static constexpr int highest_n = 1024;
};

// log(2) has so few digits in its high part that the product with n is exact
template<class T> struct Log2;
template<> struct Log2<float> {
    static constexpr float high = 0.693359375f, low = -2.12194440054690583e-4f;
    static constexpr float value = 0.693147180559945309f;
};
template<> struct Log2<double> {
    static constexpr double high = 0.693147180369123816490, low = 1.90821492927058770002e-10;
    static constexpr double value = 0.693147180559945309417;
};

// exp(r) - 1 with the least relative error: 1.3e-8 and 1.8e-17 before rounding
SKNN_FN float expm1_near_0(float r) {
    float p = 1.3882514510799540e-3f;
    p = p * r + 8.3665275313305781e-3f;
    p = p * r + 4.1667200155668954e-2f;
    p = p * r + 1.6666543568533906e-1f;
    p = p * r + 4.9999998152712285e-1f;
    return p * r * r + r;
}
SKNN_FN double expm1_near_0(double r) {
    double p = 2.5053775403048247e-8;
    p = p * r + 2.7626051690126445e-7;
    p = p * r + 2.7557407577577407e-6;
    p = p * r + 2.4801505240844772e-5;
    p = p * r + 1.9841269718934179e-4;
    p = p * r + 1.3888888931590594e-3;
    p = p * r + 8.3333333333895966e-3;
    p = p * r + 4.1666666666576682e-2;
    p = p * r + 1.6666666666666589e-1;
    p = p * r + 5.0000000000000052e-1;
    return p * r * r + r;
}

// 2^n of the bits of n + rounding; 0 where it is no normal number
template<class T> SKNN_FN T power_of_2(typename Limits<T>::Int bits) {
    using L = Limits<T>;
    return __builtin_bit_cast(T, (bits + L::bias) << L::mantissa);
}

// exp(x) of x from log_of_0 to 0, where nothing overflows. x is a difference, which rounding left
// with as many digits as the rest of a division by log(2) that is not kept in two parts.
template<class T> constexpr T log_of_0 = ExpConstants<T>::lowest - T(1);    // 2^n is 0
template<class T> SKNN_FN T exp_below_0(T x) {
    using E = ExpConstants<T>;
    T shifted = x * E::per_log2 + E::rounding, n = shifted - E::rounding;
    T p = expm1_near_0(x - n * Log2<T>::value);
    T scale = power_of_2<T>(__builtin_bit_cast(typename Limits<T>::Int, shifted));
    return scale * p + scale;
}

// Below the smallest normal number it is 0, above the largest infinity. The bound above is one
// of the integer: as a minimum of x it would take a vector unit longer.
template<class T> SKNN_FN T exp(T x) {
    using E = ExpConstants<T>;
    using Int = typename Limits<T>::Int;
    constexpr Int highest = __builtin_bit_cast(Int, E::rounding) + E::highest_n;
    x = E::lowest > x ? E::lowest : x;          // 2^(n - 1) is 0
    Int bits = __builtin_bit_cast(Int, x * E::per_log2 + E::rounding);
    bits = bits > highest ? highest : bits;     // r takes the rest, and makes it infinite
    T n = __builtin_bit_cast(T, bits) - E::rounding;
    T p = expm1_near_0((x - n * Log2<T>::high) - n * Log2<T>::low);
    return (T(1) + p) * T(2) * power_of_2<T>(bits - 1);
}

// ---- logarithm ----------------------------------------------------------------------------
// log(x) = e log(2) + log(1 + f) with x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); and
// log(1 + f) = 2 atanh(s) = 2 s + s R(s^2) = f - s (f - R) with s = f / (2 + f). R / s^2 is
// interpolated at Chebyshev points: relative error of the logarithm 3e-9 and 5e-18. e passes
// through the mantissa of 2^(mantissa bits), as in the exponential.

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
};
template<> struct LogConstants<double> {
    static constexpr uint64_t root_half = 0x3fe6a09e667f3bcd;
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
    T below = s * (f - z * atanh_series(z)) - e * Log2<T>::low;
    T y = e * Log2<T>::high - (below - f);
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
        using E = ExpConstants<T>;
        T twice = T(2) * magnitude(x);
        twice = twice > T(60) ? T(60) : twice;
        T shifted = twice * E::per_log2 + E::rounding, n = shifted - E::rounding;
        T p = expm1_near_0(twice - n * Log2<T>::value);     // of a large n few digits count
        T scale = power_of_2<T>(__builtin_bit_cast(typename Limits<T>::Int, shifted));
        T expm1 = scale * p + (scale - T(1));
        return with_sign(expm1 / (expm1 + T(2)), x);
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

// ---- optimizers: one step of a parameter, or of a vector V of them. The gradient g is a sum over
// rows, and `scale` in the coefficients what makes their mean of it -------------------------

template<class T> struct PlainSgd {
    static constexpr int n_slots = 0;
    T scaled_rate;
    template<class V> SKNN_FN void operator()(V& p, V g) const { p -= scaled_rate * g; }
};

// Sutskever et al., On the importance of initialization and momentum in deep learning, 2013
// the parameter moves by velocity_part velocity - gradient_part g: (1, 0) with plain momentum,
// (momentum, scaled_rate) with Nesterov's
template<class T> struct Sgd {
    static constexpr int n_slots = 1;
    T scaled_rate, momentum, velocity_part, gradient_part;
    template<class V> SKNN_FN void operator()(V& p, V g, V& velocity) const {
        velocity = momentum * velocity - scaled_rate * g;
        p += velocity_part * velocity - gradient_part * g;
    }
};

// Kingma and Ba, Adam: a method for stochastic optimization, 2014; the learning rate holds
// the correction of both moments' bias, mean_part is (1 - beta_1) scale, and root_part the root of
// 1 - beta_2, times scale
template<class T> struct Adam {
    static constexpr int n_slots = 2;
    T learning_rate, beta_1, mean_part, beta_2, root_part, epsilon;
    template<class V> SKNN_FN void operator()(V& p, V g, V& mean, V& square) const {
        const V part = root_part * g;
        mean = beta_1 * mean + mean_part * g;
        square = beta_2 * square + part * part;
        p -= quotient(learning_rate * mean, root(square) + epsilon);
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
