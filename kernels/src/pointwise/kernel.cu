// A straight-line program at every point of a grid, interpreted: all threads of a warp take the same branch.
#ifdef CUDA_CPU_SHIM
#include "cuda_shim.hpp"
#else
#define DYNAMIC_SHARED(T, name) extern __shared__ T name[]
#define EXPORT_KERNEL(kernel)
#endif

constexpr int POINTWISE_THREADS = 128;

// The order of cuda.rs: loads and stores, then the enums Unary and Binary of op.rs.
enum PointwiseOp {
    LOAD, STORE,
    NEG, ABS, SIGN, STEP, SQRT, CBRT, EXP, LN, SIN, COS, TAN, ASIN, ACOS, ATAN, SINH, COSH, TANH, ERF,
    ADD, SUB, MUL, DIV, POW, ATAN2, MIN, MAX
};

struct PointwiseLeaf {
    const double* values;
    long long len, stride;  // element (i / stride) % len at point i; stride 0 stands for element i
};

__device__ __forceinline__ double pointwise_load(const PointwiseLeaf& leaf, long long i) {
    if (leaf.stride == 0) return leaf.values[i];
    // Division in 32 bits takes a fraction of that in 64.
    if (i <= 0x7fffffff && leaf.stride <= 0x7fffffff && leaf.len <= 0x7fffffff)
        return leaf.values[(unsigned)i / (unsigned)leaf.stride % (unsigned)leaf.len];
    return leaf.values[i / leaf.stride % leaf.len];
}

// Points 0 to n. code[4 k ...] is (operation, to, a, b) of step k: registers, or the number of a leaf or an output.
// Shared memory holds [n_registers, 128] numbers, a column per thread; the first n_constants registers stay as they are.
// 8 bytes per point for each field read or written; about 20 instructions for each step beside its own.
extern "C" __global__ void __launch_bounds__(POINTWISE_THREADS)
pointwise_run(long long n, int n_steps, const int* __restrict__ code, int n_constants, const double* __restrict__ constants,
              const PointwiseLeaf* __restrict__ leaves, double* const* __restrict__ outputs) {
    DYNAMIC_SHARED(double, registers);
    double* r = registers + threadIdx.x;
    for (int k = 0; k < n_constants; ++k) r[k * POINTWISE_THREADS] = constants[k];
    const long long stride = (long long)gridDim.x * POINTWISE_THREADS;
    for (long long i = (long long)blockIdx.x * POINTWISE_THREADS + threadIdx.x; i < n; i += stride) {
        for (int k = 0; k < n_steps; ++k) {
            const int op = code[4 * k], to = code[4 * k + 1], a = code[4 * k + 2], b = code[4 * k + 3];
            if (op == LOAD) {
                r[to * POINTWISE_THREADS] = pointwise_load(leaves[a], i);
                continue;
            }
            const double x = r[a * POINTWISE_THREADS];
            if (op == STORE) {
                outputs[to][i] = x;
                continue;
            }
            const double y = r[b * POINTWISE_THREADS];
            double v = 0.0;
            switch (op) {
                case NEG: v = -x; break;
                case ABS: v = fabs(x); break;
                case SIGN: v = x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x; break;
                case STEP: v = x >= 0.0 ? 1.0 : x < 0.0 ? 0.0 : x; break;
                case SQRT: v = sqrt(x); break;
                case CBRT: v = cbrt(x); break;
                case EXP: v = exp(x); break;
                case LN: v = log(x); break;
                case SIN: v = sin(x); break;
                case COS: v = cos(x); break;
                case TAN: v = tan(x); break;
                case ASIN: v = asin(x); break;
                case ACOS: v = acos(x); break;
                case ATAN: v = atan(x); break;
                case SINH: v = sinh(x); break;
                case COSH: v = cosh(x); break;
                case TANH: v = tanh(x); break;
                case ERF: v = erf(x); break;
                case ADD: v = x + y; break;
                case SUB: v = x - y; break;
                case MUL: v = x * y; break;
                case DIV: v = x / y; break;
                case POW: v = pow(x, y); break;
                case ATAN2: v = atan2(x, y); break;
                case MIN: v = fmin(x, y); break;
                case MAX: v = fmax(x, y); break;
            }
            r[to * POINTWISE_THREADS] = v;
        }
    }
}
EXPORT_KERNEL(pointwise_run)
