// Slice-wise vector operations, arrays [n_slices, len]. All stream: the switch over operations costs nothing.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

// The order of enum Op in cuda.rs.
enum Op { AXPY, XPBY, SCALE, FILL, COPY, CLAMP_MIN, MULTIPLY, SUBTRACT, RATIO };

// y = op(a, b, y) with coefficient c[slice], or `scalar`. b_slice_len 0 serves the first slice of b to all.
extern "C" __global__ void slice_map(int op, long long len, long long b_slice_len, int n_slices, const float* c, float scalar,
                                     const float* a, const float* b, float* y) {
    for (int s = blockIdx.y; s < n_slices; s += gridDim.y) {
        const float k = c ? c[s] : scalar;
        for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < len; i += (long long)gridDim.x * blockDim.x) {
            const long long at = s * len + i;
            switch (op) {
                case AXPY: y[at] = y[at] + k * a[at]; break;
                case XPBY: y[at] = a[at] + k * y[at]; break;
                case SCALE: y[at] = k * y[at]; break;
                case FILL: y[at] = k; break;
                case COPY: y[at] = a[at]; break;
                case CLAMP_MIN: y[at] = fmaxf(y[at], k); break;
                case MULTIPLY: y[at] = y[at] * b[s * b_slice_len + i]; break;
                case SUBTRACT: y[at] = a[at] - b[at]; break;
                case RATIO: y[at] = b[at] < k ? 0.0f : a[at] / b[at]; break;
            }
        }
    }
}
EXPORT_KERNEL(slice_map)

// partial[slice][block] = sum of x y over 8192 elements, in double. 256 threads. 8 bytes and 2 flops per element.
extern "C" __global__ void __launch_bounds__(256)
slice_dot(long long len, int n_slices, const float* __restrict__ x, const float* __restrict__ y, double* __restrict__ partial) {
    __shared__ double warps[8];
    for (int s = blockIdx.y; s < n_slices; s += gridDim.y) {
        const long long end = min(len, (long long)(blockIdx.x + 1) * 8192);
        double sum = 0.0;
        for (long long i = (long long)blockIdx.x * 8192 + threadIdx.x; i < end; i += 256)
            sum += (double)x[s * len + i] * (double)y[s * len + i];
        for (int d = 16; d > 0; d /= 2) sum += __shfl_down_sync(0xffffffffu, sum, d);
        if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
        __syncthreads();
        if (threadIdx.x == 0) {
            for (int w = 1; w < 8; ++w) sum += warps[w];
            partial[(long long)s * gridDim.x + blockIdx.x] = sum;
        }
        __syncthreads();
    }
}
EXPORT_KERNEL(slice_dot)
