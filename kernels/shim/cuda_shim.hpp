// CUDA kernels on a CPU, for tests: compile a .cu file with -DCUDA_CPU_SHIM -x c++ and this header.
//
// The threads of a block are fibers of one OS thread; blocks are shared out to as many OS threads as there are cores.
// A barrier parks a fiber until every live thread of its block (or warp) is parked at a barrier of the same kind; a
// barrier that part of a block never reaches is reported and aborts, where a GPU would hang. CONVOKE_SHIM_ORDER =
// forward (default), reverse or random sets the order in which fibers run between barriers: races show as results
// that depend on it.
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>
#ifndef __x86_64__
#include <ucontext.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __constant__ static
#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(shim::worker.shared)

struct dim3 {
    unsigned x, y, z;
};
struct float2 { float x, y; };
struct float4 { float x, y, z, w; };
static inline float2 make_float2(float x, float y) { return {x, y}; }
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

namespace shim {

enum class State { Ready, AtBlockBarrier, AtWarpBarrier, Done };

#ifdef __x86_64__
// Push the callee-saved registers, swap stacks, pop them: all that a switch between fibers needs.
extern "C" void convoke_shim_switch(void** save, void* load);
__asm__(
    ".text\n.weak convoke_shim_switch\nconvoke_shim_switch:\n"
    "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
    "  movq %rsp, (%rdi)\n  movq %rsi, %rsp\n"
    "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n  ret\n");
using Context = void*;
inline void swap(Context& from, Context& to) { convoke_shim_switch(&from, to); }
inline void prepare(Context& c, char* stack, size_t bytes, void (*entry)()) {
    auto top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack) + bytes) & ~uintptr_t(15));
    *--top = nullptr;  // entry sees the alignment that a call would give it
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    c = top;
}
#else
using Context = ucontext_t;
inline void swap(Context& from, Context& to) { swapcontext(&from, &to); }
inline void prepare(Context& c, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&c);
    c.uc_stack.ss_sp = stack;
    c.uc_stack.ss_size = bytes;
    c.uc_link = nullptr;
    makecontext(&c, entry, 0);
}
#endif

struct Fiber {
    Context context;
    std::unique_ptr<char[]> stack;
    dim3 index;
    State state;
    double slot, second;  // what this thread offers in a shuffle or a product
};

struct Worker {
    Context scheduler;
    std::vector<Fiber> fibers;
    std::vector<char> memory;
    char* shared = nullptr;
    int current = 0;
    const std::function<void()>* kernel = nullptr;
};
inline thread_local Worker worker;
constexpr size_t STACK_BYTES = 64 << 10;

inline void entry() {
    (*worker.kernel)();
    Fiber& me = worker.fibers[worker.current];
    me.state = State::Done;
    swap(me.context, worker.scheduler);
    std::abort();  // a finished fiber is not resumed
}

inline void wait(State barrier) {
    Fiber& me = worker.fibers[worker.current];
    me.state = barrier;
    swap(me.context, worker.scheduler);
}

// Let go of the fibers [from, to) if all that live are parked at `barrier`.
inline bool release(int from, int to, State barrier) {
    bool some = false;
    for (int t = from; t < to; ++t) {
        if (worker.fibers[t].state == barrier) some = true;
        else if (worker.fibers[t].state != State::Done) return false;
    }
    for (int t = from; some && t < to; ++t)
        if (worker.fibers[t].state == barrier) worker.fibers[t].state = State::Ready;
    return some;
}

inline void run_block(dim3 block, const std::vector<int>& order) {
    Worker& w = worker;
    const int n = order.size();
    blockIdx = block;
    if (int(w.fibers.size()) < n) w.fibers.resize(n);
    for (int t = 0; t < n; ++t) {
        Fiber& f = w.fibers[t];
        if (!f.stack) f.stack.reset(new char[STACK_BYTES]);
        unsigned u = t;
        f.index = {u % blockDim.x, u / blockDim.x % blockDim.y, u / (blockDim.x * blockDim.y)};
        f.state = State::Ready;
        prepare(f.context, f.stack.get(), STACK_BYTES, entry);
    }
    for (bool live = true; live;) {
        for (int t : order) {
            if (w.fibers[t].state != State::Ready) continue;
            w.current = t;
            threadIdx = w.fibers[t].index;
            swap(w.scheduler, w.fibers[t].context);
        }
        bool moved = release(0, n, State::AtBlockBarrier);
        for (int t = 0; t < n; t += 32) moved |= release(t, t + 32 < n ? t + 32 : n, State::AtWarpBarrier);
        live = false;
        for (int t = 0; t < n; ++t) live |= w.fibers[t].state != State::Done;
        if (live && !moved) {
            std::fprintf(stderr, "block (%u, %u, %u): a barrier that part of its threads never reach\n", block.x, block.y, block.z);
            std::abort();
        }
    }
}

