// Steps of total variation in slabs of slices [slice, y, x], in single precision. Fields of differences are [slice, y, axis, x] with the axes
// z, y, x, or z alone. Behind the last voxel of an axis the difference is 0; where a slab ends a slice of the neighbour goes on, or none (null).
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

constexpr int THREADS = 256;

// Every voxel in turn: f(voxel, slice, y, x).
template <class F>
__device__ __forceinline__ void each_voxel(long long count, int ny, int nx, F f) {
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * THREADS) {
        const long long row = i / nx;
        f(i, row / ny, (int)(row % ny), (int)(i % nx));
    }
}

// w = P(grad v + w), room = w before - 2 w. P moves the differences of a voxel to the nearest ones of norm at most `radius`: of all
// together, or of each by itself. 8 (2 axes + 1) bytes a voxel.
template <int AXES>
__device__ __forceinline__ void dual_step(long long count, int ny, int nx, int together, float radius, const float* __restrict__ v,
                                          const float* __restrict__ behind, float* __restrict__ w, float* __restrict__ room) {
    const long long size = (long long)ny * nx;
    each_voxel(count, ny, nx, [&](long long i, long long slice, int y, int x) {
        const float here = v[i];
        float g[AXES], old[AXES];
        g[0] = i + size < count ? v[i + size] - here : behind ? behind[i + size - count] - here : 0.0f;
        if (AXES == 3) {
            g[AXES > 1 ? 1 : 0] = y + 1 < ny ? v[i + nx] - here : 0.0f;
            g[AXES > 2 ? 2 : 0] = x + 1 < nx ? v[i + 1] - here : 0.0f;
        }
        float* at = w + ((slice * ny + y) * AXES * nx + x);
        float* to = room + ((slice * ny + y) * AXES * nx + x);
        float square = 0.0f;
#pragma unroll
        for (int a = 0; a < AXES; ++a) {
            old[a] = at[(long long)a * nx];
            g[a] += old[a];
            square += g[a] * g[a];
        }
        const float scale = radius / fmaxf(sqrtf(square), radius);
#pragma unroll
        for (int a = 0; a < AXES; ++a) {
            const float moved = together ? g[a] * scale : fminf(fmaxf(g[a], -radius), radius);
            at[(long long)a * nx] = moved;
            to[(long long)a * nx] = old[a] - 2.0f * moved;
        }
    });
}

extern "C" __global__ void __launch_bounds__(THREADS)
variation_dual_xyz(long long count, int ny, int nx, int together, float radius, const float* __restrict__ v,
                   const float* __restrict__ behind, float* __restrict__ w, float* __restrict__ room) {
    dual_step<3>(count, ny, nx, together, radius, v, behind, w, room);
}
EXPORT_KERNEL(variation_dual_xyz)

extern "C" __global__ void __launch_bounds__(THREADS)
variation_dual_z(long long count, int ny, int nx, int together, float radius, const float* __restrict__ v,
                 const float* __restrict__ behind, float* __restrict__ w, float* __restrict__ room) {
    dual_step<1>(count, ny, nx, together, radius, v, behind, w, room);
}
EXPORT_KERNEL(variation_dual_z)

// out = mask (a transpose of grad p + b out); `before`: the differences along z of the slice before the first one. 4 (axes + 2) bytes a voxel.
extern "C" __global__ void __launch_bounds__(THREADS)
variation_transposed(long long count, int ny, int nx, int axes, float a, float b, const float* __restrict__ p,
                     const float* __restrict__ before, const float* __restrict__ mask, float* __restrict__ out) {
    const long long row = (long long)axes * nx, size = (long long)ny * nx;
    each_voxel(count, ny, nx, [&](long long i, long long slice, int y, int x) {
        const float* here = p + (slice * ny + y) * row + x;
        float t = (slice > 0 ? here[-ny * row] : before ? before[i] : 0.0f) - here[0];
        if (axes == 3) {
            t += (y > 0 ? here[nx - row] : 0.0f) - here[nx];
            t += (x > 0 ? here[2 * nx - 1] : 0.0f) - here[2 * nx];
        }
        out[i] = (mask ? mask[i % size] : 1.0f) * (a * t + b * out[i]);
    });
}
EXPORT_KERNEL(variation_transposed)

// out = mask (a transpose of grad (grad v) + b out + c v). 12 bytes a voxel, but for neighbours in the caches.
extern "C" __global__ void __launch_bounds__(THREADS)
variation_normal(long long count, int ny, int nx, int axes, float a, float b, float c, const float* __restrict__ v,
                 const float* __restrict__ before, const float* __restrict__ behind, const float* __restrict__ mask,
                 float* __restrict__ out) {
    const long long size = (long long)ny * nx;
    each_voxel(count, ny, nx, [&](long long i, long long slice, int y, int x) {
        const float here = v[i];
        float t = 0.0f;
        if (slice > 0) t += here - v[i - size];
        else if (before) t += here - before[i];
        if (i + size < count) t += here - v[i + size];
        else if (behind) t += here - behind[i + size - count];
        if (axes == 3) {
            if (y > 0) t += here - v[i - nx];
            if (y + 1 < ny) t += here - v[i + nx];
            if (x > 0) t += here - v[i - 1];
            if (x + 1 < nx) t += here - v[i + 1];
        }
        out[i] = (mask ? mask[i % size] : 1.0f) * (a * t + b * out[i] + c * here);
    });
}
EXPORT_KERNEL(variation_normal)

// bound = min(x + bound, 0), r += rho (bound before - 2 bound): the dual of x >= 0. 20 bytes a voxel.
extern "C" __global__ void __launch_bounds__(THREADS)
variation_bound(long long count, float rho, const float* __restrict__ x, float* __restrict__ bound, float* __restrict__ r) {
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * THREADS) {
        const float old = bound[i], moved = fminf(x[i] + old, 0.0f);
        bound[i] = moved;
        r[i] += rho * (old - 2.0f * moved);
    }
}
EXPORT_KERNEL(variation_bound)

// out[i] = from[start + i / width pitch + i % width]: rows of an array that lie apart.
extern "C" __global__ void __launch_bounds__(THREADS)
variation_rows(long long count, int width, long long pitch, long long start, const float* __restrict__ from, float* __restrict__ out) {
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * THREADS)
        out[i] = from[start + i / width * pitch + i % width];
}
EXPORT_KERNEL(variation_rows)
