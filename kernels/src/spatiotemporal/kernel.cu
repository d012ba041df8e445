// What a spatiotemporal operator needs beside Fourier layers: pointwise networks whose wide part never leaves a block, a normalisation
// without parameters, and what its ends do with snapshots. No atomics: every sum has one order.
//
// Fields are [sample, channel, x and y, t]: `places` of x and y, times along each line. Snapshots are [sample, t, place].
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

constexpr int THREADS = 128, VECTOR_THREADS = 256, CHANNELS = 32, POINTS = 64, DEPTH = 8;

// A row of a tile in shared memory. Its end is 4 numbers longer, so that columns of a tile lie in different banks.
template <int N>
struct alignas(16) Row {
    float at[N + 4];
};

__device__ __forceinline__ float gelu(float& x) {
    const float cdf = 0.5f * erfcf(-0.70710678f * x), slope = cdf + x * 0.39894228f * expf(-0.5f * x * x);
    x *= cdf;
    return slope;
}

// A thread has 4 channels and 4 points of a tile of 32 x 64.
struct Tile {
    float at[4][4];
    __device__ __forceinline__ void add_products(const Row<CHANNELS>* a, const Row<POINTS>* b, int down, int across) {
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            const float4 c = *reinterpret_cast<const float4*>(&a[k].at[down]), p = *reinterpret_cast<const float4*>(&b[k].at[across]);
            const float cs[4] = {c.x, c.y, c.z, c.w}, ps[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
            for (int r = 0; r < 4; ++r)
#pragma unroll
                for (int s = 0; s < 4; ++s) at[r][s] += cs[r] * ps[s];
        }
    }
};

// A matrix with any strides, of which rows from `first` on are wanted.
struct Matrix {
    const float* w;
    int rows, columns, row, column;
    // as[k][r] = this(first + r, k0 + k), zero outside.
    __device__ __forceinline__ void fetch(Row<CHANNELS>* as, int first, int k0) const {
        for (int e = threadIdx.x; e < CHANNELS * DEPTH; e += THREADS) {
            // Neighbours read what lies side by side.
            const int k = column == 1 ? e % DEPTH : e / CHANNELS, r = column == 1 ? e / DEPTH : e % CHANNELS;
            const bool inside = first + r < rows && k0 + k < columns;
            as[k].at[r] = inside ? w[(long long)(first + r) * row + (long long)(k0 + k) * column] : 0.0f;
        }
    }
};

// 64 points of a sample's fields, of which those before `end` are there.
struct Fields {
    const float* x;
    int channels, points, first, end;
    __device__ __forceinline__ float operator()(int channel, int c) const {
        return channel < channels && first + c < end ? x[(long long)channel * points + first + c] : 0.0f;
    }
};

// sum += rows `first` and on of m times the fields, through shared memory; ends with a barrier.
__device__ __forceinline__ void multiply(Tile& sum, const Matrix& m, int first, const Fields& fields, Row<CHANNELS>* as, Row<POINTS>* bs,
                                         int down, int across) {
    for (int k0 = 0; k0 < m.columns; k0 += DEPTH) {
        m.fetch(as, first, k0);
        for (int e = threadIdx.x; e < POINTS * DEPTH; e += THREADS) bs[e / POINTS].at[e % POINTS] = fields(k0 + e / POINTS, e % POINTS);
        __syncthreads();
        sum.add_products(as, bs, down, across);
        __syncthreads();
    }
}

// The same for 32 columns of m from `k0` on, times a tile that is in shared memory.
__device__ __forceinline__ void multiply_tile(Tile& sum, const Matrix& m, int first, int k0, const Row<POINTS>* tile, Row<CHANNELS>* as,
                                              int down, int across) {
    for (int k = 0; k < CHANNELS; k += DEPTH) {
        m.fetch(as, first, k0 + k);
        __syncthreads();
        sum.add_products(as, tile + k, down, across);
        __syncthreads();
    }
}

