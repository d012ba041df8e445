// Products of a matrix with one mode of a tensor in double, and the vector operations between them.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

// A block computes 64 x 64 entries, 16 steps of the sum at a time; its 4 warps have 32 x 32 each.
constexpr int TILE = 64, DEPTH = 16, PRODUCT_THREADS = 128, BLOCKS_PER_MULTIPROCESSOR = 3;
// Rows of shared memory are 4 doubles longer than needed: then the 4 x 4 entries that half a warp reads lie in 16 banks.
constexpr int PITCH_K = DEPTH + 4, PITCH_N = TILE + 4;
constexpr int VECTOR_THREADS = 256;

// d += a b by a warp on its matrix unit, a 8 x 4, b 4 x 8. Lane l holds a[l / 4][l % 4], b[l % 4][l / 4] and
// d[l / 4][2 (l % 4)] with its right neighbour (PTX manual, mma.m8n8k4 with .f64).
__device__ __forceinline__ void multiply_8x8x4(double (&d)[2], double a, double b) {
#ifdef CUDA_CPU_SHIM
    shim::multiply_8x8x4(d, a, b);
#else
    asm volatile("mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%0, %1}, {%2}, {%3}, {%0, %1};"
                 : "+d"(d[0]), "+d"(d[1])
                 : "d"(a), "d"(b));
#endif
}

// i = q * by + r. Division in 32 bits takes a fraction of that in 64.
__device__ __forceinline__ void divide(long long i, long long by, long long& q, long long& r) {
    if ((i | by) >> 32 == 0) {
        q = (unsigned)i / (unsigned)by;
        r = (unsigned)i - (unsigned)q * (unsigned)by;
    } else {
        q = i / by;
        r = i - q * by;
    }
}

// y[i, j] = sum over k of p[i, k] q[k, j] for i < m, j < n, k < depth; p is row-major.
// LAST false: p is the matrix, column j = o inner + l of q is a fibre of the tensor x[o, k, l], and y is [o, i, l].
// LAST true (inner is 1): p is the tensor [m, depth], q the transpose of the matrix [n, depth], and y is [m, n].
// Blocks that share entries of the tensor are neighbours, so that the second one finds them in the L2 cache: from device
// memory 8 (depth + rows) bytes for 2 rows depth flops per fibre, from the caches 1 byte for 8 flops.
template <bool LAST>
__device__ __forceinline__ void product(long long m, long long n, long long depth, long long inner, const double* __restrict__ p,
                                        const double* __restrict__ q, double* __restrict__ y, int accumulate) {
    __shared__ double ps[2][TILE * PITCH_K];
    __shared__ double qs[2][LAST ? TILE * PITCH_K : DEPTH * PITCH_N];
    const int t = threadIdx.x, lane = t % 32, warp = t / 32;
    long long slow, fast;
    divide(blockIdx.x, ((LAST ? n : m) + TILE - 1) / TILE, slow, fast);
    const long long m0 = (LAST ? slow : fast) * TILE, n0 = (LAST ? fast : slow) * TILE;

    // This thread brings column `fetch_k` of 8 rows of p, and the same of q or 8 entries of one fibre.
    const int fetch_k = t % DEPTH, fetch_row = t / DEPTH, fetch_column = t % TILE, fetch_depth = t / TILE;
    const double* p_from = p + (m0 + fetch_row) * depth + fetch_k;
    const double* q_from;
    if (LAST) {
        q_from = q + (n0 + fetch_row) * depth + fetch_k;
    } else {
        long long o, l;
        divide(n0 + fetch_column, inner, o, l);
        q_from = q + (o * depth + fetch_depth) * inner + l;
    }
    double p_next[8], q_next[8];
    auto fetch = [&](long long k0) {
#pragma unroll
        for (int r = 0; r < 8; ++r) {
            const bool k_is_in = k0 + fetch_k < depth;
            p_next[r] = k_is_in && m0 + fetch_row + 8 * r < m ? p_from[8 * r * depth + k0] : 0.0;
            if (LAST) q_next[r] = k_is_in && n0 + fetch_row + 8 * r < n ? q_from[8 * r * depth + k0] : 0.0;
            else q_next[r] = n0 + fetch_column < n && k0 + fetch_depth + 2 * r < depth ? q_from[(k0 + 2 * r) * inner] : 0.0;
        }
    };
    auto store = [&](int half) {
#pragma unroll
        for (int r = 0; r < 8; ++r) {
            ps[half][(fetch_row + 8 * r) * PITCH_K + fetch_k] = p_next[r];
            if (LAST) qs[half][(fetch_row + 8 * r) * PITCH_K + fetch_k] = q_next[r];
            else qs[half][(fetch_depth + 2 * r) * PITCH_N + fetch_column] = q_next[r];
        }
    };

    const int row = warp / 2 * 32 + lane / 4, column = warp % 2 * 32;
    double sum[4][4][2] = {};
    fetch(0);
    store(0);
    __syncthreads();
    int half = 0;
    for (long long k0 = 0; k0 < depth; k0 += DEPTH) {
        const bool more = k0 + DEPTH < depth;
        if (more) fetch(k0 + DEPTH);
#pragma unroll
        for (int k = lane % 4; k < DEPTH; k += 4) {
            double a[4], b[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                a[i] = ps[half][(row + 8 * i) * PITCH_K + k];
                b[i] = LAST ? qs[half][(column + lane / 4 + 8 * i) * PITCH_K + k] : qs[half][k * PITCH_N + column + lane / 4 + 8 * i];
            }
#pragma unroll
            for (int i = 0; i < 4; ++i)
#pragma unroll
                for (int j = 0; j < 4; ++j) multiply_8x8x4(sum[i][j], a[i], b[j]);
        }
        if (more) store(1 - half);
        __syncthreads();
        half = 1 - half;
    }

#pragma unroll
    for (int j = 0; j < 8; ++j) {
        const long long c = n0 + column + j / 2 * 8 + lane % 4 * 2 + j % 2;
        if (c >= n) continue;
        long long o = 0, l = c;
        if (!LAST) divide(c, inner, o, l);
        const long long pitch = LAST ? n : inner;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const long long r = m0 + row + 8 * i;
            if (r >= m) continue;
            double* to = y + (o * m + r) * pitch + l;
            *to = accumulate ? *to + sum[i][j / 2][j % 2] : sum[i][j / 2][j % 2];
        }
    }
}

