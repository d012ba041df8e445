// Exact draws from projection determinantal point processes in double: whole samples, one for each block, and the vector
// operations of samples that fill a device.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

constexpr int THREADS = 128, WARPS = THREADS / 32;

// The sum over the block, on every thread. `warps` holds WARPS doubles.
__device__ __forceinline__ double block_sum(double value, double* warps) {
    for (int d = 16; d > 0; d /= 2) value += __shfl_down_sync(0xffffffffu, value, d);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    double sum = 0.0;
    for (int w = 0; w < WARPS; ++w) sum += warps[w];
    __syncthreads();
    return sum;
}

// c = Q phi for `count` rows of Q, a warp for each: 2 flops and 8 bytes (from the L2 cache) per entry.
__device__ __forceinline__ void coordinates(int count, int m, const double* q, const double* phi, double* c) {
    for (int k = threadIdx.x / 32; k < count; k += WARPS) {
        double sum = 0.0;
        for (int j = threadIdx.x % 32; j < m; j += 32) sum += q[(long long)k * m + j] * phi[j];
        for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
        if (threadIdx.x % 32 == 0) c[k] = sum;
    }
    __syncthreads();
}

// A block goes through `chunk` candidates of one sample, the first of which has number `first`, until it has m points.
// Function j is the product of the entries places[starts[j]] .. of the candidate's table.
// tables [sample, chunk, entries], uniforms [sample, chunk], bases [sample, m, m], counts [sample], accepted [sample, m].
extern "C" __global__ void __launch_bounds__(THREADS)
determinantal_sample(int m, int entries, const int* __restrict__ starts, const int* __restrict__ places, int chunk, long long first,
                     const double* __restrict__ tables, const double* __restrict__ uniforms, double* bases, int* counts,
                     unsigned long long* accepted) {
    DYNAMIC_SHARED(double, shared);
    double *phi = shared, *c = phi + m, *warps = c + m;
    const long long sample = blockIdx.x;
    double* q = bases + sample * m * m;
    int count = counts[sample];
    for (int b = 0; b < chunk && count < m; ++b) {
        const double* table = tables + (sample * chunk + b) * entries;
        double own = 0.0;
        for (int j = threadIdx.x; j < m; j += THREADS) {
            double value = 1.0;
            for (int f = starts[j]; f < starts[j + 1]; ++f) value *= table[places[f]];
            phi[j] = value;
            own += value * value;
        }
        const double length = block_sum(own, warps);
        coordinates(count, m, q, phi, c);
        own = 0.0;
        for (int k = threadIdx.x; k < count; k += THREADS) own += c[k] * c[k];
        const double inside = block_sum(own, warps);
        if (uniforms[sample * chunk + b] * length >= length - inside) continue;
        // Two Gram-Schmidt projections.
        for (int pass = 0; pass < 2; ++pass) {
            if (pass == 1) coordinates(count, m, q, phi, c);
            for (int j = threadIdx.x; j < m; j += THREADS) {
                double value = phi[j];
                for (int k = 0; k < count; ++k) value -= c[k] * q[(long long)k * m + j];
                phi[j] = value;
            }
            __syncthreads();
        }
        own = 0.0;
        for (int j = threadIdx.x; j < m; j += THREADS) own += phi[j] * phi[j];
        const double scale = 1.0 / sqrt(block_sum(own, warps));
        for (int j = threadIdx.x; j < m; j += THREADS) q[(long long)count * m + j] = phi[j] * scale;
        if (threadIdx.x == 0) accepted[sample * m + count] = (unsigned long long)(first + b);
        ++count;
        __syncthreads();
    }
    if (threadIdx.x == 0) counts[sample] = count;
}
EXPORT_KERNEL(determinantal_sample)

// out[i, j] = phi_j / |phi| of candidate i, a block for each: tables [n, entries], out [m, n].
extern "C" __global__ void __launch_bounds__(THREADS)
determinantal_features(int n, int m, int entries, const int* __restrict__ starts, const int* __restrict__ places,
                       const double* __restrict__ tables, double* __restrict__ out) {
    __shared__ double warps[WARPS];
    for (int i = blockIdx.x; i < n; i += gridDim.x) {
        const double* table = tables + (long long)i * entries;
        double own = 0.0;
        for (int j = threadIdx.x; j < m; j += THREADS) {
            double value = 1.0;
            for (int f = starts[j]; f < starts[j + 1]; ++f) value *= table[places[f]];
            own += value * value;
        }
        const double scale = 1.0 / sqrt(block_sum(own, warps));
        for (int j = threadIdx.x; j < m; j += THREADS) {
            double value = scale;
            for (int f = starts[j]; f < starts[j + 1]; ++f) value *= table[places[f]];
            out[(long long)j * n + i] = value;
        }
    }
}
EXPORT_KERNEL(determinantal_features)

// out[i] = sum over k of x[k, i]^2, a thread for each i. 8 bytes and 2 flops per entry.
extern "C" __global__ void __launch_bounds__(THREADS)
determinantal_lengths(int rows, int n, const double* __restrict__ x, double* __restrict__ out) {
    for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
        double sum = 0.0;
        for (int k = 0; k < rows; ++k) sum += x[(long long)k * n + i] * x[(long long)k * n + i];
        out[i] = sum;
    }
}
EXPORT_KERNEL(determinantal_lengths)

// out[j, k] = x[k, chosen[j]]: the columns that passed, side by side. x [rows, n], out [count, rows].
extern "C" __global__ void __launch_bounds__(THREADS)
determinantal_gather(int rows, int n, int count, const int* __restrict__ chosen, const double* __restrict__ x, double* __restrict__ out) {
    const long long all = (long long)rows * count;
    for (long long at = (long long)blockIdx.x * THREADS + threadIdx.x; at < all; at += (long long)gridDim.x * THREADS) {
        const long long k = at / count, j = at % count;
        out[j * rows + k] = x[k * n + chosen[j]];
    }
}
EXPORT_KERNEL(determinantal_gather)
