// Fourier layers in single precision: truncated transforms as products of matrices, products of kept modes with matrices,
// pointwise maps with what follows them, and the step of training around it. No atomics: every sum has one order.
//
// Arrays: fields [sample, channel, line, point], coefficients [sample, channel, mode] as pairs re, im.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

struct alignas(8) Complex {
    float re, im;
};

// A row of a tile in shared memory. Its end is 4 numbers longer, so that columns of a tile lie in different banks.
template <class T, int N>
struct alignas(16) Row {
    T at[N + 4];
};

constexpr int THREADS = 128, DEPTH = 8, VECTOR_THREADS = 256;

__device__ __forceinline__ void add_product(float& sum, float a, float b) { sum += a * b; }
__device__ __forceinline__ void add_product(Complex& sum, Complex a, Complex b) {
    sum.re += a.re * b.re - a.im * b.im;
    sum.im += a.re * b.im + a.im * b.re;
}
__device__ __forceinline__ Complex conjugate(Complex z) { return {z.re, -z.im}; }

// write(i, j, sum over k < depth of a(i, k) b(k, j)) for the tile of M x N entries that begins at (i0, j0); the functions are called
// with i < rows, j < columns and k < depth alone. A thread has R x S entries, side by side. *_ALONG_K: neighbours in memory differ in k.
template <class T, int M, int N, int R, int S, bool A_ALONG_K, bool B_ALONG_K, class A, class B, class Write>
__device__ __forceinline__ void product(int rows, int columns, int depth, int i0, int j0, A a, B b, Write write) {
    static_assert((M / R) * (N / S) == THREADS, "the block's threads cover the tile");
    __shared__ Row<T, M> as[DEPTH];
    __shared__ Row<T, N> bs[DEPTH];
    constexpr int A_EACH = M * DEPTH / THREADS, B_EACH = N * DEPTH / THREADS;
    const int t = threadIdx.x, down = t / (N / S) * R, across = t % (N / S) * S;
    T a_next[A_EACH], b_next[B_EACH], sum[R][S] = {};
    auto fetch = [&](int k0) {
#pragma unroll
        for (int q = 0; q < A_EACH; ++q) {
            const int e = t + q * THREADS, k = k0 + (A_ALONG_K ? e % DEPTH : e / M), i = A_ALONG_K ? e / DEPTH : e % M;
            a_next[q] = k < depth && i0 + i < rows ? a(i0 + i, k) : T{};
        }
#pragma unroll
        for (int q = 0; q < B_EACH; ++q) {
            const int e = t + q * THREADS, k = k0 + (B_ALONG_K ? e % DEPTH : e / N), j = B_ALONG_K ? e / DEPTH : e % N;
            b_next[q] = k < depth && j0 + j < columns ? b(k, j0 + j) : T{};
        }
    };
    fetch(0);
    for (int k0 = 0; k0 < depth; k0 += DEPTH) {
#pragma unroll
        for (int q = 0; q < A_EACH; ++q) {
            const int e = t + q * THREADS;
            if (A_ALONG_K) as[e % DEPTH].at[e / DEPTH] = a_next[q];
            else as[e / M].at[e % M] = a_next[q];
        }
#pragma unroll
        for (int q = 0; q < B_EACH; ++q) {
            const int e = t + q * THREADS;
            if (B_ALONG_K) bs[e % DEPTH].at[e / DEPTH] = b_next[q];
            else bs[e / N].at[e % N] = b_next[q];
        }
        __syncthreads();
        if (k0 + DEPTH < depth) fetch(k0 + DEPTH);
#pragma unroll
        for (int k = 0; k < DEPTH; ++k)
#pragma unroll
            for (int r = 0; r < R; ++r)
#pragma unroll
                for (int s = 0; s < S; ++s) add_product(sum[r][s], as[k].at[down + r], bs[k].at[across + s]);
        __syncthreads();
    }
#pragma unroll
    for (int r = 0; r < R; ++r)
#pragma unroll
        for (int s = 0; s < S; ++s)
            if (i0 + down + r < rows && j0 + across + s < columns) write(i0 + down + r, j0 + across + s, sum[r][s]);
}

