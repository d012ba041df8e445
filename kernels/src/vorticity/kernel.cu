// Two-dimensional flow as vorticity in double: what is done to each mode and at each point between transforms. Coefficients of one function are
// [k_y, k_x, re | im] with k_y = 0 ... m and k_x = 0 ... m, -m ... -1.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

constexpr int THREADS = 256;

// Every mode of every sample in turn: f(sample, mode, kappa_x, kappa_y).
template <class F>
__device__ __forceinline__ void each_mode(long long count, int m, double unit, F f) {
    const int width = 2 * m + 1, modes = (m + 1) * width;
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * THREADS) {
        const long long sample = i / modes;
        const int mode = (int)(i - sample * modes), row = mode / width, column = mode - row * width;
        f(sample, mode, unit * (column <= m ? column : column - width), unit * row);
    }
}

// pairs[sample, 0] = i kappa_y w / |kappa|^2 and pairs[sample, 1] = -i kappa_x w / |kappa|^2; 0 for the mean. 48 bytes a mode.
extern "C" __global__ void __launch_bounds__(THREADS)
vorticity_velocity(long long count, int m, double unit, const double* __restrict__ w, double* __restrict__ pairs) {
    const int modes = (m + 1) * (2 * m + 1);
    each_mode(count, m, unit, [&](long long sample, int mode, double x, double y) {
        const double square = x * x + y * y, inverse = square > 0.0 ? 1.0 / square : 0.0;
        const double* at = w + 2 * (sample * modes + mode);
        const double re = at[0] * inverse, im = at[1] * inverse;
        double* u = pairs + 2 * (2 * sample * modes + mode);
        double* v = u + 2 * modes;
        u[0] = -y * im;
        u[1] = y * re;
        v[0] = x * im;
        v[1] = -x * re;
    });
}
EXPORT_KERNEL(vorticity_velocity)

// u, v [sample, field, point] become u v, v^2 - u^2. 32 bytes a point.
extern "C" __global__ void __launch_bounds__(THREADS)
vorticity_products(long long count, int area, double* __restrict__ values) {
    for (long long i = (long long)blockIdx.x * THREADS + threadIdx.x; i < count; i += (long long)gridDim.x * THREADS) {
        // Both fields of the samples before this one lie in front.
        double* at = values + i + i / area * area;
        const double u = at[0], v = at[area];
        at[0] = u * v;
        at[area] = v * v - u * u;
    }
}
EXPORT_KERNEL(vorticity_products)

// n = a (kappa_x^2 - kappa_y^2) + b kappa_x kappa_y + f with a, b the coefficients of u v and v^2 - u^2: f - u.grad w.
// h = n + beta h and w = ((1 + ahead l) w + gamma h) / (1 - behind l). 96 bytes a mode, and tables that samples share.
extern "C" __global__ void __launch_bounds__(THREADS)
vorticity_stage(long long count, int m, double unit, double beta, double gamma, double ahead, double behind,
                const double* __restrict__ linear, const double* __restrict__ forcing, const double* __restrict__ pairs,
                double* __restrict__ h, double* __restrict__ w) {
    const int modes = (m + 1) * (2 * m + 1);
    each_mode(count, m, unit, [&](long long sample, int mode, double x, double y) {
        const double l = linear[mode], known = 1.0 + ahead * l, solved = 1.0 - behind * l;
        const double of_a = x * x - y * y, of_b = x * y;
        const double* a = pairs + 2 * (2 * sample * modes + mode);
        const double* b = a + 2 * modes;
        const long long at = 2 * (sample * modes + mode);
#pragma unroll
        for (int part = 0; part < 2; ++part) {
            double slope = a[part] * of_a + b[part] * of_b;
            if (forcing) slope += forcing[2 * mode + part];
            // Whatever the register holds at first.
            if (beta != 0.0) slope += beta * h[at + part];
            h[at + part] = slope;
            w[at + part] = (known * w[at + part] + gamma * slope) / solved;
        }
    });
}
EXPORT_KERNEL(vorticity_stage)
