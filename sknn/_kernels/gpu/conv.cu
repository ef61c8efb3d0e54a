// CONV: y = activation(x * W + b). Most are products of matrices: of the columns, where every
// output pixel has a row with all that its window sees, and the weights. Convolutions in groups,
// and of few channels, are made directly. x and y have a row for each pixel of n images.
#include "windows.h"

namespace sknn {

// columns (n out_pixels, taps channels) of x: 0 where a window reaches beyond the image
template<class T, int V> __global__
void im2col(T* __restrict__ columns, const T* __restrict__ x, Windows w, int64_t n, int64_t ld,
            int64_t ldx, Deal deal) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const T* image = x + at.image * w.in_pixels() * ldx + at.channel;
    T* row = columns + (at.image * w.out_pixels() + at.pixel) * ld + at.channel;
    for_taps(w, at.row, at.column, [&](int tap, int pixel) {
        Pack<T, V> v = {};
        if (pixel >= 0) v = load<V>(image + pixel * int(ldx));
        store(row + tap * w.channels, v);
    });
}

// dx = the sum of all columns where a pixel is seen, or added to it
template<class T, int V> __global__
void col2im(T* __restrict__ dx, const T* __restrict__ columns, Windows w, int64_t n, int64_t lddx,
            int64_t ld, Deal deal, int64_t accumulate) {
    const Place<V> at(deal);
    if (at.image >= n) return;
    const T* image = columns + at.image * w.out_pixels() * ld + at.channel;
    Pack<T, V> sum = {};
    for_outputs(w, at.row, at.column, [&](int tap, int i, int j) {
        const T* row = image + (i * w.out_width + j) * ld;
        const Pack<T, V> d = load<V>(row + tap * w.channels);
        for (int k = 0; k < V; ++k) sum[k] += d[k];
    });
    store(dx + (at.image * w.in_pixels() + at.pixel) * lddx + at.channel, sum, accumulate);
}

// ---- in groups: filter f sees the channels f / (filters / groups) (channels / groups) on ------

// y = F(x * W + b)                 W (taps, channels / groups, filters), b (filters,)
template<class F, class T> __global__
void grouped_conv(T* y, const T* x, const T* W, const T* b, Windows w, int64_t n, int64_t ldy,
                  int64_t ldx, Deal deal) {
    const Place<1> at(deal);
    if (at.image >= n) return;
    const int sees = w.channels / w.groups, each = w.filters / w.groups, f = at.channel;
    const T* image = x + at.image * w.in_pixels() * ldx + f / each * sees;
    T sum = b[f];
    for_taps(w, at.row, at.column, [&](int tap, int pixel) {
        const T* seen = image + pixel * int(ldx);
        for (int c = 0; c < sees && pixel >= 0; ++c)
            sum += seen[c] * W[(tap * sees + c) * w.filters + f];
    });
    y[(at.image * w.out_pixels() + at.pixel) * ldy + f] = F::value(sum);
}

// dx = dy * W turned around, or added to it
template<class T> __global__
void grouped_conv_gradient(T* dx, const T* dy, const T* W, Windows w, int64_t n, int64_t lddx,
                           int64_t lddy, Deal deal, int64_t accumulate) {
    const Place<1> at(deal);
    if (at.image >= n) return;
    const int sees = w.channels / w.groups, each = w.filters / w.groups;
    const int group = at.channel / sees, c = at.channel - group * sees;
    const T* slopes = dy + at.image * w.out_pixels() * lddy + group * each;
    Pack<T, 1> sum = {};
    for_outputs(w, at.row, at.column, [&](int tap, int i, int j) {
        const T* slope = slopes + (i * w.out_width + j) * int(lddy);
        const T* weights = W + (tap * sees + c) * w.filters + group * each;
        for (int f = 0; f < each; ++f) sum[0] += slope[f] * weights[f];
    });
    store(dx + (at.image * w.in_pixels() + at.pixel) * lddx + at.channel, sum, accumulate);
}

