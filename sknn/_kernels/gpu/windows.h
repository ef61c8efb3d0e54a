// How the windows of a convolution or a pooling lie over images, channels last.
#pragma once
#include "device.h"

namespace sknn {

// pixel i of many images
struct Pixel {
    int64_t image;
    int row, column;
    SKNN_DEVICE Pixel(int64_t i, int64_t height, int64_t width) {
        const int64_t line = i / width;
        image = line / height;
        row = int(line - image * height);
        column = int(i - line * width);
    }
};

// Tap (a, b) of the window of output pixel (i, j) is the pixel (i stride_h - pad_top +
// a dilation_h, ...) of x, which may lie outside. Kernels take it by value.
struct Windows {
    int64_t height, width, channels;        // of x
    int64_t out_height, out_width, filters; // of y
    int64_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    int64_t groups;
    SKNN_DEVICE int64_t in_pixels() const { return height * width; }
    SKNN_DEVICE int64_t out_pixels() const { return out_height * out_width; }

    // the pixel of x under a tap of an output pixel's window, -1 outside
    SKNN_DEVICE int64_t seen(int64_t output, int64_t tap) const {
        const Pixel p(output, out_height, out_width);
        const int64_t row = p.row * stride_h - pad_top + tap / kernel_w * dilation_h;
        const int64_t column = p.column * stride_w - pad_left + tap % kernel_w * dilation_w;
        if (row < 0 || row >= height || column < 0 || column >= width) return -1;
        return (p.image * height + row) * width + column;
    }
};

// f(tap, pixel of x) for each tap of the window of an output pixel; outside x the pixel is -1
template<class F> SKNN_DEVICE void for_taps(const Windows& w, int64_t output, F f) {
    const Pixel p(output, w.out_height, w.out_width);
    const int height = int(w.height), width = int(w.width);
    const int kernel_h = int(w.kernel_h), kernel_w = int(w.kernel_w);
    int row = p.row * int(w.stride_h) - int(w.pad_top), tap = 0;
    const int left = p.column * int(w.stride_w) - int(w.pad_left);
    for (int a = 0; a < kernel_h; ++a, row += int(w.dilation_h)) {
        const bool inside = row >= 0 && row < height;
        const int64_t line = (p.image * height + row) * width;
        int column = left;
        for (int b = 0; b < kernel_w; ++b, ++tap, column += int(w.dilation_w))
            f(tap, inside && column >= 0 && column < width ? line + column : int64_t(-1));
    }
}

// The outputs along one axis whose windows may reach `position`, counted from the padding's
// begin: first..end.
struct Reach {
    int first, end;
    SKNN_DEVICE Reach(int position, int kernel, int stride, int dilation, int outputs) {
        const int before = position - (kernel - 1) * dilation;
        first = before <= 0 ? 0 : (before + stride - 1) / stride;
        end = position / stride + 1 < outputs ? position / stride + 1 : outputs;
    }
};

// the tap that lies `distance` from the first, -1 if it is between two
SKNN_DEVICE int tap_at(int distance, int dilation) {
    if (dilation == 1) return distance;
    return distance % dilation == 0 ? distance / dilation : -1;
}

// f(tap, output pixel) for each window that a pixel of x is in
template<class F> SKNN_DEVICE void for_outputs(const Windows& w, int64_t input, F f) {
    const Pixel p(input, w.height, w.width);
    const int row = p.row + int(w.pad_top), column = p.column + int(w.pad_left);
    const int stride_h = int(w.stride_h), stride_w = int(w.stride_w);
    const Reach rows(row, int(w.kernel_h), stride_h, int(w.dilation_h), int(w.out_height));
    const Reach columns(column, int(w.kernel_w), stride_w, int(w.dilation_w), int(w.out_width));
    for (int i = rows.first; i < rows.end; ++i) {
        const int a = tap_at(row - i * stride_h, int(w.dilation_h));
        const int64_t line = (p.image * w.out_height + i) * w.out_width;
        for (int j = columns.first; a >= 0 && j < columns.end; ++j) {
            const int b = tap_at(column - j * stride_w, int(w.dilation_w));
            if (b >= 0) f(a * int(w.kernel_w) + b, line + j);
        }
    }
}

}  // namespace sknn
