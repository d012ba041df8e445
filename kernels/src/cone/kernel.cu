// The cone-beam projector pair, both ways as gathers: no atomics, one fixed order of summation.
// Positions in double precision, which the voxels of a thread share where they can; samples and sums in single.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

#define CONE_SLICES 8

// One view, as made by words() of cuda.rs.
struct ConeView {
    double m[3][4];   // (column w, row w, w) of (ix, iy, iz, 1)
    double ray[6];    // |ray to pixel (i, j)|^2 = r0 + 2 r1 i + r2 i^2 + j (2 (r3 + r4 i) + r5 j)
    double scale;     // c over the distance from the source to the plane of the detector
    double side[2];   // of a voxel at w = 1 in pixels, along columns and rows; 0 where hats are as wide as pixels
    double source[3]; // in indices of voxels
    double pixel[3];  // pixel (0, 0), the same way; and the steps
    double along_u[3], along_v[3];
    double voxel;     // side of a voxel
    long long axis;   // the axis that the rays cross planes of: 0, 1, 2 for x, y, z
};

// A ray of Joseph's method, in indices of voxels: its main axis and the two others, places on these at plane 0 and from plane to plane.
struct ConeRay {
    int axes[3];
    double start[2], slope[2];
    double source, length; // plane of the source, and planes to the detector, with its sign
    double step;           // length between planes
};

__device__ static __forceinline__ ConeRay cone_ray(const ConeView& view, double row, double col) {
    double d[3];
    for (int k = 0; k < 3; ++k)
        d[k] = view.pixel[k] + col * view.along_u[k] + row * view.along_v[k] - view.source[k];
    int main = 0;
    for (int k = 1; k < 3; ++k)
        if (fabs(d[k]) > fabs(d[main])) main = k;
    ConeRay ray;
    for (int k = 0; k < 3; ++k) ray.axes[k] = (main + k) % 3;
    ray.source = view.source[main];
    ray.length = d[main];
    for (int k = 0; k < 2; ++k) {
        ray.slope[k] = d[ray.axes[k + 1]] / d[main];
        ray.start[k] = view.source[ray.axes[k + 1]] - ray.source * ray.slope[k];
    }
    ray.step = view.voxel * sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]) / fabs(d[main]);
    return ray;
}

// Whether a plane lies between the source and the detector.
__device__ static __forceinline__ bool cone_between(const ConeRay& ray, double plane) {
    const double t = (plane - ray.source) / ray.length;
    return t >= 0.0 && t < 1.0;
}

// Part of a voxel at a distance along one axis: both directions of Joseph's pair take their weights from here.
__device__ static __forceinline__ double cone_part(double distance) { return fmax(0.0, 1.0 - fabs(distance)); }

__device__ static __forceinline__ double cone_row(const double (&row)[4], double x, double y, double z) {
    return row[0] * x + row[1] * y + row[2] * z + row[3];
}

// Half-width of the hat of a voxel at depth 1 / inverse.
__device__ static __forceinline__ double cone_reach(double side, double inverse) { return fmax(1.0, side * inverse); }

// out = in times c / cos of each pixel, [rows, views, cols]. Per value: 8 bytes, about 10 flops.
extern "C" __global__ void __launch_bounds__(256, 4)
cone_scale(const float* in, const ConeView* __restrict__ views, int first_row, int n_rows, int n_views, int n_cols,
           float* out) {
    const int col = blockIdx.x * blockDim.x + threadIdx.x, line = blockIdx.y * blockDim.y + threadIdx.y;
    if (col >= n_cols) return;
    for (int l = line; l < n_rows * n_views; l += gridDim.y * blockDim.y) {
        const ConeView& view = views[l % n_views];
        const double i = first_row + l / n_views, j = col;
        const double ray2 = view.ray[0] + i * (2.0 * view.ray[1] + view.ray[2] * i) +
                            j * (2.0 * (view.ray[3] + view.ray[4] * i) + view.ray[5] * j);
        const size_t at = (size_t)l * n_cols + col;
        out[at] = in[at] * (float)(view.scale * sqrt(ray2));
    }
}
EXPORT_KERNEL(cone_scale)