// a [rows, cols] times the middle mode of x [outer, cols, inner]. One block for each 64 rows and 64 fibres.
extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, BLOCKS_PER_MULTIPROCESSOR)
kronecker_mode(long long rows, long long fibres, long long cols, long long inner, const double* __restrict__ a,
               const double* __restrict__ x, double* __restrict__ y, int accumulate) {
    product<false>(rows, fibres, cols, inner, a, x, y, accumulate);
}
EXPORT_KERNEL(kronecker_mode)

// The same for inner = 1, where fibres lie in rows.
extern "C" __global__ void __launch_bounds__(PRODUCT_THREADS, BLOCKS_PER_MULTIPROCESSOR)
kronecker_last_mode(long long rows, long long fibres, long long cols, const double* __restrict__ a, const double* __restrict__ x,
                    double* __restrict__ y, int accumulate) {
    product<true>(fibres, rows, cols, 1, x, a, y, accumulate);
}
EXPORT_KERNEL(kronecker_last_mode)

// x[i, j, ...] /= shift + lambda_1[i] + lambda_2[j] + ...; `lambdas` one after another. 16 bytes per element.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
kronecker_divide(long long n, int n_axes, const long long* __restrict__ lengths, const double* __restrict__ lambdas, double shift,
                 double* __restrict__ x) {
    long long end = 0;
    for (int axis = 0; axis < n_axes; ++axis) end += lengths[axis];
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * VECTOR_THREADS) {
        long long rest = i, at, from = end - lengths[n_axes - 1];
        divide(i, lengths[n_axes - 1], rest, at);
        const double last = lambdas[from + at];
        double sum = shift;
        for (int axis = n_axes - 2; axis >= 0; --axis) {
            from -= lengths[axis];
            divide(rest, lengths[axis], rest, at);
            sum += lambdas[from + at];
        }
        x[i] /= sum + last;
    }
}
EXPORT_KERNEL(kronecker_divide)

// The sum of `v` over a block of 256 threads, in thread 0; always in the same order.
__device__ __forceinline__ double block_sum(double v, double* warps) {
    for (int d = 16; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = v;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int w = 1; w < VECTOR_THREADS / 32; ++w) v += warps[w];
    return v;
}