// Lengths are below 2^31, so that divisions take 32 bits; addresses take 64.
__device__ __forceinline__ int tiles(int n, int tile) { return (n - 1) / tile + 1; }

// z[row, j] = sum of x[row, i] l[i, j], i < n, j < width: the last axis, from real numbers to pairs. 4 (n + width) bytes for
// 2 n width flops a row.
extern "C" __global__ void __launch_bounds__(THREADS)
fourier_last_axis(int rows, int n, int width, const float* __restrict__ x, const float* __restrict__ l, float* __restrict__ z) {
    const int across = tiles(width, 32), tile = blockIdx.x, i0 = tile / across * 64, j0 = tile % across * 32;
    product<float, 64, 32, 4, 4, true, false>(
        rows, width, n, i0, j0, [&](int i, int k) { return x[(long long)i * n + k]; },
        [&](int k, int j) { return l[(long long)k * width + j]; }, [&](int i, int j, float sum) { z[(long long)i * width + j] = sum; });
}
EXPORT_KERNEL(fourier_last_axis)

// Pairs that begin at any float: parameters are not aligned to pairs.
template <class Float>
struct Pairs {
    Float* at;
    __device__ Complex operator[](long long i) const { return {at[2 * i], at[2 * i + 1]}; }
    __device__ void put(long long i, Complex z) const {
        at[2 * i] = z.re;
        at[2 * i + 1] = z.im;
    }
};

__device__ __forceinline__ void put(Complex* __restrict__ to, long long i, Complex z) { to[i] = z; }
__device__ __forceinline__ void put(Pairs<float> to, long long i, Complex z) { to.put(i, z); }

// y[o, i, l] = sum over k of m(i, k) x[o, k, l]: another axis, between pairs; l < inner. The matrix is e [kept, points] on the way to
// the modes (i of `to` kept, k of `from` points), its adjoint on the way back. 8 (to + from) bytes for 8 to from flops a column.
template <bool BACK, class E, class X, class Y>
__device__ __forceinline__ void axis(int outer, int to, int from, int inner, E e, X x, Y y) {
    // Blocks with the same columns are neighbours: the second one finds them in the L2 cache.
    const int down = tiles(to, 32), tile = blockIdx.x, i0 = tile % down * 32, j0 = tile / down * 32;
    product<Complex, 32, 32, 4, 2, !BACK, false>(
        to, outer * inner, from, i0, j0,
        [&](int i, int k) { return BACK ? conjugate(e[(long long)k * to + i]) : e[(long long)i * from + k]; },
        [&](int k, int j) { return x[((long long)(j / inner) * from + k) * inner + j % inner]; },
        [&](int i, int j, Complex sum) { put(y, ((long long)(j / inner) * to + i) * inner + j % inner, sum); });
}

// Five blocks to a multiprocessor: left to itself, the assembler stops at 64 registers and spills.
extern "C" __global__ void __launch_bounds__(THREADS, 5)
fourier_axis(int outer, int to, int from, int inner, const Complex* __restrict__ e, const Complex* __restrict__ x,
             Complex* __restrict__ y) {
    axis<false>(outer, to, from, inner, e, x, y);
}
EXPORT_KERNEL(fourier_axis)

extern "C" __global__ void __launch_bounds__(THREADS, 5)
fourier_axis_back(int outer, int to, int from, int inner, const Complex* __restrict__ e, const Complex* __restrict__ x,
                  Complex* __restrict__ y) {
    axis<true>(outer, to, from, inner, e, x, y);
}
EXPORT_KERNEL(fourier_axis_back)

// The same with a factor of a Tucker product, u [to, from], and its adjoint: u [from, to].
extern "C" __global__ void __launch_bounds__(THREADS, 5)
fourier_factor(int outer, int to, int from, int inner, const float* __restrict__ u, const float* __restrict__ x, float* __restrict__ y) {
    axis<false>(outer, to, from, inner, Pairs<const float>{u}, Pairs<const float>{x}, Pairs<float>{y});
}
EXPORT_KERNEL(fourier_factor)

