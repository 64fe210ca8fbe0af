/* attention.h - what the kernels of attention share: one call as they see it, and the tiles of its packed rows.
 *
 * Where each packed row starts is known on the device only. A first kernel of each call turns the segments into a list of *tiles* (at most
 * `rows` tokens of one segment each) in the workspace and clears the tokens that stand in no segment; the kernels after it are launched
 * for as many tiles as there can be, and those past the end of the list return at once. */
#ifndef CRANK_DEVICE_CUDA_ATTENTION_H
#define CRANK_DEVICE_CUDA_ATTENTION_H

#include "device/cuda/cuda.h"

enum { ATTENTION_SLOTS = 14 };

/* x [n,h,d]: element c of head h of token i stands at i * token + h * head + c. */
typedef struct heads {
    void   *data;
    int64_t token, head;
} heads;

typedef struct attention {
    heads      q, k, v, o, dout, dq, dk, dv;
    void      *lse;         /* [hq,n] f32, f64 for f64; NULL: not wanted */
    int64_t    lse_head;    /* stride of a head in lse */
    void      *delta;       /* [hq,n] of lse's type: D_i = do_i o_i */
    const int *segments;    /* first token of each segment and the end of the last: segment_ends values */
    const int *position;    /* attention_cached: token number of the first query */
    int        segment_ends, n, capacity; /* tokens; rows of the cache */
    int        hq, hk, group, d;
    int        causal, window; /* 0: unlimited */
    double     scale;
    int       *tile_count;
    int       *tiles; /* of 8 ints */
    int        tile_limit, tile_rows;
    /* for cuDNN instead of tiles; NULL: not asked for */
    int       *lengths; /* [batch] tokens of each sequence */
    int64_t   *offsets; /* [slots][batch + 1]: first token times slot_strides */
    float     *stats;   /* [n,hq]: lse, token by token */
    int        batch, longest, slots;
    int64_t    slot_strides[ATTENTION_SLOTS];
} attention;

/* Tokens of one segment that a block owns: queries, or keys in the pass that makes dk and dv. */
typedef struct attention_tile {
    int first, rows; /* tokens first .. first + rows - 1 */
    int origin;      /* place of token `first` among the tokens of the other side */
    int other;       /* first token of the other side */
    int count;       /* tokens of the other side */
    int spare[3];
} attention_tile;

enum { ATTENTION_ROWS = 64, FLASH_ROWS = 128 }; /* tokens a tile */

/* A call of "attention", "attention_backward" or "attention_cached" with its workspace laid out for tiles of `rows` tokens. */
attention attention_of(const crank_call *call, int rows);
attention attention_backward_of(const crank_call *call, int rows);
attention attention_cached_of(const crank_call *call, int rows);
size_t    attention_workspace(const crank_call *call);
size_t    attention_backward_workspace(const crank_call *call);
size_t    attention_cached_workspace(const crank_call *call);
bool      attention_aligned(const attention *a, size_t element); /* all rows stand at multiples of 16 bytes */

/* The first kernels of a call: tiles; zeros in what no segment holds; with dout also delta. */
crank_status attention_begin(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype);

/* Kernels for every type and head size (attention_tiled*.cu), and on tensor cores (attention_flash*.cu). */
crank_status attention_tiled(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype);
crank_status attention_tiled_backward(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype);
bool         attention_flash_serves(crank_dtype dtype, int64_t d, double scale);
crank_status attention_flash(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype);
crank_status attention_flash_backward(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype);

/* The reverse where each segment is one tile (attention_flash_whole.cu): tokens a tile must have for it, 0 where it does not serve. */
int          attention_whole_rows(const crank_call *call);
crank_status attention_flash_whole(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype);

/* Few queries against a cache (attention_decode.cu). */
bool         attention_decode_serves(const crank_call *call);
size_t       attention_decode_workspace(const crank_call *call);
crank_status attention_decode(crank_context *context, const crank_call *call);
/* Its partial results by tensor cores (attention_flash_decode.cu): partial [splits][n hq][d + 2]. */
crank_status attention_flash_decode(crank_context *context, const crank_call *call, const attention *a, crank_dtype dtype, float *partial, int splits);
crank_status attention_cached(crank_context *context, const crank_call *call); /* any number of queries */
crank_status attention_cache_write(crank_context *context, const crank_call *call);

/* cuDNN (attention_dnn*.cu). */
bool         attention_dnn_serves(const crank_call *call, bool backward);
size_t       attention_dnn_workspace(const crank_call *call);
size_t       attention_dnn_backward_workspace(const crank_call *call);
crank_status attention_dnn(crank_context *context, const crank_call *call);
crank_status attention_dnn_backward(crank_context *context, const crank_call *call);
/* What they fall back to where memory is not aligned. */
crank_status attention_general(crank_context *context, const crank_call *call);
crank_status attention_backward_general(crank_context *context, const crank_call *call);

#ifdef __CUDACC__
/* The other side's tokens that any row of a tile sees: [*from, *to) of [0, count). Symmetric but for the causal mask, which `keys` turns
 * round: a tile of keys is seen by the queries from its own place on. */
__device__ __forceinline__ void attention_span(const attention &a, const attention_tile &t, bool keys, int *from, int *to)
{
    int first = t.origin, last = t.origin + t.rows - 1;
    *from = 0, *to = t.count;
    if (a.window > 0) {
        *from = max(0, first - a.window + 1);
        *to = (int)min((int64_t)t.count, (int64_t)last + a.window);
    }
    if (a.causal && keys) *from = min(first, t.count);
    if (a.causal && !keys) *to = min(t.count, last + 1);
}

/* Whether query i sees key j. */
__device__ __forceinline__ bool attention_sees(const attention &a, int i, int j)
{
    if (a.causal) return j <= i && (a.window == 0 || i - j < a.window);
    return a.window == 0 || (i - j < a.window && j - i < a.window);
}

/* Whether every query of [i, i + queries) sees every key of [j, j + keys). */
__device__ __forceinline__ bool attention_sees_all(const attention &a, int i, int queries, int j, int keys)
{
    bool all = !a.causal || j + keys - 1 <= i;
    if (a.window > 0) all = all && i + queries - 1 - j < a.window && (a.causal || j + keys - 1 - i < a.window);
    return all;
}

/* The keys that split `split` of `splits` owns, whole blocks of `block`: [*from, *to). */
__device__ __forceinline__ void attention_share(const attention &a, int split, int splits, int block, int *from, int *to)
{
    int position = *a.position, count = position >= 0 && position <= a.capacity - a.n ? position + a.n : 0;
    int first = a.window > 0 ? max(0, min(position, count) - a.window + 1) : 0;
    int each = ((count - first + splits - 1) / splits + block - 1) / block * block;
    *from = (int)min((int64_t)first + (int64_t)split * each, (int64_t)count);
    *to = (int)min((int64_t)*from + each, (int64_t)count);
}

__device__ __forceinline__ bool attention_tile_at(const attention &a, int index, bool heavy_last, attention_tile *t)
{
    int count = *a.tile_count;
    if (index >= count) return false;
    if (heavy_last) index = count - 1 - index;
    const int4 *p = reinterpret_cast<const int4 *>(a.tiles) + 2 * (int64_t)index;
    int4        x = p[0], y = p[1];
    t->first = x.x, t->rows = x.y, t->origin = x.z, t->other = x.w, t->count = y.x;
    return true;
}
#endif

#endif