// out = GELU(W2 GELU(W1 x + b1) + b2 + more), and its slopes; `more` is W v + b where there is w, else the newest of `times` of v at
// all `latent` ones. Parameters p: W1 [wide, h], b1, W2 [h, wide], b2. A block has 32 channels and 64 points; 32 channels of the wide part
// at a time are in shared memory. 4 h bytes in and 8 h out a point for 4 h wide flops, and as much again for v.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
spatiotemporal_feed(int h, int wide, int points, const float* __restrict__ x, const float* __restrict__ p, const float* __restrict__ v,
                    const float* __restrict__ w, const float* __restrict__ b, int times, int latent, float* __restrict__ slopes,
                    float* __restrict__ out) {
    __shared__ Row<CHANNELS> as[DEPTH];
    __shared__ Row<POINTS> bs[DEPTH], inside[CHANNELS];
    const int t = threadIdx.x, down = t / 16 * 4, across = t % 16 * 4;
    const int o_tiles = (h - 1) / CHANNELS + 1, p_tiles = (points - 1) / POINTS + 1;
    const int o0 = blockIdx.x % o_tiles * CHANNELS, p0 = blockIdx.x / o_tiles % p_tiles * POINTS;
    const long long sample = blockIdx.x / o_tiles / p_tiles;
    const float *const b1 = p + (long long)wide * h, *const w2 = b1 + wide, *const b2 = w2 + (long long)wide * h;
    const Matrix first{p, wide, h, h, 1}, second{w2, h, wide, wide, 1};
    const Fields fields{x + sample * h * points, h, points, p0, points};
    Tile sum = {};
    for (int j0 = 0; j0 < wide; j0 += CHANNELS) {
        Tile u = {};
        multiply(u, first, j0, fields, as, bs, down, across);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int j = j0 + down + r;
            const float bias = j < wide ? b1[j] : 0.0f;
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                float value = u.at[r][s] + bias;
                gelu(value);
                inside[down + r].at[across + s] = value;
            }
        }
        __syncthreads();
        multiply_tile(sum, second, o0, j0, inside, as, down, across);
    }
    if (w) multiply(sum, Matrix{w, h, h, h, 1}, o0, Fields{v + sample * h * points, h, points, p0, points}, as, bs, down, across);
#pragma unroll
    for (int r = 0; r < 4; ++r) {
        const int o = o0 + down + r;
        if (o >= h) break;
        const long long row = (sample * h + o) * points;
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            const int at = p0 + across + s;
            if (at >= points) break;
            float value = sum.at[r][s] + b2[o];
            if (w) value += b[o];
            else value += v[((sample * h + o) * (points / latent) + at / latent) * times + times - 1];
            slopes[row + at] = gelu(value);
            out[row + at] = value;
        }
    }
}
EXPORT_KERNEL(spatiotemporal_feed)

// dx = W1^T ((W2^T g) GELU'(W1 x + b1)), the wide part made again.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
spatiotemporal_feed_back(int h, int wide, int points, const float* __restrict__ x, const float* __restrict__ p,
                         const float* __restrict__ g, float* __restrict__ dx) {
    __shared__ Row<CHANNELS> as[DEPTH];
    __shared__ Row<POINTS> bs[DEPTH], inside[CHANNELS];
    const int t = threadIdx.x, down = t / 16 * 4, across = t % 16 * 4;
    const int i_tiles = (h - 1) / CHANNELS + 1, p_tiles = (points - 1) / POINTS + 1;
    const int i0 = blockIdx.x % i_tiles * CHANNELS, p0 = blockIdx.x / i_tiles % p_tiles * POINTS;
    const long long sample = blockIdx.x / i_tiles / p_tiles;
    const float *const b1 = p + (long long)wide * h, *const w2 = b1 + wide;
    const Matrix first{p, wide, h, h, 1}, first_turned{p, h, wide, 1, h}, second_turned{w2, wide, h, 1, wide};
    const Fields fields{x + sample * h * points, h, points, p0, points}, slopes{g + sample * h * points, h, points, p0, points};
    Tile sum = {};
    for (int j0 = 0; j0 < wide; j0 += CHANNELS) {
        Tile u = {}, d = {};
        multiply(u, first, j0, fields, as, bs, down, across);
        multiply(d, second_turned, j0, slopes, as, bs, down, across);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int j = j0 + down + r;
            const float bias = j < wide ? b1[j] : 0.0f;
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                float value = u.at[r][s] + bias;
                inside[down + r].at[across + s] = d.at[r][s] * gelu(value);
            }
        }
        __syncthreads();
        multiply_tile(sum, first_turned, i0, j0, inside, as, down, across);
    }
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int s = 0; s < 4; ++s)
            if (i0 + down + r < h && p0 + across + s < points)
                dx[(sample * h + i0 + down + r) * points + p0 + across + s] = sum.at[r][s];
}
EXPORT_KERNEL(spatiotemporal_feed_back)