extern "C" __global__ void __launch_bounds__(THREADS, 5)
fourier_factor_back(int outer, int to, int from, int inner, const float* __restrict__ u, const float* __restrict__ x,
                    float* __restrict__ y) {
    axis<true>(outer, to, from, inner, Pairs<const float>{u}, Pairs<const float>{x}, Pairs<float>{y});
}
EXPORT_KERNEL(fourier_factor_back)

// partial[piece][i, k] = sum over a piece's columns (o, l) of g[o, i, l] conj x[o, k, l], i < to, k < from: the derivative by a factor.
extern "C" __global__ void __launch_bounds__(THREADS)
fourier_factor_gradient(int outer, int to, int from, int inner, int length, const float* __restrict__ g, const float* __restrict__ x,
                        float* __restrict__ partial) {
    const int across = tiles(from, 32), all = across * tiles(to, 32), tile = blockIdx.x % all, piece = blockIdx.x / all;
    const int first = piece * length;
    const Pairs<const float> gs{g}, xs{x};
    const Pairs<float> to_here{partial + (long long)piece * 2 * to * from};
    auto at = [&](int i, int n, int column) { return ((long long)(column / inner) * n + i) * inner + column % inner; };
    product<Complex, 32, 32, 4, 2, true, true>(
        to, from, min(length, outer * inner - first), tile / across * 32, tile % across * 32,
        [&](int i, int c) { return gs[at(i, to, first + c)]; }, [&](int c, int k) { return conjugate(xs[at(k, from, first + c)]); },
        [&](int i, int k, Complex sum) { to_here.put((long long)i * from + k, sum); });
}
EXPORT_KERNEL(fourier_factor_gradient)

// A tensor t [pair of channels, mode] of pairs re, im as matrices w [mode, re | im, pair of channels], and the way back: 16 bytes a pair.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_matrices_of_tensor(int pairs, int modes, const Complex* __restrict__ t, float* __restrict__ w) {
    const unsigned n = (unsigned)pairs * modes, step = gridDim.x * VECTOR_THREADS;
    for (unsigned at = blockIdx.x * VECTOR_THREADS + threadIdx.x; at < n; at += step) {
        const unsigned mode = at / pairs, pair = at % pairs;
        const Complex z = t[(long long)pair * modes + mode];
        w[2LL * mode * pairs + pair] = z.re;
        w[(2LL * mode + 1) * pairs + pair] = z.im;
    }
}
EXPORT_KERNEL(fourier_matrices_of_tensor)

extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_tensor_of_matrices(int pairs, int modes, const float* __restrict__ w, Complex* __restrict__ t) {
    const unsigned n = (unsigned)pairs * modes, step = gridDim.x * VECTOR_THREADS;
    for (unsigned at = blockIdx.x * VECTOR_THREADS + threadIdx.x; at < n; at += step) {
        const unsigned mode = at / pairs, pair = at % pairs;
        t[(long long)pair * modes + mode] = {w[2LL * mode * pairs + pair], w[(2LL * mode + 1) * pairs + pair]};
    }
}
EXPORT_KERNEL(fourier_tensor_of_matrices)

// x Phi(x) in place of x, and its derivative; Phi by erfc, which keeps its digits for negative x.
__device__ __forceinline__ float gelu(float& x) {
    const float cdf = 0.5f * erfcf(-0.70710678f * x), slope = cdf + x * 0.39894228f * expf(-0.5f * x * x);
    x *= cdf;
    return slope;
}

// Tile of fourier_mix: channels, points, and the most lines that the points are of.
constexpr int MIX_CHANNELS = 32, MIX_POINTS = 64, MIX_LINES = 8;

