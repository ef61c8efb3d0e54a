// Neighbouring elements that a thread reads and writes together, by accesses of 16 bytes at most.
#pragma once
#include "device.h"

namespace sknn {

constexpr int ACCESS = 16;

template<class T, int V>
struct alignas(V * sizeof(T) < ACCESS ? V * sizeof(T) : ACCESS) Pack {
    T v[V];
    SKNN_DEVICE T& operator[](int k) { return v[k]; }
    SKNN_DEVICE T operator[](int k) const { return v[k]; }
};

template<int V, class T> SKNN_DEVICE Pack<T, V> load(const T* p) {
    return *reinterpret_cast<const Pack<T, V>*>(p);
}

// to = v, or added to it
template<class T, int V> SKNN_DEVICE void store(T* to, Pack<T, V> v, bool accumulate = false) {
    if (accumulate) {
        const Pack<T, V> before = load<V>(to);
        for (int k = 0; k < V; ++k) v[k] += before[k];
    }
    *reinterpret_cast<Pack<T, V>*>(to) = v;
}

}  // namespace sknn