// partial[j][block] = sum of x_j y over 4096 elements, j < k; y is read once. 8 (k + 1) bytes and 2 k flops per element.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
kronecker_dots(long long n, int k, const double* const* __restrict__ xs, const double* __restrict__ y, double* __restrict__ partial) {
    constexpr int PER_THREAD = 16, GROUP = 32;
    __shared__ double warps[GROUP][VECTOR_THREADS / 32];
    const long long first = (long long)blockIdx.x * (PER_THREAD * VECTOR_THREADS) + threadIdx.x;
    double v[PER_THREAD];
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r) v[r] = first + r * VECTOR_THREADS < n ? y[first + r * VECTOR_THREADS] : 0.0;
    for (int j0 = 0; j0 < k; j0 += GROUP) {
        const int count = min(GROUP, k - j0);
        for (int j = 0; j < count; ++j) {
            const double* x = xs[j0 + j] + first;
            double sum = 0.0;
#pragma unroll
            for (int r = 0; r < PER_THREAD; ++r)
                if (first + r * VECTOR_THREADS < n) sum += v[r] * x[r * VECTOR_THREADS];
            for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
            if (threadIdx.x % 32 == 0) warps[j][threadIdx.x / 32] = sum;
        }
        __syncthreads();
        if ((int)threadIdx.x < count) {
            double sum = warps[threadIdx.x][0];
            for (int w = 1; w < VECTOR_THREADS / 32; ++w) sum += warps[threadIdx.x][w];
            partial[(j0 + (long long)threadIdx.x) * gridDim.x + blockIdx.x] = sum;
        }
        __syncthreads();
    }
}
EXPORT_KERNEL(kronecker_dots)

// sums[j] = sum of row j of partial [j][n_blocks]: one block for each row.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
kronecker_sums(long long n_blocks, const double* __restrict__ partial, double* __restrict__ sums) {
    __shared__ double warps[VECTOR_THREADS / 32];
    double sum = 0.0;
    for (long long b = threadIdx.x; b < n_blocks; b += VECTOR_THREADS) sum += partial[blockIdx.x * n_blocks + b];
    sum = block_sum(sum, warps);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
EXPORT_KERNEL(kronecker_sums)

// y += sum of c_j x_j, j < k, 1024 elements a block; y is read once. 8 (k + 2) bytes and 2 k flops per element.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
kronecker_add(long long n, int k, const double* const* __restrict__ xs, const double* __restrict__ c, double* __restrict__ y) {
    constexpr int PER_THREAD = 4;
    const long long first = (long long)blockIdx.x * (PER_THREAD * VECTOR_THREADS) + threadIdx.x;
    double v[PER_THREAD];
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r) v[r] = first + r * VECTOR_THREADS < n ? y[first + r * VECTOR_THREADS] : 0.0;
    for (int j = 0; j < k; ++j) {
        const double* x = xs[j] + first;
        const double factor = c[j];
#pragma unroll
        for (int r = 0; r < PER_THREAD; ++r)
            if (first + r * VECTOR_THREADS < n) v[r] += factor * x[r * VECTOR_THREADS];
    }
#pragma unroll
    for (int r = 0; r < PER_THREAD; ++r)
        if (first + r * VECTOR_THREADS < n) y[first + r * VECTOR_THREADS] = v[r];
}
EXPORT_KERNEL(kronecker_add)

// The order of enum Map in cuda.rs.
enum KroneckerMap { SCALE_BY, MULTIPLY_BY, ADD_PRODUCT };

extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
kronecker_map(int op, long long n, double factor, const double* __restrict__ a, const double* __restrict__ b, double* __restrict__ y) {
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * VECTOR_THREADS) {
        switch (op) {
            case SCALE_BY: y[i] *= factor; break;
            case MULTIPLY_BY: y[i] *= a[i]; break;
            case ADD_PRODUCT: y[i] += a[i] * b[i]; break;
        }
    }
}
EXPORT_KERNEL(kronecker_map)

// Between whole [lines, length] and part [lines, width], which is columns `start` and on: to the part, or to the whole.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS)
kronecker_pack(long long lines, long long length, long long start, long long width, int to_whole, double* __restrict__ whole,
               double* __restrict__ part) {
    const long long n = lines * width;
    for (long long i = (long long)blockIdx.x * VECTOR_THREADS + threadIdx.x; i < n; i += (long long)gridDim.x * VECTOR_THREADS) {
        long long line, column;
        divide(i, width, line, column);
        double* in_whole = whole + line * length + start + column;
        if (to_whole) *in_whole = part[i];
        else part[i] = *in_whole;
    }
}
EXPORT_KERNEL(kronecker_pack)