// out[b, o, line, p] = sum over k of z[b, o, line, k] l[p, k], k < width   (the last axis of a synthesis)
//                    + sum over i of w(o, i) v[b, i, line, p], i < from     (the pointwise map; w(o, i) = w[o w_to + i w_from])
//                    + bias[o] + gate[o] beside[b, o, line, p]                (gate 1 where there is none),
// then `activations` times GELU, the product of whose slopes is written to `slopes`; or times `factor`. Pointers may be null where
// their part is not wanted. One read of v and one write for everything: with 4 (from + to) bytes a point come 2 (width + from) to flops.
// A block has 32 channels and 64 points: of one line, or of up to 8 whole lines where they are short.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
fourier_mix(int to, int from, int lines, int n, int width, const float* __restrict__ z, const float* __restrict__ l,
            const float* __restrict__ v, const float* __restrict__ w, int w_to, int w_from, const float* __restrict__ bias,
            const float* __restrict__ beside, const float* __restrict__ gate, int activations, const float* __restrict__ factor, float* __restrict__ slopes, float* __restrict__ out) {
    __shared__ Row<float, MIX_CHANNELS> as[MIX_LINES][DEPTH];
    __shared__ Row<float, MIX_POINTS> bs[DEPTH];
    const int t = threadIdx.x, down = t / 16 * 4, across = t % 16 * 4;
    // Each line takes a multiple of 4 columns, so that the 4 of a thread are of one line.
    const int pitch = n < MIX_POINTS ? (n + 3) / 4 * 4 : MIX_POINTS, here = min(MIX_LINES, MIX_POINTS / pitch);
    const int o_tiles = (to + MIX_CHANNELS - 1) / MIX_CHANNELS, p_tiles = (n + pitch - 1) / pitch, groups = (lines + here - 1) / here;
    int rest = blockIdx.x;
    const int o0 = rest % o_tiles * MIX_CHANNELS;
    rest /= o_tiles;
    const int p0 = rest % p_tiles * pitch;
    rest /= p_tiles;
    const int line0 = rest % groups * here;
    const long long b = rest / groups;
    const int my_line = min(across / pitch, here - 1);

    float sum[4][4] = {};
    auto multiply = [&](const Row<float, MIX_CHANNELS>* a) {
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            const float4 c = *reinterpret_cast<const float4*>(&a[k].at[down]), p = *reinterpret_cast<const float4*>(&bs[k].at[across]);
            const float cs[4] = {c.x, c.y, c.z, c.w}, ps[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
            for (int r = 0; r < 4; ++r)
#pragma unroll
                for (int s = 0; s < 4; ++s) sum[r][s] += cs[r] * ps[s];
        }
    };
    for (int k0 = 0; k0 < width; k0 += DEPTH) {
        for (int e = t; e < here * MIX_CHANNELS * DEPTH; e += THREADS) {
            const int k = e % DEPTH, o = e / DEPTH % MIX_CHANNELS, line = e / (DEPTH * MIX_CHANNELS);
            const bool inside = k0 + k < width && o0 + o < to && line0 + line < lines;
            as[line][k].at[o] = inside ? z[((b * to + o0 + o) * lines + line0 + line) * width + k0 + k] : 0.0f;
        }
        for (int e = t; e < MIX_POINTS * DEPTH; e += THREADS) {
            const int k = e % DEPTH, c = e / DEPTH, p = p0 + c % pitch;
            bs[k].at[c] = k0 + k < width && p < n ? l[(long long)p * width + k0 + k] : 0.0f;
        }
        __syncthreads();
        multiply(as[my_line]);
        __syncthreads();
    }
    for (int i0 = 0; i0 < from; i0 += DEPTH) {
        for (int e = t; e < MIX_CHANNELS * DEPTH; e += THREADS) {
            // Along the axis of w that lies in memory.
            const bool along = w_from == 1;
            const int k = along ? e % DEPTH : e / MIX_CHANNELS, o = along ? e / DEPTH : e % MIX_CHANNELS;
            as[0][k].at[o] = i0 + k < from && o0 + o < to ? w[(long long)(o0 + o) * w_to + (long long)(i0 + k) * w_from] : 0.0f;
        }
        for (int e = t; e < MIX_POINTS * DEPTH; e += THREADS) {
            const int c = e % MIX_POINTS, k = e / MIX_POINTS, line = c / pitch, p = p0 + c % pitch;
            const bool inside = i0 + k < from && line < here && line0 + line < lines && p < n;
            bs[k].at[c] = inside ? v[((b * from + i0 + k) * lines + line0 + line) * n + p] : 0.0f;
        }
        __syncthreads();
        multiply(as[0]);
        __syncthreads();
    }
    if (across / pitch >= here || line0 + my_line >= lines) return;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
        const int o = o0 + down + r;
        if (o >= to) break;
        const long long row = ((b * to + o) * lines + line0 + my_line) * n;
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            const int p = p0 + across % pitch + s;
            if (p >= n) break;
            float x = sum[r][s] + (bias ? bias[o] : 0.0f);
            if (beside) x += (gate ? gate[o] : 1.0f) * beside[row + p];
            if (activations > 0) {
                float slope = gelu(x);
                for (int again = 1; again < activations; ++again) slope *= gelu(x);
                slopes[row + p] = slope;
            }
            out[row + p] = factor ? x * factor[row + p] : x;
        }
    }
}
EXPORT_KERNEL(fourier_mix)