// parts_b = the gradient of W over the output pixels of share b; there is a block for each share
// and each row of W, one after the other        parts (shares, taps channels / groups, filters)
template<class T> __global__
void grouped_weight_gradient(T* parts, const T* x, const T* dy, Windows w, int64_t n,
                             int64_t ldx, int64_t lddy, int64_t lanes, int64_t share_rows) {
    SKNN_SHARED(T, sums, MOST_THREADS);
    const int64_t sees = w.channels / w.groups, each = w.filters / w.groups;
    const int64_t n_rows = w.kernel_h * w.kernel_w * sees;
    const int64_t row = blockIdx.x % n_rows, wanted = row / sees, c = row % sees;
    const int64_t begin = blockIdx.x / n_rows * share_rows, all = n * w.out_pixels();
    const int64_t end = begin + share_rows < all ? begin + share_rows : all;
    const int width = int(lanes), n_groups = blockDim.x / width;
    const int lane = threadIdx.x & (width - 1), group = threadIdx.x / width;
    for (int64_t first = 0; first < w.filters; first += width) {
        const int64_t f = first + lane, channel = f / each * sees + c;
        T sum = 0;
        for (int64_t i = begin + group; i < end && f < w.filters; i += n_groups) {
            const int64_t pixel = w.seen(i, wanted);
            if (pixel >= 0) sum += x[pixel * ldx + channel] * dy[i * lddy + f];
        }
        sums[threadIdx.x] = sum;
        __syncthreads();
        if (group == 0 && f < w.filters) {
            for (int k = 1; k < n_groups; ++k) sum += sums[k * width + lane];
            parts[blockIdx.x * w.filters + f] = sum;
        }
        __syncthreads();
    }
}

// ---- of few channels, whose columns would be more than x and y --------------------------------

constexpr int STRIP = 4;        // pixels of a line of y that a thread makes together
constexpr int TILE = 7;         // rows of W whose gradient it makes together
constexpr int LINES_BYTES = 32 << 10;

// Bands are some lines of y of an image. A block has the lines of x that the windows of one see,
// from the padding on. Kernels take it by value.
struct Bands {
    int lines, of_image;            // of y; bands
    int x_lines, line_size;         // and elements of a line of x
    Divisor channels, out_width;
};

struct Band {
    int64_t image;
    int first, n_lines;             // of y
    SKNN_DEVICE Band(const Bands& bands, const Windows& w, int64_t index) {
        image = index / bands.of_image;
        first = int(index - image * bands.of_image) * bands.lines;
        n_lines = w.out_height - first < bands.lines ? w.out_height - first : bands.lines;
    }

    // lines = those of x that it sees, 0 outside; a warp takes a line
    template<class T> SKNN_DEVICE void copy(T* lines, const T* x, const Bands& bands,
                                            const Windows& w, int64_t ldx) const {
        const T* from = x + image * w.in_pixels() * ldx;
        for (int i = threadIdx.x / WARP; i < bands.x_lines; i += blockDim.x / WARP) {
            const int row = first * w.stride_h - w.pad_top + i;
            for (int k = threadIdx.x % WARP; k < bands.line_size; k += WARP) {
                const int padded = bands.channels.quotient(k), column = padded - w.pad_left;
                const bool inside = row >= 0 && row < w.height && column >= 0 && column < w.width;
                const int c = k - padded * w.channels;
                lines[i * bands.line_size + k] =
                    inside ? from[(row * w.width + column) * int(ldx) + c] : T(0);
            }
        }
    }
};

// y = F(x * W + b)                 W (taps channels, filters), b (filters,); a block makes a band
template<class F, class T, int V> __global__
void direct_conv(T* __restrict__ y, const T* __restrict__ x, const T* __restrict__ W,
                 const T* __restrict__ b, Windows w, int64_t ldy, int64_t ldx, Bands bands) {
    SKNN_SHARED(T, lines, LINES_BYTES / sizeof(T));
    const Band band(bands, w, blockIdx.x);
    band.copy(lines, x, bands, w, ldx);
    __syncthreads();
    T* to = y + (band.image * w.out_pixels() + band.first * w.out_width) * ldy;
    const int lanes = w.filters / V, strips = (w.out_width + STRIP - 1) / STRIP;
    for (int item = threadIdx.x; item < band.n_lines * strips * lanes; item += blockDim.x) {
        const int strip = item / lanes, f = (item - strip * lanes) * V;
        const int i = strip / strips, j = (strip - i * strips) * STRIP;
        const T* weights = W + f;
        Pack<T, V> sums[STRIP];
        for (int p = 0; p < STRIP; ++p) sums[p] = load<V>(b + f);
        for (int tap_h = 0; tap_h < w.kernel_h; ++tap_h)
            for (int tap_w = 0; tap_w < w.kernel_w; ++tap_w) {
                const int line = i * w.stride_h + tap_h * w.dilation_h;
                const int column = j * w.stride_w + tap_w * w.dilation_w;
                const T* seen = lines + line * bands.line_size + column * w.channels;
                for (int c = 0; c < w.channels; ++c, weights += w.filters) {
                    const Pack<T, V> weight = load<V>(weights);
                    for (int p = 0; p < STRIP; ++p) {
                        const T v = seen[p * w.stride_w * w.channels + c];
                        for (int k = 0; k < V; ++k) sums[p][k] += v * weight[k];
                    }
                }
            }
        for (int p = 0; p < STRIP && j + p < w.out_width; ++p) {
            for (int k = 0; k < V; ++k) sums[p][k] = F::value(sums[p][k]);
            store(to + (i * w.out_width + j + p) * int(ldy) + f, sums[p]);
        }
    }
}

