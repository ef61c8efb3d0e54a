// How the windows of a convolution or a pooling lie over images, channels last, and how images
// are dealt out to threads. What is counted within an image has 32 bits.
#pragma once
#include "pack.h"

namespace sknn {

// Division of numbers below 2^31 by one that the host knows (Granlund and Montgomery, 1994)
struct Divisor {
    uint32_t number, multiplier, shift;
    SKNN_DEVICE int quotient(int v) const {
        const uint32_t high = uint32_t(uint64_t(uint32_t(v)) * multiplier >> 32);
        return int((high + uint32_t(v)) >> shift);
    }
};

// Images dealt out to threads by packs: how many a pixel has, and pixels of a line, lines of an
// image. Kernels take it by value.
struct Deal { Divisor packs, width, height; };

// What a thread takes: a pack of V channels of a pixel
template<int V> struct Place {
    int64_t image;
    int row, column, pixel, channel;
    SKNN_DEVICE Place(const Deal& deal) {
        const int width = int(deal.width.number), height = int(deal.height.number);
        const int n_packs = int(deal.packs.number);
        const int64_t first = int64_t(blockIdx.x) * blockDim.x;
        image = first / (n_packs * width * height);
        const int pack = int(first - image * (n_packs * width * height)) + threadIdx.x;
        const int of_images = deal.packs.quotient(pack);
        const int line = deal.width.quotient(of_images), images = deal.height.quotient(line);
        image += images;
        row = line - images * height;
        column = of_images - line * width;
        pixel = row * width + column;
        channel = (pack - of_images * n_packs) * V;
    }
};

// Tap (a, b) of the window of output pixel (i, j) is the pixel (i stride_h - pad_top +
// a dilation_h, ...) of x, which may lie outside. Kernels take it by value.
struct Windows {
    int height, width, channels;        // of x
    int out_height, out_width, filters; // of y
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int groups;
    Divisor by_stride_h, by_stride_w;
    SKNN_DEVICE int in_pixels() const { return height * width; }
    SKNN_DEVICE int out_pixels() const { return out_height * out_width; }

    // the pixel of x under a tap of an output pixel's window, -1 outside
    SKNN_DEVICE int64_t seen(int64_t output, int tap) const {
        const int64_t image = output / out_pixels();
        const int pixel = int(output - image * out_pixels()), i = pixel / out_width;
        const int row = i * stride_h - pad_top + tap / kernel_w * dilation_h;
        const int column = (pixel - i * out_width) * stride_w - pad_left
            + tap % kernel_w * dilation_w;
        if (row < 0 || row >= height || column < 0 || column >= width) return -1;
        return (image * height + row) * width + column;
    }
};

// f(tap, pixel of x) for each tap of an output pixel's window; outside x the pixel is -1
template<class F> SKNN_DEVICE void for_taps(const Windows& w, int out_row, int out_column, F f) {
    const int left = out_column * w.stride_w - w.pad_left;
    int row = out_row * w.stride_h - w.pad_top, tap = 0;
    for (int a = 0; a < w.kernel_h; ++a, row += w.dilation_h) {
        const bool inside = row >= 0 && row < w.height;
        int column = left;
        for (int b = 0; b < w.kernel_w; ++b, ++tap, column += w.dilation_w)
            f(tap, inside && column >= 0 && column < w.width ? row * w.width + column : -1);
    }
}

// f(tap, output) for each window along one axis that `position`, counted from the padding's
// begin, is in
template<class F> SKNN_DEVICE void for_axis(int position, int kernel, const Divisor& stride,
                                            int dilation, int outputs, F f) {
    const int step = dilation == 1 ? int(stride.number) : 1;
    int tap = dilation == 1 ? position - stride.quotient(position) * step : 0;
    for (; tap < kernel && tap * dilation <= position; tap += step) {
        const int start = position - tap * dilation, output = stride.quotient(start);
        if (output * int(stride.number) == start && output < outputs) f(tap, output);
    }
}

// f(tap, row and column of the output) for each window that a pixel of x is in
template<class F> SKNN_DEVICE void for_outputs(const Windows& w, int row, int column, F f) {
    const auto in_line = [&](int a, int i) {
        for_axis(column + w.pad_left, w.kernel_w, w.by_stride_w, w.dilation_w, w.out_width,
                 [&](int b, int j) { f(a * w.kernel_w + b, i, j); });
    };
    for_axis(row + w.pad_top, w.kernel_h, w.by_stride_h, w.dilation_h, w.out_height, in_line);
}

}  // namespace sknn