// partial[piece][o, i] = sum over the points of a piece of g[b, o, p] x[b, i, p], and of g alone for i = from: both gradients of a
// pointwise map. A piece is `length` points of one sample. 4 (to + from) bytes a point from the L2 cache for each tile of 32 x 32.
extern "C" __global__ void __launch_bounds__(THREADS)
fourier_mix_gradient(int to, int from, int points, int length, const float* __restrict__ g, const float* __restrict__ x,
                     float* __restrict__ partial) {
    const int across = tiles(from + 1, 32), all = across * tiles(to, 32), block = blockIdx.x, tile = block % all, piece = block / all;
    const int pieces = tiles(points, length), first = piece % pieces * length;
    const long long b = piece / pieces;
    float* const to_here = partial + (long long)piece * to * (from + 1);
    product<float, 32, 32, 4, 2, true, true>(
        to, from + 1, min(length, points - first), tile / across * 32, tile % across * 32,
        [&](int o, int p) { return g[(b * to + o) * points + first + p]; },
        [&](int p, int i) { return i == from ? 1.0f : x[(b * from + i) * points + first + p]; },
        [&](int o, int i, float sum) { to_here[(long long)o * (from + 1) + i] = sum; });
}
EXPORT_KERNEL(fourier_mix_gradient)