// parts_s = the gradient of W over the bands of share s. A thread has a tile of W's gradient,
// TILE rows and V filters, over some pixels of each band. There is a block for each share and
// each MOST_THREADS tiles, one after the other       parts (shares, taps channels, filters)
template<class T, int V> __global__
void direct_weight_gradient(T* __restrict__ parts, const T* __restrict__ x,
                            const T* __restrict__ dy, Windows w, int64_t n, int64_t ldx,
                            int64_t lddy, Bands bands, int64_t share_bands) {
    SKNN_SHARED(T, lines, LINES_BYTES / sizeof(T));
    const int n_rows = w.kernel_h * w.kernel_w * w.channels, across = w.filters / V;
    const int all_tiles = (n_rows + TILE - 1) / TILE * across;
    const int n_blocks = (all_tiles + blockDim.x - 1) / blockDim.x;     // of a share
    const int share = blockIdx.x / n_blocks, first = (blockIdx.x - share * n_blocks) * blockDim.x;
    const int n_tiles = all_tiles - first < blockDim.x ? all_tiles - first : blockDim.x;
    const int n_groups = blockDim.x / n_tiles, group = threadIdx.x / n_tiles;
    const int tile = first + threadIdx.x - group * n_tiles;
    const int row = tile / across * TILE, f = tile % across * V;
    int offsets[TILE];              // in lines, of what a row of W is multiplied by
    T sums[TILE][V] = {};
    for (int k = 0; k < TILE; ++k) {
        const int at = row + k < n_rows ? row + k : row, tap = at / w.channels;
        const int line = tap / w.kernel_w * w.dilation_h, column = tap % w.kernel_w * w.dilation_w;
        offsets[k] = line * bands.line_size + column * w.channels + at % w.channels;
    }
    const int64_t begin = share * share_bands, all = n * bands.of_image;
    for (int64_t index = begin; index < begin + share_bands && index < all; ++index) {
        const Band band(bands, w, index);
        band.copy(lines, x, bands, w, ldx);
        __syncthreads();
        const int n_pixels = group < n_groups ? band.n_lines * w.out_width : 0;
        const T* slopes = dy + (band.image * w.out_pixels() + band.first * w.out_width) * lddy + f;
        for (int pixel = group; pixel < n_pixels; pixel += AT_ONCE * n_groups) {
            Pack<T, V> d[AT_ONCE];
            #pragma unroll
            for (int m = 0; m < AT_ONCE; ++m) {
                const int at = pixel + m * n_groups;
                if (at < n_pixels) d[m] = load<V>(slopes + at * int(lddy));
            }
            #pragma unroll
            for (int m = 0; m < AT_ONCE; ++m) {
                const int at = pixel + m * n_groups, i = bands.out_width.quotient(at);
                if (at >= n_pixels) break;
                const int column = (at - i * w.out_width) * w.stride_w;
                const T* seen = lines + i * w.stride_h * bands.line_size + column * w.channels;
                for (int k = 0; k < TILE; ++k)
                    for (int v = 0; v < V; ++v) sums[k][v] += seen[offsets[k]] * d[m][v];
            }
        }
        __syncthreads();
    }
    for (int k = 0; k < TILE && group < n_groups; ++k)
        for (int v = 0; v < V; ++v) lines[(threadIdx.x * TILE + k) * V + v] = sums[k][v];
    __syncthreads();
    T* part = parts + int64_t(share) * n_rows * w.filters;
    for (int at = threadIdx.x; at < n_tiles * TILE * V; at += blockDim.x) {
        T sum = 0;
        for (int g = 0; g < n_groups; ++g) sum += lines[g * n_tiles * TILE * V + at];
        const int own = first + at / (TILE * V), k = at / V % TILE, v = at % V;
        const int to_row = own / across * TILE + k;
        if (to_row < n_rows) part[to_row * w.filters + own % across * V + v] = sum;
    }
}

}  // namespace sknn