inline void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
    const size_t blocks = size_t(grid.x) * grid.y * grid.z;
    const char* choice = std::getenv("CONVOKE_SHIM_ORDER");
    std::atomic<size_t> next{0};
    auto work = [&] {
        gridDim = grid;
        blockDim = block;
        worker.kernel = &kernel;
        std::vector<int> order(block.x * block.y * block.z);
        std::iota(order.begin(), order.end(), 0);
        if (choice && !std::strcmp(choice, "reverse")) std::reverse(order.begin(), order.end());
        std::mt19937 random(1);
        for (size_t b; (b = next++) < blocks;) {
            if (choice && !std::strcmp(choice, "random")) std::shuffle(order.begin(), order.end(), random);
            worker.memory.assign(shared_bytes + 64, 0x7f);  // shared memory starts as garbage
            worker.shared = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(worker.memory.data()) + 63) & ~uintptr_t(63));
            run_block({unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / grid.x / grid.y)}, order);
        }
    };
    size_t threads = std::min<size_t>(blocks, std::max(1u, std::thread::hardware_concurrency()));
    std::vector<std::thread> pool;
    for (size_t i = 0; i < threads; ++i) pool.emplace_back(work);
    for (auto& t : pool) t.join();
}

// Call `kernel` in every thread with the arguments that `args` points to, each read as the parameter's own type.
template <class... A, size_t... I>
void launch_erased(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared, void** args, std::index_sequence<I...>) {
    launch(grid, block, shared, [=] { kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(args[I])...); });
}
template <class... A>
void launch_erased(void (*kernel)(A...), dim3 grid, dim3 block, size_t shared, void** args) {
    launch_erased(kernel, grid, block, shared, args, std::index_sequence_for<A...>{});
}

template <class T> T exchange(T value, int partner, bool valid) {
    static_assert(sizeof(T) <= sizeof(double), "a shuffle moves up to 8 bytes");
    int me = worker.current;
    std::memcpy(&worker.fibers[me].slot, &value, sizeof(T));
    wait(State::AtWarpBarrier);
    T got = value;
    if (valid) std::memcpy(&got, &worker.fibers[me - me % 32 + partner].slot, sizeof(T));
    wait(State::AtWarpBarrier);
    return got;
}

// d += a b by a warp, as mma.m8n8k4 in double: lane l holds a[l / 4][l % 4], b[l % 4][l / 4], d[l / 4][2 (l % 4) + (0, 1)].
inline void multiply_8x8x4(double (&d)[2], double a, double b) {
    const int me = worker.current, lane = me % 32;
    const Fiber* warp = worker.fibers.data() + (me - lane);
    worker.fibers[me].slot = a;
    worker.fibers[me].second = b;
    wait(State::AtWarpBarrier);
    for (int c = 0; c < 2; ++c)
        for (int k = 0; k < 4; ++k) d[c] += warp[lane / 4 * 4 + k].slot * warp[(2 * (lane % 4) + c) * 4 + k].second;
    wait(State::AtWarpBarrier);
}
}  // namespace shim

static inline void __syncthreads() { shim::wait(shim::State::AtBlockBarrier); }
static inline void __syncwarp(unsigned = ~0u) { shim::wait(shim::State::AtWarpBarrier); }
template <class T> T __shfl_down_sync(unsigned, T v, unsigned d, int = 32) {
    int lane = shim::worker.current % 32;
    return shim::exchange(v, lane + int(d), lane + int(d) < 32);
}
template <class T> T __shfl_xor_sync(unsigned, T v, int mask, int = 32) {
    return shim::exchange(v, shim::worker.current % 32 ^ mask, true);
}
template <class T> T atomicAdd(T* p, T v) {
    T seen, sum;
    __atomic_load(p, &seen, __ATOMIC_RELAXED);
    do sum = seen + v;
    while (!__atomic_compare_exchange(p, &seen, &sum, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return seen;
}
template <class T> T __ldg(const T* p) { return *p; }
template <class T> T min(T a, T b) { return b < a ? b : a; }
template <class T> T max(T a, T b) { return a < b ? b : a; }
static inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

// The entry that the host code looks up: extern "C" <kernel>__cpu.
#define EXPORT_KERNEL(k)                                                                                        \
    extern "C" void k##__cpu(unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,      \
                             size_t shared, void** args) {                                                      \
        shim::launch_erased(&k, dim3{gx, gy, gz}, dim3{bx, by, bz}, shared, args);                              \
    }