// The pieces of a gradient [to, columns], added in double: a block has 32 numbers, and each of its warps every eighth piece. Columns before
// `from` are the weight, one behind them is the bias, which may be null.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_mix_sum(int to, int columns, int from, int pieces, const float* __restrict__ partial, float* __restrict__ weight,
                float* __restrict__ bias) {
    constexpr int WARPS = VECTOR_THREADS / 32;
    __shared__ double sums[WARPS][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const long long n = (long long)to * columns, at = (long long)blockIdx.x * 32 + lane;
    double sum = 0.0;
    if (at < n)
        for (int piece = warp; piece < pieces; piece += WARPS) sum += partial[piece * n + at];
    sums[warp][lane] = sum;
    __syncthreads();
    if (warp > 0 || at >= n) return;
    for (int other = 1; other < WARPS; ++other) sum += sums[other][lane];
    const int o = (int)at / columns, i = (int)at % columns;
    if (i < from) weight[(long long)o * from + i] = (float)sum;
    else if (bias) bias[o] = (float)sum;
}
EXPORT_KERNEL(fourier_mix_sum)

// The matrix of a mode among w [mode, re | im, from, to].
struct Matrix {
    const float* w;
    long long size;
    int to;
    __device__ Complex operator()(int i, int o) const {
        const long long at = (long long)i * to + o;
        return {w[at], w[size + at]};
    }
};

// y[b, o, mode] = sum over i of x[b, i, mode] w[mode](i, o); BACK: y[b, i, mode] = sum over o of x[b, o, mode] conj w[mode](i, o).
// 8 from to bytes of matrix a mode for 8 samples from to flops: bound by the matrices until samples are some tens. Coefficients of
// neighbouring modes share sectors, and their blocks run side by side.
template <bool BACK>
__device__ __forceinline__ void mode_product(int samples, int from, int to, int modes, const Complex* __restrict__ x,
                                             const float* __restrict__ w, Complex* __restrict__ y) {
    const long long mode = blockIdx.x;
    const int come = BACK ? to : from, go = BACK ? from : to;
    const Matrix matrix{w + mode * 2 * from * to, (long long)from * to, to};
    product<Complex, 16, 32, 2, 2, true, BACK>(
        samples, go, come, blockIdx.z * 16, blockIdx.y * 32, [&](int b, int k) { return x[((long long)b * come + k) * modes + mode]; },
        [&](int k, int j) { return BACK ? conjugate(matrix(j, k)) : matrix(k, j); },
        [&](int b, int j, Complex sum) { y[((long long)b * go + j) * modes + mode] = sum; });
}

extern "C" __global__ void __launch_bounds__(THREADS)
fourier_mode_product(int samples, int from, int to, int modes, const Complex* __restrict__ x, const float* __restrict__ w,
                     Complex* __restrict__ y) {
    mode_product<false>(samples, from, to, modes, x, w, y);
}
EXPORT_KERNEL(fourier_mode_product)

extern "C" __global__ void __launch_bounds__(THREADS)
fourier_mode_product_back(int samples, int from, int to, int modes, const Complex* __restrict__ x, const float* __restrict__ w,
                          Complex* __restrict__ y) {
    mode_product<true>(samples, from, to, modes, x, w, y);
}
EXPORT_KERNEL(fourier_mode_product_back)

// dw[mode](i, o) = sum over b of conj x[b, i, mode] g[b, o, mode].
extern "C" __global__ void __launch_bounds__(THREADS)
fourier_mode_gradient(int samples, int from, int to, int modes, const Complex* __restrict__ x, const Complex* __restrict__ g,
                      float* __restrict__ dw) {
    const long long mode = blockIdx.x, size = (long long)from * to;
    float* const re = dw + mode * 2 * size;
    product<Complex, 32, 32, 4, 2, false, false>(
        from, to, samples, blockIdx.z * 32, blockIdx.y * 32, [&](int i, int b) { return conjugate(x[((long long)b * from + i) * modes + mode]); },
        [&](int b, int o) { return g[((long long)b * to + o) * modes + mode]; },
        [&](int i, int o, Complex sum) {
            const long long at = (long long)i * to + o;
            re[at] = sum.re;
            re[size + at] = sum.im;
        });
}
EXPORT_KERNEL(fourier_mode_gradient)

// y [plane, b0, b1, b2] is x [plane, a0, a1, a2] where both have a point, else 0: zeros behind each axis, or without them.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_resize(int planes, int a0, int a1, int a2, int b0, int b1, int b2, const float* __restrict__ x, float* __restrict__ y) {
    const unsigned n = (unsigned)planes * b0 * b1 * b2, step = gridDim.x * VECTOR_THREADS;
    for (unsigned at = blockIdx.x * VECTOR_THREADS + threadIdx.x; at < n; at += step) {
        const int i2 = at % b2, i1 = at / b2 % b1, i0 = at / b2 / b1 % b0;
        const long long plane = at / b2 / b1 / b0;
        y[at] = i0 < a0 && i1 < a1 && i2 < a2 ? x[((plane * a0 + i0) * a1 + i1) * a2 + i2] : 0.0f;
    }
}
EXPORT_KERNEL(fourier_resize)

// The sum of `v` over a block of 256 threads, in thread 0; always in the same order.
__device__ __forceinline__ double block_sum(double v, double* warps) {
    for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int warp = 1; warp < VECTOR_THREADS / 32; ++warp) v += warps[warp];
    return v;
}

// out[c] = sum over samples and points of v[b, c, p] g[b, c, p]: the derivative by the gate of a channel, which is a block's. 8 bytes a number.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_gate_gradient(int samples, int channels, int points, const float* __restrict__ v, const float* __restrict__ g,
                      float* __restrict__ out) {
    __shared__ double warps[VECTOR_THREADS / 32];
    const int c = blockIdx.x;
    double sum = 0.0;
    for (int b = 0; b < samples; ++b) {
        const long long first = ((long long)b * channels + c) * points;
        for (int p = threadIdx.x; p < points; p += VECTOR_THREADS) sum += (double)v[first + p] * g[first + p];
    }
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) out[c] = (float)sum;
}
EXPORT_KERNEL(fourier_gate_gradient)