// sum[r][s] += products of rows `down` + r of a with rows `across` + 16 s of b over a tile's points.
__device__ __forceinline__ void add_outer(float (&sum)[4][2], const Row<POINTS>* a, const Row<POINTS>* b, int down, int across) {
    for (int c = 0; c < POINTS; c += 4) {
        float4 x[4], y[2];
#pragma unroll
        for (int r = 0; r < 4; ++r) x[r] = *reinterpret_cast<const float4*>(&a[down + r].at[c]);
#pragma unroll
        for (int s = 0; s < 2; ++s) y[s] = *reinterpret_cast<const float4*>(&b[across + 16 * s].at[c]);
#pragma unroll
        for (int r = 0; r < 4; ++r)
#pragma unroll
            for (int s = 0; s < 2; ++s) sum[r][s] += x[r].x * y[s].x + x[r].y * y[s].y + x[r].z * y[s].z + x[r].w * y[s].w;
    }
}

__device__ __forceinline__ float sum_of(const Row<POINTS>& row) {
    float sum = 0.0f;
    for (int c = 0; c < POINTS; ++c) sum += row.at[c];
    return sum;
}

// partial[piece] = the gradient of the network's parameters, in their order, from `length` points of one sample: 32 channels of the wide
// part and 32 of the others in a block. The wide part and its derivatives are made again, 64 points at a time.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
spatiotemporal_feed_gradient(int h, int wide, int points, int length, const float* __restrict__ x, const float* __restrict__ p,
                             const float* __restrict__ g, float* __restrict__ partial) {
    __shared__ Row<CHANNELS> as[DEPTH];
    __shared__ Row<POINTS> bs[DEPTH], hidden[CHANNELS], turned[CHANNELS], xs[CHANNELS], gs[CHANNELS];
    const int t = threadIdx.x, down = t / 16 * 4, across = t % 16 * 4;
    const int j_tiles = (wide - 1) / CHANNELS + 1, i_tiles = (h - 1) / CHANNELS + 1, pieces = (points - 1) / length + 1;
    const int j0 = blockIdx.x % j_tiles * CHANNELS, i0 = blockIdx.x / j_tiles % i_tiles * CHANNELS;
    const int piece = blockIdx.x / j_tiles / i_tiles, start = piece % pieces * length, end = start + min(length, points - start);
    const long long sample = piece / pieces, n = 2 * (long long)wide * h + wide + h;
    const float *const b1 = p + (long long)wide * h, *const w2 = b1 + wide;
    const Matrix first{p, wide, h, h, 1}, second_turned{w2, wide, h, 1, wide};
    float to_first[4][2] = {}, to_second[4][2] = {}, bias_sum = 0.0f;
    for (int p0 = start; p0 < end; p0 += POINTS) {
        const Fields fields{x + sample * h * points, h, points, p0, end}, slopes{g + sample * h * points, h, points, p0, end};
        Tile u = {}, d = {};
        multiply(u, first, j0, fields, as, bs, down, across);
        multiply(d, second_turned, j0, slopes, as, bs, down, across);
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int j = j0 + down + r;
            const float bias = j < wide ? b1[j] : 0.0f;
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                float value = u.at[r][s] + bias;
                // Beyond the end g is zero, and so are the products with what stands here.
                turned[down + r].at[across + s] = d.at[r][s] * gelu(value);
                hidden[down + r].at[across + s] = value;
            }
        }
        for (int e = t; e < CHANNELS * POINTS; e += THREADS) {
            xs[e / POINTS].at[e % POINTS] = fields(i0 + e / POINTS, e % POINTS);
            gs[e / POINTS].at[e % POINTS] = slopes(i0 + e / POINTS, e % POINTS);
        }
        __syncthreads();
        add_outer(to_first, turned, xs, down, t % 16);
        add_outer(to_second, hidden, gs, down, t % 16);
        if (t < CHANNELS) bias_sum += sum_of(turned[t]);
        else if (t < 2 * CHANNELS) bias_sum += sum_of(gs[t - CHANNELS]);
        __syncthreads();
    }
    float* const to = partial + piece * n;
    float *const to_b1 = to + (long long)wide * h, *const to_w2 = to_b1 + wide, *const to_b2 = to_w2 + (long long)wide * h;
#pragma unroll
    for (int r = 0; r < 4; ++r)
#pragma unroll
        for (int s = 0; s < 2; ++s) {
            const int j = j0 + down + r, i = i0 + t % 16 + 16 * s;
            if (j >= wide || i >= h) continue;
            to[(long long)j * h + i] = to_first[r][s];
            to_w2[(long long)i * wide + j] = to_second[r][s];
        }
    if (t < CHANNELS && i0 == 0 && j0 + t < wide) to_b1[j0 + t] = bias_sum;
    if (t >= CHANNELS && t < 2 * CHANNELS && j0 == 0 && i0 + t - CHANNELS < h) to_b2[i0 + t - CHANNELS] = bias_sum;
}
EXPORT_KERNEL(spatiotemporal_feed_gradient)

