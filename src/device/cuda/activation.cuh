/* activation.cuh - unary functions and their slopes in float or double; the meaning is that of the plain bodies: NaN passes through
 * max, min and relu, sign(NaN) is NaN, gelu is the erf form. */
#ifndef CRANK_DEVICE_CUDA_ACTIVATION_CUH
#define CRANK_DEVICE_CUDA_ACTIVATION_CUH

#include "device/cuda/element.cuh"

__device__ __forceinline__ float  fn_exp(float x) { return expf(x); }
__device__ __forceinline__ double fn_exp(double x) { return exp(x); }
__device__ __forceinline__ float  fn_log(float x) { return logf(x); }
__device__ __forceinline__ double fn_log(double x) { return log(x); }
__device__ __forceinline__ float  fn_log1p(float x) { return log1pf(x); }
__device__ __forceinline__ double fn_log1p(double x) { return log1p(x); }
__device__ __forceinline__ float  fn_sqrt(float x) { return sqrtf(x); }
__device__ __forceinline__ double fn_sqrt(double x) { return sqrt(x); }
__device__ __forceinline__ float  fn_erfc(float x) { return erfcf(x); }
__device__ __forceinline__ double fn_erfc(double x) { return erfc(x); }
__device__ __forceinline__ float  fn_tanh(float x) { return tanhf(x); }
__device__ __forceinline__ double fn_tanh(double x) { return tanh(x); }
__device__ __forceinline__ float  fn_sin(float x) { return sinf(x); }
__device__ __forceinline__ double fn_sin(double x) { return sin(x); }
__device__ __forceinline__ float  fn_cos(float x) { return cosf(x); }
__device__ __forceinline__ double fn_cos(double x) { return cos(x); }
__device__ __forceinline__ float  fn_pow(float x, float y) { return powf(x, y); }
__device__ __forceinline__ double fn_pow(double x, double y) { return pow(x, y); }

template <typename R> __device__ __forceinline__ R fn_sigmoid(R x)
{
    R e = fn_exp(x >= 0 ? -x : x), d = 1 / (1 + e);
    return x >= 0 ? d : e * d;
}
template <typename R> __device__ __forceinline__ bool is_inf(R x) { return x == (R)INFINITY || x == -(R)INFINITY; }

#define SQRT_2_OVER_PI 0.79788456080286535588
#define SQRT_HALF      0.70710678118654752440
#define GELU_CUBIC     0.044715

template <typename R> __device__ __forceinline__ R activation(crank_unary_kind kind, R x)
{
    switch (kind) {
    case CRANK_NEG: return -x;
    case CRANK_EXP: return fn_exp(x);
    case CRANK_LOG: return fn_log(x);
    case CRANK_SQRT: return fn_sqrt(x);
    case CRANK_RSQRT: return 1 / fn_sqrt(x);
    case CRANK_RECIPROCAL: return 1 / x;
    case CRANK_SQUARE: return x * x;
    case CRANK_ABS: return x < 0 ? -x : x == 0 ? (R)0 : x;
    case CRANK_SIGN: return x > 0 ? (R)1 : x < 0 ? (R)-1 : x;
    case CRANK_TANH: return fn_tanh(x);
    case CRANK_SIGMOID: return fn_sigmoid(x);
    case CRANK_SOFTPLUS: return x > 0 ? x + fn_log1p(fn_exp(-x)) : fn_log1p(fn_exp(x));
    case CRANK_RELU: return x < 0 ? (R)0 : x;
    case CRANK_SILU: return x == -(R)INFINITY ? (R)0 : x * fn_sigmoid(x);
    case CRANK_GELU: return x == -(R)INFINITY ? (R)0 : (R)0.5 * x * fn_erfc(-x * (R)SQRT_HALF);
    case CRANK_GELU_TANH: return x == -(R)INFINITY ? (R)0 : x * fn_sigmoid((R)(2 * SQRT_2_OVER_PI) * (x + (R)GELU_CUBIC * x * x * x));
    case CRANK_SIN: return fn_sin(x);
    default: return fn_cos(x);
    }
}

template <typename R> __device__ __forceinline__ R slope(crank_unary_kind kind, R x, R y)
{
    switch (kind) {
    case CRANK_NEG: return -1;
    case CRANK_EXP: return y;
    case CRANK_LOG: return 1 / x;
    case CRANK_SQRT: return (R)0.5 / y;
    case CRANK_RSQRT: return (R)-0.5 * y * y * y;
    case CRANK_RECIPROCAL: return -y * y;
    case CRANK_SQUARE: return 2 * x;
    case CRANK_ABS: return x > 0 ? (R)1 : x < 0 ? (R)-1 : x;
    case CRANK_SIGN: return 0;
    case CRANK_TANH: return 1 - y * y;
    case CRANK_SIGMOID: return y * (1 - y);
    case CRANK_SOFTPLUS: return fn_sigmoid(x);
    case CRANK_RELU: return y > 0 ? (R)1 : y != y ? y : (R)0;
    case CRANK_SILU: return is_inf(x) ? (R)(x > 0) : fn_sigmoid(x) * (1 + x * fn_sigmoid(-x));
    case CRANK_GELU:
        return is_inf(x) ? (R)(x > 0)
                         : (R)0.5 * fn_erfc(-x * (R)SQRT_HALF) + x * (R)(0.5 * SQRT_2_OVER_PI) * fn_exp((R)-0.5 * x * x);
    case CRANK_GELU_TANH: {
        if (x > (R)1e3 || x < (R)-1e3) return (R)(x > 0);
        R s = fn_sigmoid((R)(2 * SQRT_2_OVER_PI) * (x + (R)GELU_CUBIC * x * x * x));
        return s + x * s * (1 - s) * (R)(2 * SQRT_2_OVER_PI) * (1 + (R)(3 * GELU_CUBIC) * x * x);
    }
    case CRANK_SIN: return fn_cos(x);
    default: return -fn_sin(x);
    }
}

#endif