// Number `at` of a sample's output in the units of the data, minus the target. Means and deviations are of a channel (`each` points),
// or of a channel and point (each = 1).
__device__ __forceinline__ float difference(float output, float target, float mean, float deviation) { return output * deviation + mean - target; }

// partial[sample][piece] = sums of squares of the error and of the target over `length` numbers; one block each. 8 bytes a number.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_loss_sums(int size, int each, int length, const float* __restrict__ output, const float* __restrict__ target,
                  const float* __restrict__ mean, const float* __restrict__ deviation, double* __restrict__ partial) {
    __shared__ double first[VECTOR_THREADS / 32], second[VECTOR_THREADS / 32];
    const int pieces = tiles(size, length), block = blockIdx.x, start = block % pieces * length, end = start + min(length, size - start);
    const long long first_of_sample = (long long)(block / pieces) * size;
    double error = 0.0, norm = 0.0;
    for (int at = start + threadIdx.x; at < end; at += VECTOR_THREADS) {
        const double t = target[first_of_sample + at];
        const double e = difference(output[first_of_sample + at], (float)t, mean[at / each], deviation[at / each]);
        error += e * e;
        norm += t * t;
    }
    error = block_sum(error, first);
    norm = block_sum(norm, second);
    if (threadIdx.x == 0) {
        partial[2 * blockIdx.x] = error;
        partial[2 * blockIdx.x + 1] = norm;
    }
}
EXPORT_KERNEL(fourier_loss_sums)

// norms[sample] = those of the error and of the target, from their pieces in order.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_loss_norms(int samples, int pieces, const double* __restrict__ partial, double* __restrict__ norms) {
    const int b = blockIdx.x * VECTOR_THREADS + threadIdx.x;
    if (b >= samples) return;
    double error = 0.0, norm = 0.0;
    for (long long piece = (long long)b * pieces; piece < (long long)(b + 1) * pieces; ++piece) {
        error += partial[2 * piece];
        norm += partial[2 * piece + 1];
    }
    norms[2 * b] = sqrt(error);
    // The smallest normal number in place of 0.
    norms[2 * b + 1] = fmax(sqrt(norm), 2.2250738585072014e-308);
}
EXPORT_KERNEL(fourier_loss_norms)

// slope = scale d(|error|/|target|)/d(output). 12 bytes a number.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_loss_slopes(int samples, int size, int each, float scale, const float* __restrict__ output, const float* __restrict__ target,
                    const float* __restrict__ mean, const float* __restrict__ deviation, const double* __restrict__ norms,
                    float* __restrict__ slope) {
    const unsigned n = (unsigned)samples * size, step = gridDim.x * VECTOR_THREADS;
    for (unsigned at = blockIdx.x * VECTOR_THREADS + threadIdx.x; at < n; at += step) {
        const unsigned b = at / size, i = at % size / each;
        const double error = norms[2 * b], norm = norms[2 * b + 1];
        const float e = difference(output[at], target[at], mean[i], deviation[i]);
        slope[at] = error == 0.0 ? 0.0f : (float)(e / (error * norm)) * deviation[i] * scale;
    }
}
EXPORT_KERNEL(fourier_loss_slopes)

// One step of AdamW (Loshchilov and Hutter 2019); `size` is the rate without the first moment's bias, `root` that of the second. 28
// bytes a parameter.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
fourier_adamw(long long n, float keep, float size, float root, float beta1, float beta2, float epsilon, const float* __restrict__ gradient,
              float* __restrict__ first, float* __restrict__ second, float* __restrict__ p) {
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * VECTOR_THREADS) {
        const float g = gradient[i], m = beta1 * first[i] + (1.0f - beta1) * g, v = beta2 * second[i] + (1.0f - beta2) * g * g;
        first[i] = m;
        second[i] = v;
        p[i] = keep * p[i] - size * m / (sqrtf(v) * root + epsilon);
    }
}
EXPORT_KERNEL(fourier_adamw)