// The pieces of a gradient, added in double: a block has 32 numbers, and each of its warps every eighth piece.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_sum(long long n, int pieces, const float* __restrict__ partial, float* __restrict__ gradient) {
    constexpr int WARPS = VECTOR_THREADS / 32;
    __shared__ double sums[WARPS][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long at = (long long)blockIdx.x * 32 + lane;
    double sum = 0.0;
    if (at < n)
        for (int piece = warp; piece < pieces; piece += WARPS) sum += partial[piece * n + at];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || at >= n) return;
    for (int other = 1; other < WARPS; ++other) sum += sums[other][lane];
    gradient[at] = (float)sum;
}
EXPORT_KERNEL(spatiotemporal_sum)

// The sum of `v` over a block of 256 threads, in thread 0; always in the same order.
__device__ __forceinline__ double block_sum(double v, double* warps) {
    for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int warp = 1; warp < VECTOR_THREADS / 32; ++warp) v += warps[warp];
    return v;
}

// Number `at` of [channel, place, t]: the encoding and the snapshots of a sample.
__device__ __forceinline__ float encoded(unsigned at, int places, int times, const float* encoding, const float* snapshots) {
    return encoding[at] + snapshots[(long long)(at % times) * places + at / times % places];
}

// partial[sample][piece] = sums of the encoded values and of their squares over `length` numbers of `size`.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_standard_sums(int size, int places, int times, int length, const float* __restrict__ encoding,
                             const float* __restrict__ snapshots, double* __restrict__ partial) {
    __shared__ double first[VECTOR_THREADS / 32], second[VECTOR_THREADS / 32];
    const int pieces = (size - 1) / length + 1, start = blockIdx.x % pieces * length, end = start + min(length, size - start);
    const float* here = snapshots + (long long)(blockIdx.x / pieces) * times * places;
    double sum = 0.0, square = 0.0;
    for (int at = start + threadIdx.x; at < end; at += VECTOR_THREADS) {
        const double v = encoded(at, places, times, encoding, here);
        sum += v;
        square += v * v;
    }
    sum = block_sum(sum, first);
    square = block_sum(square, second);
    if (threadIdx.x == 0) {
        partial[2 * blockIdx.x] = sum;
        partial[2 * blockIdx.x + 1] = square;
    }
}
EXPORT_KERNEL(spatiotemporal_standard_sums)

// moments[sample] = mean and 1/sqrt(variance + tiny), from the pieces in order.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_standard_moments(int samples, int pieces, int size, double tiny, const double* __restrict__ partial, float* __restrict__ moments) {
    const int b = blockIdx.x * VECTOR_THREADS + threadIdx.x;
    if (b >= samples) return;
    double sum = 0.0, square = 0.0;
    for (long long piece = (long long)b * pieces; piece < (long long)(b + 1) * pieces; ++piece) {
        sum += partial[2 * piece];
        square += partial[2 * piece + 1];
    }
    const double mean = sum / size, variance = square / size - mean * mean;
    moments[2 * b] = (float)mean;
    moments[2 * b + 1] = (float)(1.0 / sqrt((variance > 0.0 ? variance : 0.0) + tiny));
}
EXPORT_KERNEL(spatiotemporal_standard_moments)

// out = (encoded - mean) times the other moment, of each sample.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_standard(int samples, int size, int places, int times, const float* __restrict__ encoding,
                        const float* __restrict__ snapshots, const float* __restrict__ moments, float* __restrict__ out) {
    const unsigned n = (unsigned)samples * size, step = gridDim.x * VECTOR_THREADS;
    for (unsigned at = blockIdx.x * VECTOR_THREADS + threadIdx.x; at < n; at += step) {
        const unsigned b = at / size;
        const float v = encoded(at % size, places, times, encoding, snapshots + (long long)b * times * places);
        out[at] = (v - moments[2 * b]) * moments[2 * b + 1];
    }
}
EXPORT_KERNEL(spatiotemporal_standard)

// W and b of W(scale v + shift) + b, to folded [h h + h].
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_fold(int h, const float* __restrict__ scale, const float* __restrict__ shift, const float* __restrict__ weight,
                    const float* __restrict__ bias, float* __restrict__ folded) {
    for (int r = threadIdx.x; r < h; r += VECTOR_THREADS) {
        float sum = bias[r];
        for (int c = 0; c < h; ++c) {
            folded[(long long)r * h + c] = weight[(long long)r * h + c] * scale[c];
            sum += weight[(long long)r * h + c] * shift[c];
        }
        folded[(long long)h * h + r] = sum;
    }
}
EXPORT_KERNEL(spatiotemporal_fold)