// Thread (x, y): 8 slices of a column of voxels, in registers over all views. Per view, tap and voxel: 4 bytes through L1,
// 2 flops; per view and voxel one division and about 20 flops in double precision.
extern "C" __global__ void __launch_bounds__(256, 2)
cone_back(const float* __restrict__ sinogram, const ConeView* __restrict__ views, const float* __restrict__ weights,
          int n_views, int first_row, int n_rows, int n_cols, int nx, int ny, int first_slice, int n_slices,
          float* __restrict__ volume) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= nx || y >= ny) return;
    const size_t row_len = (size_t)n_views * n_cols;
    for (int z0 = blockIdx.z * CONE_SLICES; z0 < n_slices; z0 += gridDim.z * CONE_SLICES) {
        float sums[CONE_SLICES] = {0.0f};
        for (int k = 0; k < n_views; ++k) {
            const ConeView& view = views[k];
            const float* image = sinogram + (size_t)k * n_cols;
#pragma unroll
            for (int s = 0; s < CONE_SLICES; ++s) {
                const double z = first_slice + z0 + s;
                const double inverse = 1.0 / cone_row(view.m[2], x, y, z);
                const double u = cone_row(view.m[0], x, y, z) * inverse;
                const double v = cone_row(view.m[1], x, y, z) * inverse - first_row;
                const double ru = cone_reach(view.side[0], inverse), rv = cone_reach(view.side[1], inverse);
                const double fu = floor(u - ru) + 1.0, fv = floor(v - rv) + 1.0;
                if (!(fu > -64.0 && fu < n_cols && fv > -64.0 && fv < n_rows)) continue;
                const int ju = (int)fu, jv = (int)fv;
                const float du = (float)(fu - u), dv = (float)(fv - v);
                const float su = (float)(1.0 / ru), sv = (float)(1.0 / rv);
                float sum = 0.0f;
                for (int i = 0; (float)i + dv < (float)rv; ++i) {
                    if (jv + i < 0 || jv + i >= n_rows) continue;
                    const float wv = fmaxf(0.0f, 1.0f - fabsf(dv + (float)i) * sv);
                    const float* line = image + (size_t)(jv + i) * row_len;
                    float part = 0.0f;
                    for (int j = 0; (float)j + du < (float)ru; ++j) {
                        if (ju + j < 0 || ju + j >= n_cols) continue;
                        const float wu = fmaxf(0.0f, 1.0f - fabsf(du + (float)j) * su);
                        part = fmaf(wu, __ldg(line + ju + j), part);
                    }
                    sum = fmaf(wv, part, sum);
                }
                sums[s] = fmaf((float)(inverse * inverse) * su * sv * weights[k], sum, sums[s]);
            }
        }
#pragma unroll
        for (int s = 0; s < CONE_SLICES; ++s)
            if (z0 + s < n_slices) volume[((size_t)(z0 + s) * ny + y) * nx + x] = sums[s];
    }
}
EXPORT_KERNEL(cone_back)

