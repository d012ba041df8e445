// The ramp filter: two real rows as one complex row in shared memory. A decimation-in-frequency transform leaves the
// frequencies bit-reversed, the response comes in that order, and decimation in time takes them back.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

// One block filters rows 2k and 2k+1 of a slice in place. 8 bytes of shared memory per point, 2 log2(n) passes.
extern "C" __global__ void __launch_bounds__(512)
ramp_rows(float* __restrict__ sinogram, const float* __restrict__ response, const float* __restrict__ roots, int n,
          int n_angles, int n_cols, int edge) {
    DYNAMIC_SHARED(float2, row);
    const int pairs = (n_angles + 1) / 2;
    const int slice = blockIdx.x / pairs, pair = blockIdx.x % pairs;
    float* first = sinogram + ((size_t)slice * n_angles + 2 * pair) * n_cols;
    float* second = 2 * pair + 1 < n_angles ? first + n_cols : nullptr;
    const int middle = n_cols + (n - n_cols) / 2;
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        // Beyond the end lies the right edge, and, the row being periodic, further on the left one.
        const int j = i < n_cols ? i : i < middle ? n_cols - 1 : 0;
        const bool inside = i < n_cols || edge;
        row[i] = make_float2(inside ? first[j] : 0.0f, inside && second ? second[j] : 0.0f);
    }
    __syncthreads();
    for (int half = n / 2; half > 0; half /= 2) {
        for (int b = threadIdx.x; b < n / 2; b += blockDim.x) {
            const int k = b & (half - 1), p = 2 * b - k;
            const float c = roots[2 * k * (n / 2 / half)], s = roots[2 * k * (n / 2 / half) + 1];
            const float2 u = row[p], v = row[p + half];
            const float2 d = make_float2(u.x - v.x, u.y - v.y);
            row[p] = make_float2(u.x + v.x, u.y + v.y);
            row[p + half] = make_float2(d.x * c - d.y * s, d.x * s + d.y * c);
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < n; i += blockDim.x) row[i] = make_float2(row[i].x * response[i], row[i].y * response[i]);
    __syncthreads();
    for (int half = 1; half < n; half *= 2) {
        for (int b = threadIdx.x; b < n / 2; b += blockDim.x) {
            const int k = b & (half - 1), p = 2 * b - k;
            const float c = roots[2 * k * (n / 2 / half)], s = -roots[2 * k * (n / 2 / half) + 1];
            const float2 u = row[p], w = row[p + half];
            const float2 v = make_float2(w.x * c - w.y * s, w.x * s + w.y * c);
            row[p] = make_float2(u.x + v.x, u.y + v.y);
            row[p + half] = make_float2(u.x - v.x, u.y - v.y);
        }
        __syncthreads();
    }
    for (int j = threadIdx.x; j < n_cols; j += blockDim.x) {
        first[j] = row[j].x;
        if (second) second[j] = row[j].y;
    }
}
EXPORT_KERNEL(ramp_rows)