// The gradient of scale, shift, weight and bias from that of the folded map.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_unfold(int h, const float* __restrict__ scale, const float* __restrict__ shift, const float* __restrict__ weight,
                      const float* __restrict__ folded, float* __restrict__ to_scale, float* __restrict__ to_shift,
                      float* __restrict__ to_weight, float* __restrict__ to_bias) {
    const float* const db = folded + (long long)h * h;
    for (int c = threadIdx.x; c < h; c += VECTOR_THREADS) {
        float first = 0.0f, second = 0.0f;
        for (int r = 0; r < h; ++r) {
            const long long at = (long long)r * h + c;
            first += weight[at] * folded[at];
            second += weight[at] * db[r];
            to_weight[at] = folded[at] * scale[c] + db[r] * shift[c];
        }
        to_scale[c] = first;
        to_shift[c] = second;
        to_bias[c] = db[c];
    }
}
EXPORT_KERNEL(spatiotemporal_unfold)

// The newest of `times` of each line of x, plus the sum of a line of g over `latent` times.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_gather(int lines, int times, int latent, const float* __restrict__ g, float* __restrict__ x) {
    const int line = blockIdx.x * VECTOR_THREADS + threadIdx.x;
    if (line >= lines) return;
    float sum = 0.0f;
    for (int t = 0; t < latent; ++t) sum += g[(long long)line * latent + t];
    x[(long long)line * times + times - 1] += sum;
}
EXPORT_KERNEL(spatiotemporal_gather)

// z [sample, place, latent + 1] = the newest snapshot, then `reduced` [sample, place, latent]; back: reduced from z.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_join(int samples, int places, int times, int latent, const float* __restrict__ snapshots, float* __restrict__ reduced,
                    float* __restrict__ z, int back) {
    const int line = blockIdx.x * VECTOR_THREADS + threadIdx.x;
    if (line >= samples * places) return;
    const long long b = line / places, place = line % places, from = (long long)line * latent, to = (long long)line * (latent + 1);
    if (!back) z[to] = snapshots[(b * times + times - 1) * places + place];
    for (int t = 0; t < latent; ++t) {
        if (back) reduced[from + t] = z[to + 1 + t];
        else z[to + 1 + t] = reduced[from + t];
    }
}
EXPORT_KERNEL(spatiotemporal_join)

// y [sample, outer, inner, re | im] += factor bias [outer, re | im, inner].
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_bias(int samples, int outer, int inner, float factor, const float* __restrict__ bias, float* __restrict__ y) {
    const int size = 2 * outer * inner, at = blockIdx.x * VECTOR_THREADS + threadIdx.x;
    if (at >= size) return;
    const int part = at % 2, i = at / 2 % inner, o = at / 2 / inner;
    const float value = factor * bias[(2LL * o + part) * inner + i];
    for (long long b = 0; b < samples; ++b) y[b * size + at] += value;
}
EXPORT_KERNEL(spatiotemporal_bias)

// The gradient of that bias: factor times the sum over samples, in order.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_bias_gradient(int samples, int outer, int inner, float factor, const float* __restrict__ g, float* __restrict__ gradient) {
    const int size = 2 * outer * inner, at = blockIdx.x * VECTOR_THREADS + threadIdx.x;
    if (at >= size) return;
    const int part = at % 2, i = at / 2 % inner, o = at / 2 / inner;
    float sum = 0.0f;
    for (long long b = 0; b < samples; ++b) sum += g[b * size + at];
    gradient[(2LL * o + part) * inner + i] = factor * sum;
}
EXPORT_KERNEL(spatiotemporal_bias_gradient)

// snapshots [sample, t, place] = changes [sample, place, t] + the newest of those that were given, t < output; back: changes alone.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
spatiotemporal_forecast(int samples, int places, int times, int output, const float* __restrict__ given, float* __restrict__ changes,
                        float* __restrict__ snapshots, int back) {
    const unsigned n = (unsigned)samples * places * output, step = gridDim.x * VECTOR_THREADS;
    for (unsigned at = blockIdx.x * VECTOR_THREADS + threadIdx.x; at < n; at += step) {
        const long long place = at % places, t = at / places % output, b = at / places / output;
        float* const change = changes + (b * places + place) * output + t;
        if (back) *change = snapshots[at];
        else snapshots[at] = *change + given[(b * times + times - 1) * places + place];
    }
}
EXPORT_KERNEL(spatiotemporal_forecast)
