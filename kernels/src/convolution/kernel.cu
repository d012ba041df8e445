// Layers of convolutional networks in single precision, forward: fields [sample, channel, y, x]. No atomics: every sum has one order.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

constexpr int THREADS = 128, VECTOR_THREADS = 256, DEPTH = 8;
// Tile of a convolution, output channels and points; a thread has R channels of S points, side by side.
constexpr int CHANNELS = 32, POINTS = 128, R = 4, S = 8;

// A row of a tile in shared memory. Its end is 4 numbers longer, so that columns of a tile lie in different banks.
template <int N>
struct alignas(16) Row {
    float at[N + 4];
};

// out[b, o, p] = bias[o] + sum over c and taps of w[o, c, tap] x[b, c, p + tap] + beside[b, o, p]: as a product of the matrix w with the
// neighbourhoods of the points, which are never written, zeros outside. `beside` may be null. A block has a tile of one sample.
// 2 TAPS from to flops a point; a tile reads TAPS from (32 + 128) numbers for 2 TAPS from 32 128 flops.
template <int TAPS>
__device__ __forceinline__ void convolve(int from, int to, int h, int w, const float* __restrict__ x, const float* __restrict__ weight,
                                         const float* __restrict__ bias, const float* __restrict__ beside, float* __restrict__ out) {
    static_assert((CHANNELS / R) * (POINTS / S) == THREADS, "the block's threads cover the tile");
    static_assert(POINTS == THREADS, "a thread fetches one point's neighbourhood");
    constexpr int A_EACH = CHANNELS * DEPTH / THREADS;
    __shared__ Row<CHANNELS> as[DEPTH];
    __shared__ Row<POINTS> bs[DEPTH];
    const int n = h * w, tiles = (n - 1) / POINTS + 1, depth = TAPS * from;
    const int sample = blockIdx.x / tiles, p0 = blockIdx.x % tiles * POINTS, o0 = blockIdx.y * CHANNELS;
    const int t = threadIdx.x, down = t / (POINTS / S) * R, across = t % (POINTS / S) * S;
    // The point that this thread fetches.
    const int p = p0 + t, py = p / w, px = p % w;
    const float* field = x + (long long)sample * from * n;
    float a_next[A_EACH], b_next[DEPTH], sum[R][S] = {};
    auto fetch = [&](int k0) {
#pragma unroll
        for (int q = 0; q < A_EACH; ++q) {
            const int e = t + q * THREADS, k = k0 + e % DEPTH, o = o0 + e / DEPTH;
            a_next[q] = k < depth && o < to ? weight[(long long)o * depth + k] : 0.0f;
        }
#pragma unroll
        for (int q = 0; q < DEPTH; ++q) {
            const int k = k0 + q, c = k / TAPS, tap = k % TAPS;
            const int y = TAPS == 1 ? py : py + tap / 3 - 1, at = TAPS == 1 ? px : px + tap % 3 - 1;
            const bool inside = k < depth && p < n && y >= 0 && y < h && at >= 0 && at < w;
            b_next[q] = inside ? field[(long long)c * n + y * w + at] : 0.0f;
        }
    };
    fetch(0);
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
#pragma unroll
        for (int q = 0; q < A_EACH; ++q) {
            const int e = t + q * THREADS;
            as[e % DEPTH].at[e / DEPTH] = a_next[q];
        }
#pragma unroll
        for (int q = 0; q < DEPTH; ++q) bs[q].at[t] = b_next[q];
        __syncthreads();
        if (k0 + DEPTH < depth) fetch(k0 + DEPTH);
#pragma unroll
        for (int k = 0; k < DEPTH; ++k)
#pragma unroll
            for (int r = 0; r < R; ++r)
#pragma unroll
                for (int s = 0; s < S; ++s) sum[r][s] += as[k].at[down + r] * bs[k].at[across + s];
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < R; ++r) {
        const int o = o0 + down + r;
        if (o >= to) continue;
#pragma unroll
        for (int s = 0; s < S; ++s) {
            const int point = p0 + across + s;
            if (point >= n) continue;
            const long long at = ((long long)sample * to + o) * n + point;
            out[at] = sum[r][s] + bias[o] + (beside ? beside[at] : 0.0f);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
convolve_3x3(int from, int to, int h, int w, const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
             const float* __restrict__ beside, float* __restrict__ out) {
    convolve<9>(from, to, h, w, x, weight, bias, beside, out);
}
EXPORT_KERNEL(convolve_3x3)

extern "C" __global__ void __launch_bounds__(THREADS)
convolve_1x1(int from, int to, int h, int w, const float* __restrict__ x, const float* __restrict__ weight, const float* __restrict__ bias,
             const float* __restrict__ beside, float* __restrict__ out) {
    convolve<1>(from, to, h, w, x, weight, bias, beside, out);
}
EXPORT_KERNEL(convolve_1x1)

// The sum of all threads' values, in every thread; the block has VECTOR_THREADS.
__device__ __forceinline__ double sum_of_block(double value, double* warps) {
    for (int d = 16; d > 0; d /= 2) value += __shfl_down_sync(0xffffffffu, value, d);
    __syncthreads();
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0.0;
    for (int i = 0; i < VECTOR_THREADS / 32; ++i) sum += warps[i];
    return sum;
}

// moments[group] = mean of x[group, 0 .. size) and 1/sqrt(variance + tiny); a block for each group of each sample. Reads x twice.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
group_moments(long long size, float tiny, const float* __restrict__ x, float* __restrict__ moments) {
    __shared__ double warps[VECTOR_THREADS / 32];
    const float* group = x + (long long)blockIdx.x * size;
    double sum = 0.0;
    for (long long i = threadIdx.x; i < size; i += VECTOR_THREADS) sum += group[i];
    const float mean = (float)(sum_of_block(sum, warps) / (double)size);
    double squares = 0.0;
    for (long long i = threadIdx.x; i < size; i += VECTOR_THREADS) {
        const float off = group[i] - mean;
        squares += off * off;
    }
    const double variance = sum_of_block(squares, warps) / (double)size;
    if (threadIdx.x == 0) {
        moments[2 * blockIdx.x] = mean;
        moments[2 * blockIdx.x + 1] = (float)(1.0 / sqrt(variance + (double)tiny));
    }
}
EXPORT_KERNEL(group_moments)

// out = silu(slope[c] (x - mean) / deviation + offset[c]) for fields [samples, channels, points] in groups of channels. 8 bytes a number.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
group_apply(long long count, int channels, int groups, int points, const float* __restrict__ moments, const float* __restrict__ slope,
            const float* __restrict__ offset, const float* __restrict__ x, float* __restrict__ out) {
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * VECTOR_THREADS) {
        const long long plane = i / points, sample = plane / channels;
        const int c = (int)(plane % channels), group = c / (channels / groups);
        const float* m = moments + 2 * (sample * groups + group);
        const float along = slope[c] * m[1], u = along * x[i] + (offset[c] - along * m[0]);
        out[i] = u / (1.0f + expf(-u));
    }
}
EXPORT_KERNEL(group_apply)

// Means of 2 x 2 points; out [planes, h, w].
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
halve(long long count, int w, const float* __restrict__ x, float* __restrict__ out) {
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * VECTOR_THREADS) {
        // Rows of all planes are halved one by one: row y of out is rows 2 y and 2 y + 1 of x.
        const float* at = x + i / w * 4 * w + 2 * (i % w);
        out[i] = 0.25f * (at[0] + at[1] + at[2 * w] + at[2 * w + 1]);
    }
}
EXPORT_KERNEL(halve)