// Thread (column, row of the detector) of view blockIdx.z: the voxels whose hats hold the pixel, plane by plane along the
// axis that the ray crosses. The window in a plane follows from how the pixel's place moves with the voxel's; the slack is
// for the curvature of that. Per plane: about 9 candidates of 30 flops in double precision.
extern "C" __global__ void __launch_bounds__(256, 2)
cone_forward(const float* __restrict__ volume, const ConeView* __restrict__ views, int n_views, int first_row, int n_rows,
             int n_cols, int nx, int ny, int first_slice, int n_slices, float* __restrict__ sinogram) {
    const int col = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    if (col >= n_cols || row >= n_rows) return;
    for (int k = blockIdx.z; k < n_views; k += gridDim.z) {
        const ConeView& view = views[k];
        const int main = (int)view.axis, a = (main + 1) % 3, b = (main + 2) % 3;
        const int low[3] = {0, 0, first_slice}, count[3] = {nx, ny, n_slices};
        double ray[3];
        for (int d = 0; d < 3; ++d)
            ray[d] = view.pixel[d] + col * view.along_u[d] + (first_row + row) * view.along_v[d] - view.source[d];
        double sum = 0.0;
        for (int plane = low[main]; plane < low[main] + count[main]; ++plane) {
            const double t = (plane - view.source[main]) / ray[main];
            if (!(t > 0.0)) continue;
            const double pa = view.source[a] + t * ray[a], pb = view.source[b] + t * ray[b];
            // d(column, row)/d(a, b) times w, and its inverse.
            const double uj = col, vj = first_row + row, w = t;
            const double jua = view.m[0][a] - uj * view.m[2][a], jub = view.m[0][b] - uj * view.m[2][b];
            const double jva = view.m[1][a] - vj * view.m[2][a], jvb = view.m[1][b] - vj * view.m[2][b];
            const double det = w / fabs(jua * jvb - jub * jva);
            const double ru = cone_reach(view.side[0], 1.0 / w), rv = cone_reach(view.side[1], 1.0 / w);
            const double ka = (fabs(jvb) * ru + fabs(jub) * rv) * det * 1.1 + 0.25;
            const double kb = (fabs(jva) * ru + fabs(jua) * rv) * det * 1.1 + 0.25;
            const double a1 = fmin(pa + ka, low[a] + count[a] - 1.0), b1 = fmin(pb + kb, low[b] + count[b] - 1.0);
            const int a0 = (int)ceil(fmax(pa - ka, (double)low[a])), b0 = (int)ceil(fmax(pb - kb, (double)low[b]));
            for (int ib = b0; ib <= b1; ++ib) {
                for (int ia = a0; ia <= a1; ++ia) {
                    int at[3];
                    at[main] = plane;
                    at[a] = ia;
                    at[b] = ib;
                    const double inverse = 1.0 / cone_row(view.m[2], at[0], at[1], at[2]);
                    const double su = cone_reach(view.side[0], inverse), sv = cone_reach(view.side[1], inverse);
                    const double du = fabs(cone_row(view.m[0], at[0], at[1], at[2]) * inverse - uj);
                    const double dv = fabs(cone_row(view.m[1], at[0], at[1], at[2]) * inverse - vj);
                    if (du >= su || dv >= sv) continue;
                    const float value = __ldg(volume + ((size_t)(at[2] - first_slice) * ny + at[1]) * nx + at[0]);
                    sum += (1.0 - du / su) * (1.0 - dv / sv) / (su * sv) * inverse * inverse * value;
                }
            }
        }
        sinogram[((size_t)row * n_views + k) * n_cols + col] = (float)sum;
    }
}
EXPORT_KERNEL(cone_forward)

// Joseph's method, forward. Thread (column, row of the detector) of view blockIdx.z: planes across the ray's main axis, four voxels in each. Per
// plane: 16 bytes, about 25 flops in double precision.
extern "C" __global__ void __launch_bounds__(256, 2)
cone_joseph_forward(const float* __restrict__ volume, const ConeView* __restrict__ views, int n_views, int first_row,
                    int n_rows, int n_cols, int nx, int ny, int first_slice, int n_slices, float* __restrict__ sinogram) {
    const int col = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y * blockDim.y + threadIdx.y;
    if (col >= n_cols || row >= n_rows) return;
    const int low[3] = {0, 0, first_slice}, high[3] = {nx, ny, first_slice + n_slices};
    for (int k = blockIdx.z; k < n_views; k += gridDim.z) {
        const ConeRay ray = cone_ray(views[k], first_row + row, col);
        const int main = ray.axes[0], a = ray.axes[1], b = ray.axes[2];
        // Planes whose places are within a voxel of the grid; one more on each side, which the loop looks at.
        double first = low[main], last = high[main] - 1.0;
        for (int d = 0; d < 2; ++d) {
            const double from = low[ray.axes[d + 1]] - 1.0 - ray.start[d], to = high[ray.axes[d + 1]] - ray.start[d];
            if (ray.slope[d] != 0.0) {
                const double e0 = from / ray.slope[d], e1 = to / ray.slope[d];
                first = fmax(first, fmin(e0, e1) - 1.0);
                last = fmin(last, fmax(e0, e1) + 1.0);
            } else if (from >= 0.0 || to <= 0.0) {
                last = first - 1.0;
            }
        }
        double sum = 0.0;
        for (int plane = (int)ceil(first); plane <= last; ++plane) {
            if (!cone_between(ray, plane)) continue;
            const double pa = ray.start[0] + plane * ray.slope[0], pb = ray.start[1] + plane * ray.slope[1];
            if (!(pa > low[a] - 1.0 && pa < high[a] && pb > low[b] - 1.0 && pb < high[b])) continue;
            const int a0 = (int)floor(pa), b0 = (int)floor(pb);
            for (int ib = max(b0, low[b]); ib <= min(b0 + 1, high[b] - 1); ++ib) {
                for (int ia = max(a0, low[a]); ia <= min(a0 + 1, high[a] - 1); ++ia) {
                    int at[3];
                    at[main] = plane;
                    at[a] = ia;
                    at[b] = ib;
                    const float value = __ldg(volume + ((size_t)(at[2] - first_slice) * ny + at[1]) * nx + at[0]);
                    sum += cone_part(pa - ia) * cone_part(pb - ib) * value;
                }
            }
        }
        sinogram[((size_t)row * n_views + k) * n_cols + col] = (float)(sum * ray.step);
    }
}
EXPORT_KERNEL(cone_joseph_forward)

