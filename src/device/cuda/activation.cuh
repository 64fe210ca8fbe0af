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

/* ---- for results of 16 bits: approximate functions that are far more exact than the rounding ---- */

/* 1 / (1 + e^-x) */
template <typename T> __device__ __forceinline__ real<T> gate_sigmoid(real<T> x)
{
    if (sizeof(T) == 2) return (real<T>)__fdividef(1.0f, 1.0f + __expf(-(float)x));
    return fn_sigmoid(x);
}

/* erfc(z) for z >= 0 to 1.2e-7 of its value: t e^(-z^2 + p(t)) with t = 1 / (1 + z / 2), a Chebyshev fit of degree 9 (Press et al.,
 * Numerical Recipes, section 6.2). */
__device__ __forceinline__ float erfc_fit(float z)
{
    float t = __fdividef(1.0f, 1.0f + 0.5f * z), p = 0.17087277f;
    p = fmaf(p, t, -0.82215223f), p = fmaf(p, t, 1.48851587f), p = fmaf(p, t, -1.13520398f), p = fmaf(p, t, 0.27886807f);
    p = fmaf(p, t, -0.18628806f), p = fmaf(p, t, 0.09678418f), p = fmaf(p, t, 0.37409196f), p = fmaf(p, t, 1.00002368f), p = fmaf(p, t, -1.26551223f);
    return t * __expf(fmaf(-z, z, p));
}

/* An activation for a result of type T, and its slope. */
template <typename T, crank_unary_kind KIND> __device__ __forceinline__ real<T> gate_value(real<T> x)
{
    typedef real<T> R;
    if (KIND == CRANK_SILU) return x == -(R)INFINITY ? (R)0 : x * gate_sigmoid<T>(x);
    if (KIND == CRANK_GELU && sizeof(T) == 2) {
        float half = 0.5f * erfc_fit(fabsf((float)x) * (float)SQRT_HALF);
        return x == -(R)INFINITY ? (R)0 : (R)((float)x * (x < 0 ? half : 1.0f - half));
    }
    if (KIND == CRANK_GELU_TANH && sizeof(T) == 2)
        return x == -(R)INFINITY ? (R)0 : x * gate_sigmoid<T>((R)(2 * SQRT_2_OVER_PI) * (x + (R)GELU_CUBIC * x * x * x));
    return activation(KIND, x);
}
template <typename T, crank_unary_kind KIND> __device__ __forceinline__ real<T> gate_slope(real<T> x)
{
    typedef real<T> R;
    if (KIND == CRANK_SILU) {
        R s = gate_sigmoid<T>(x);
        return is_inf(x) ? (R)(x > 0) : s * (1 + x * (1 - s));
    }
    if (KIND == CRANK_GELU && sizeof(T) == 2) {
        float half = 0.5f * erfc_fit(fabsf((float)x) * (float)SQRT_HALF), density = (float)(0.5 * SQRT_2_OVER_PI) * __expf(-0.5f * (float)x * (float)x);
        return is_inf(x) ? (R)(x > 0) : (R)((x < 0 ? half : 1.0f - half) + (float)x * density);
    }
    return slope(KIND, x, (R)0);
}

/* ---- gated linear units: of one element ---- */

template <typename T, crank_unary_kind KIND> struct glu_op {
    typedef real<T> R;
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t) const { y[0] = gate_value<T, KIND>(x[0]) * x[1]; }
};

template <typename T, crank_unary_kind KIND> struct glu_backward_op {
    typedef real<T> R;
    __device__ __forceinline__ void operator()(const R *x, R *y, int64_t) const
    {
        R d = x[0], gate = x[1], up = x[2];
        y[0] = d * up * gate_slope<T, KIND>(gate);
        y[1] = d * gate_value<T, KIND>(gate);
    }
};

#endif