// out [sample, first + second, h, w]: channels of a [sample, first, h/2, w/2], every point four times, then those of b.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
double_and_join(long long count, int first, int second, int h, int w, const float* __restrict__ a, const float* __restrict__ b,
                float* __restrict__ out) {
    const int channels = first + second, n = h * w;
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * VECTOR_THREADS) {
        const long long plane = i / n, sample = plane / channels;
        const int c = (int)(plane % channels), p = (int)(i % n);
        if (c < first) out[i] = a[(sample * first + c) * (n / 4) + p / w / 2 * (w / 2) + p % w / 2];
        else out[i] = b[(sample * second + (c - first)) * (long long)n + p];
    }
}
EXPORT_KERNEL(double_and_join)

// Where the point i of images [image, h, w] lies among four images of half their size for each.
__device__ __forceinline__ long long deep(long long i, int h, int w) {
    const long long image = i / ((long long)h * w);
    const int p = (int)(i % ((long long)h * w)), y = p / w, x = p % w;
    return ((image * 4 + y % 2 * 2 + x % 2) * (h / 2) + y / 2) * (w / 2) + x / 2;
}

// out [image, 4, h/2, w/2] = scale (x - mean), 2 x 2 points of x [image, h, w] as four channels.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
images_apart(long long count, int h, int w, float mean, float scale, const float* __restrict__ x, float* __restrict__ out) {
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * VECTOR_THREADS)
        out[deep(i, h, w)] = scale * (x[i] - mean);
}
EXPORT_KERNEL(images_apart)

// out = mean + skip (x - mean) + scale f, with f [image, 4, h/2, w/2] put together.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
images_together(long long count, int h, int w, float mean, float skip, float scale, const float* __restrict__ x,
                const float* __restrict__ f, float* __restrict__ out) {
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * VECTOR_THREADS)
        out[i] = mean + skip * (x[i] - mean) + scale * f[deep(i, h, w)];
}
EXPORT_KERNEL(images_together)