// Its adjoint. Thread (x, y): a voxel of each slice of blockIdx.z; per view, the rays to the pixels that its neighbours' box casts its shadow on: no
// other ray comes within a voxel of it. Per view and candidate: 4 bytes, about 50 flops in double precision.
extern "C" __global__ void __launch_bounds__(256, 2)
cone_joseph_back(const float* __restrict__ sinogram, const ConeView* __restrict__ views, int n_views, int first_row,
                 int n_rows, int n_cols, int nx, int ny, int first_slice, int n_slices, float* __restrict__ volume) {
    const int x = blockIdx.x * blockDim.x + threadIdx.x, y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= nx || y >= ny) return;
    for (int z = blockIdx.z; z < n_slices; z += gridDim.z) {
        const int at[3] = {x, y, first_slice + z};
        double sum = 0.0;
        for (int k = 0; k < n_views; ++k) {
            const ConeView& view = views[k];
            double u0 = 1e300, u1 = -1e300, v0 = 1e300, v1 = -1e300;
            bool beside = false;
            for (int c = 0; c < 8; ++c) {
                const double cx = at[0] + ((c & 1) ? 1.0 : -1.0), cy = at[1] + ((c & 2) ? 1.0 : -1.0);
                const double cz = at[2] + ((c & 4) ? 1.0 : -1.0);
                const double w = cone_row(view.m[2], cx, cy, cz);
                beside = beside || w <= 0.0;
                const double u = cone_row(view.m[0], cx, cy, cz) / w, v = cone_row(view.m[1], cx, cy, cz) / w;
                u0 = fmin(u0, u);
                u1 = fmax(u1, u);
                v0 = fmin(v0, v);
                v1 = fmax(v1, v);
            }
            // A box that reaches the plane of the source has no bounded shadow.
            if (beside) u0 = v0 = -1.0, u1 = n_cols, v1 = first_row + n_rows;
            const int c0 = (int)fmax(0.0, fmin(ceil(u0), (double)n_cols)), c1 = (int)fmin(n_cols - 1.0, fmax(floor(u1), -1.0));
            const int r0 = (int)fmax((double)first_row, fmin(ceil(v0), (double)(first_row + n_rows)));
            const int r1 = (int)fmin(first_row + n_rows - 1.0, fmax(floor(v1), -1.0));
            for (int row = r0; row <= r1; ++row) {
                const float* line = sinogram + ((size_t)(row - first_row) * n_views + k) * n_cols;
                for (int col = c0; col <= c1; ++col) {
                    const ConeRay ray = cone_ray(view, row, col);
                    const double plane = at[ray.axes[0]];
                    const double pa = ray.start[0] + plane * ray.slope[0], pb = ray.start[1] + plane * ray.slope[1];
                    const double part = cone_part(pa - at[ray.axes[1]]) * cone_part(pb - at[ray.axes[2]]);
                    if (part > 0.0 && cone_between(ray, plane)) sum += ray.step * part * __ldg(line + col);
                }
            }
        }
        volume[((size_t)z * ny + y) * nx + x] = (float)sum;
    }
}
EXPORT_KERNEL(cone_joseph_back)
