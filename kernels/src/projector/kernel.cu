// The parallel-beam projector pair, both ways as gathers: no atomics, one fixed order of summation.
// A thread keeps SLICES slices of one output in registers, so a weight is computed once for all of them.
// Positions are fixed point, 32 bits behind the point: exact on every GPU without double precision.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

#define SLICES 8

// Where the outputs look on the samples, as made by View::words of cuda.rs. Positions in samples times 2^32.
struct View {
    long long origin, per_a, per_b, reach;
    float amplitude, slope;
    int row, unused;
};

// Distance below the first sample under the hat, and that sample: ceil(position - reach).
__device__ static __forceinline__ float first_sample(long long position, long long reach, int& first) {
    const long long from = position - reach + 0xffffffffLL;
    first = (int)(from >> 32);
    const long long delta = ((long long)first << 32) - position;
    return (float)(int)(delta >> 8) * (1.0f / 16777216.0f);
}

// sums[z] += hat-weighted samples around `position`; stride floats from sample to sample, slice_stride from z to z + 1.
__device__ static __forceinline__ void gather(float (&sums)[SLICES], const View& view, long long position, int taps,
                                              float scale, const float* __restrict__ samples, int count,
                                              size_t slice_stride, int last_slice) {
    int first;
    const float delta = first_sample(position, view.reach, first);
    for (int k = 0; k < taps; ++k) {
        const int i = first + k;
        if (i < 0 || i >= count) continue;
        const float weight = scale * fmaxf(0.0f, view.amplitude - view.slope * fabsf(delta + (float)k));
        const float* p = samples + i;
#pragma unroll
        for (int z = 0; z < SLICES; ++z) sums[z] = fmaf(weight, __ldg(p + slice_stride * min(z, last_slice)), sums[z]);
    }
}

// Thread (x, y): 8 slices of one voxel. Per view, tap and slice: 4 bytes through L1 and 2 flops.
extern "C" __global__ void __launch_bounds__(256, 4)
project_back(const float* __restrict__ sinogram, const View* __restrict__ views, const float* __restrict__ weights,
             int n_views, int taps, int n_angles, int n_cols, int nx, int ny, int n_slices, float* __restrict__ volume) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= nx || y >= ny) return;
    for (int z0 = blockIdx.z * SLICES; z0 < n_slices; z0 += gridDim.z * SLICES) {
        const size_t slice = (size_t)n_angles * n_cols;
        const float* first = sinogram + z0 * slice;
        const int last = min(SLICES, n_slices - z0) - 1;
        float sums[SLICES] = {0.0f};
        for (int v = 0; v < n_views; ++v) {
            const View view = views[v];
            const long long position = view.origin + view.per_a * x + view.per_b * y;
            gather(sums, view, position, taps, weights[v], first + (size_t)view.row * n_cols, n_cols, slice, last);
        }
#pragma unroll
        for (int z = 0; z < SLICES; ++z)
            if (z <= last) volume[((size_t)(z0 + z) * ny + y) * nx + x] = sums[z];
    }
}
EXPORT_KERNEL(project_back)

// Thread (column, view): 8 slices of one ray, which crosses all planes of the volume [n_slices, n_planes, n_across].
extern "C" __global__ void __launch_bounds__(256, 4)
project_forward(const float* __restrict__ volume, const View* __restrict__ views, int n_views, int taps, int n_angles,
                int n_cols, int n_across, int n_planes, int n_slices, float* __restrict__ sinogram) {
    const int column = blockIdx.x * blockDim.x + threadIdx.x, v = blockIdx.y * blockDim.y + threadIdx.y;
    if (column >= n_cols || v >= n_views) return;
    const View view = views[v];
    for (int z0 = blockIdx.z * SLICES; z0 < n_slices; z0 += gridDim.z * SLICES) {
        const size_t slice = (size_t)n_planes * n_across;
        const float* first = volume + z0 * slice;
        const int last = min(SLICES, n_slices - z0) - 1;
        float sums[SLICES] = {0.0f};
        for (int plane = 0; plane < n_planes; ++plane) {
            const long long position = view.origin + view.per_a * column + view.per_b * plane;
            gather(sums, view, position, taps, 1.0f, first + (size_t)plane * n_across, n_across, slice, last);
        }
#pragma unroll
        for (int z = 0; z < SLICES; ++z)
            if (z <= last) sinogram[((size_t)(z0 + z) * n_angles + view.row) * n_cols + column] = sums[z];
    }
}
EXPORT_KERNEL(project_forward)

// to[z][x][y] = from[z][y][x], so that rays along x find their samples side by side too. Block 32 x 8, tile 32 x 32.
extern "C" __global__ void transpose_slices(const float* __restrict__ from, int nx, int ny, int n_slices, float* __restrict__ to) {
    __shared__ float tile[32][33];
    const int x0 = blockIdx.x * 32, y0 = blockIdx.y * 32;
    for (int z = blockIdx.z; z < n_slices; z += gridDim.z) {
        const size_t slice = (size_t)z * nx * ny;
        for (int r = threadIdx.y; r < 32; r += blockDim.y) {
            const int x = x0 + threadIdx.x, y = y0 + r;
            if (x < nx && y < ny) tile[r][threadIdx.x] = from[slice + (size_t)y * nx + x];
        }
        __syncthreads();
        for (int r = threadIdx.y; r < 32; r += blockDim.y) {
            const int x = x0 + r, y = y0 + threadIdx.x;
            if (x < nx && y < ny) to[slice + (size_t)x * ny + y] = tile[threadIdx.x][r];
        }
        __syncthreads();
    }
}
EXPORT_KERNEL(transpose_slices)
