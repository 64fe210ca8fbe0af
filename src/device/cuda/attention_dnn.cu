/* attention_dnn.cu - attention by cuDNN: plans kept by shape in the device, and the bodies that run them.
 *
 * A plan is made when a body is looked for (building one can take a second), so that a run only queues work. Shapes are rounded up (the
 * number of sequences, the longest of them) so that batches of other rows share plans: sequences past the last are empty, and true lengths
 * are read on the device. cuDNN's reverse adds the parts of dq in no fixed order: it is left out where the same bits are asked for.
 *
 * Workspace: lengths, offsets, row statistics [n,hq]; in reverse also D [B,hq,longest] and dq in f32 [B,hq,longest,d]; then what the plan
 * asks for. Each part starts at a multiple of 256 bytes. */
#ifdef CRANK_HAVE_CUDNN
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/attention_dnn.h"
#include "device/cuda/element.cuh"

/* Up to this length our own kernels are faster (measured on H100, d 32 to 64). */
enum { OWN_LONGEST = 256 };

/* Tokens of cuDNN's tiles: it writes whole ones of what is not packed. */
enum { TILE = 128, ROWS_BEHIND = 2 * TILE + 64 };

typedef struct dnn_plan {
    struct dnn_plan         *next;
    dnn_shape                shape;
    dnn_graph               *graph;
    cudnnBackendDescriptor_t plan; /* NULL: cuDNN has no engine for this shape */
    int64_t                  workspace;
} dnn_plan;

/* The driver's cuMemGetAddressRange: the allocation in which an address stands; 0 is success. */
typedef int range_function(unsigned long long *base, size_t *size, unsigned long long address);

/* What cuda_device.dnn points to. */
typedef struct dnn_room {
    cudnnHandle_t   handle; /* NULL: cuDNN does not start here */
    range_function *range;  /* NULL: the driver does not tell */
    dnn_plan       *plans;
} dnn_room;

static dnn_room *room_of(cuda_device *device)
{
    if (device->dnn) return (dnn_room *)device->dnn;
    dnn_room *room = (dnn_room *)calloc(1, sizeof *room);
    if (!room) return NULL;
    if (cudnnCreate(&room->handle) != CUDNN_STATUS_SUCCESS) room->handle = NULL;
    else if (cudnnSetStream(room->handle, device->stream) != CUDNN_STATUS_SUCCESS) {
        cudnnDestroy(room->handle);
        room->handle = NULL;
    }
    cudaDriverEntryPointQueryResult found;
    void                           *range = NULL;
    if (cudaGetDriverEntryPointByVersion("cuMemGetAddressRange", &range, 12000, cudaEnableDefault, &found) == cudaSuccess &&
        found == cudaDriverEntryPointSuccess)
        room->range = (range_function *)range;
    device->dnn = room;
    return room;
}

/* cuDNN reads whole tiles of rows, past the last token too (what it finds there does not matter): the memory must go on behind x [n,h,d]. */
static bool goes_on(const dnn_room *room, const heads *x, int64_t n, int64_t h)
{
    int64_t            cells = (n + ROWS_BEHIND - 1) * x->token + h * x->head;
    unsigned long long base = 0, end = (unsigned long long)(uintptr_t)x->data + 2 * (unsigned long long)cells;
    size_t             size = 0;
    return room->range && room->range(&base, &size, (unsigned long long)(uintptr_t)x->data) == 0 && end <= base + size;
}

/* Whether cuDNN may have these operands. A captured run takes the answer of the immediate one before it, on the same memory. */
static bool memory_serves(const crank_call *call, const attention *a)
{
    static const char       yes = 1, no = 0;
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    const dnn_room         *room = room_of(cuda_of(call));
    if (call->slot && *call->slot && cudaStreamIsCapturing(cuda_stream(call), &capture) == cudaSuccess && capture != cudaStreamCaptureStatusNone)
        return *call->slot == &yes;
    const heads *all[5] = {&a->q, &a->k, &a->v, &a->o, &a->dout};
    bool         serves = attention_aligned(a, 2);
    for (int i = 0; i < 5; i++) serves = serves && (!all[i]->data || goes_on(room, all[i], a->n, i == 1 || i == 2 ? a->hk : a->hq));
    if (call->slot) *call->slot = (void *)(serves ? &yes : &no);
    return serves;
}

void cuda_dnn_close(cuda_device *device)
{
    dnn_room *room = (dnn_room *)device->dnn;
    if (!room) return;
    while (room->plans) {
        dnn_plan *plan = room->plans;
        room->plans = plan->next;
        dnn_graph_free(plan->graph);
        free(plan);
    }
    if (room->handle) cudnnDestroy(room->handle);
    free(room);
    device->dnn = NULL;
}

/* The plan for a shape, made at its first use; NULL: none. */
static dnn_plan *plan_of(cuda_device *device, const dnn_shape *shape)
{
    dnn_room *room = room_of(device);
    if (!room || !room->handle) return NULL;
    for (dnn_plan *plan = room->plans; plan; plan = plan->next)
        if (!memcmp(&plan->shape, shape, sizeof *shape)) return plan->plan ? plan : NULL;
    dnn_plan *plan = (dnn_plan *)calloc(1, sizeof *plan);
    if (!plan) return NULL;
    plan->shape = *shape;
    plan->graph = dnn_graph_make(shape, room->handle);
    if (plan->graph) plan->plan = dnn_graph_plan(plan->graph, room->handle, NULL, &plan->workspace);
    plan->next = room->plans;
    room->plans = plan;
    return plan->plan ? plan : NULL;
}

/* ---- shapes ---- */

/* n rounded up to one of four steps between powers of two, and to a multiple of `least`. */
static int64_t rounded_up(int64_t n, int64_t least)
{
    int64_t step = least;
    while (step * 8 <= n) step *= 2;
    return n < 1 ? least : (n + step - 1) / step * step;
}

static void set(dnn_shape *shape, int operand, const crank_view *x) { shape->token[operand] = x->strides[0], shape->head[operand] = x->strides[1]; }
static void set_dense(dnn_shape *shape, int operand, int64_t heads, int64_t d) { shape->token[operand] = heads * d, shape->head[operand] = d; }

static dnn_shape shape_of(const crank_call *call, bool backward)
{
    const crank_attention_attributes *attributes = (const crank_attention_attributes *)call->attributes;
    const crank_view *in = call->in, *q = &in[backward], *k = &in[backward + 1], *v = &in[backward + 2], *segments = &in[backward ? 6 : 3];
    dnn_shape         s;
    memset(&s, 0, sizeof s);
    s.batch = rounded_up(segments->dims[0] - 1, 1);
    s.longest = rounded_up(attributes->longest < q->dims[0] ? attributes->longest : q->dims[0], TILE);
    s.hq = q->dims[1], s.hk = k->dims[1], s.d = q->dims[2];
    s.type = q->dtype == CRANK_BF16 ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_HALF;
    s.causal = attributes->mask == CRANK_MASK_CAUSAL, s.backward = backward;
    set(&s, DNN_Q, q), set(&s, DNN_K, k), set(&s, DNN_V, v), set(&s, DNN_O, backward ? &in[4] : &call->out[0]);
    set_dense(&s, DNN_STATS, s.hq, 1);
    if (!backward) return s;
    set(&s, DNN_DO, &in[0]), set(&s, DNN_DQ, &call->out[0]), set(&s, DNN_DK, &call->out[1]), set(&s, DNN_DV, &call->out[2]);
    return s;
}

bool attention_dnn_serves(const crank_call *call, bool backward)
{
    const crank_attention_attributes *a = (const crank_attention_attributes *)call->attributes;
    const crank_view                 *q = &call->in[backward], *segments = &call->in[backward ? 6 : 3];
    cuda_device                      *device = cuda_of(call);
    if (q->dtype != CRANK_BF16 && q->dtype != CRANK_F16) return false;
    if (q->dims[0] == 0 || q->dims[2] % 8 || q->dims[2] < 16 || q->dims[2] > 128 || segments->dims[0] < 2) return false;
    if (a->longest <= OWN_LONGEST || (a->window > 0 && a->window < a->longest)) return false;
    if (device->major != 9 && device->major != 10) return false; /* packed rows need Hopper, or Blackwell's data centre cards */
    if (backward && device->deterministic) return false;
    dnn_shape shape = shape_of(call, backward);
    for (int i = DNN_Q; i < DNN_OPERANDS; i++) /* heads side by side: cuDNN 9.14 sums groups wrongly where they are not */
        if (i != DNN_STATS && shape.token[i] && shape.head[i] != shape.d) return false;
    if (backward && shape.d % 16) return false;
    /* what is padded to the longest must not outgrow the rows */
    if (shape.batch * shape.longest > 3 * q->dims[0] && shape.batch * shape.longest > 1 << 15) return false;
    return plan_of(device, &shape) != NULL;
}

/* ---- workspace ---- */

typedef struct parts {
    size_t lengths, offsets, stats, delta, dq_sum, plan, end;
} parts;

static size_t take(size_t *at, int64_t bytes)
{
    size_t here = *at;
    *at += ((size_t)bytes + 255) / 256 * 256;
    return here;
}

static parts parts_of(const dnn_shape *s, int64_t n, int64_t plan_bytes)
{
    parts   p;
    size_t  at = 0;
    int64_t rows = n * s->hq * (int64_t)sizeof(float), padded = (s->batch * s->hq * s->longest + TILE) * (int64_t)sizeof(float);
    p.lengths = take(&at, s->batch * (int64_t)sizeof(int));
    p.offsets = take(&at, ATTENTION_SLOTS * (s->batch + 1) * (int64_t)sizeof(int64_t));
    p.stats = take(&at, rows);
    p.delta = take(&at, s->backward ? padded : 0);
    p.dq_sum = take(&at, s->backward ? padded * s->d : 0);
    p.plan = take(&at, plan_bytes);
    p.end = at;
    return p;
}

static size_t workspace_of(const crank_call *call, bool backward)
{
    dnn_shape shape = shape_of(call, backward);
    dnn_plan *plan = plan_of(cuda_of(call), &shape);
    size_t    general = backward ? attention_backward_workspace(call) : attention_workspace(call);
    size_t    bytes = parts_of(&shape, call->in[backward].dims[0], plan ? plan->workspace : 0).end;
    return bytes > general ? bytes : general;
}

size_t attention_dnn_workspace(const crank_call *call) { return workspace_of(call, false); }
size_t attention_dnn_backward_workspace(const crank_call *call) { return workspace_of(call, true); }

/* ---- runs ---- */

static void arrange(attention *a, const dnn_shape *shape, const parts *p, void *workspace)
{
    char *base = (char *)workspace;
    a->lengths = (int *)(base + p->lengths), a->offsets = (int64_t *)(base + p->offsets), a->stats = (float *)(base + p->stats);
    a->batch = (int)shape->batch, a->longest = (int)shape->longest, a->slots = 0;
    for (int i = 1; i < DNN_OPERANDS; i++) {
        int64_t stride;
        int     slot = dnn_offset_slot(shape, i, &stride);
        if (slot < 0) continue;
        a->slot_strides[slot] = stride;
        if (slot >= a->slots) a->slots = slot + 1;
    }
}

/* Queues a plan; operands[i] is the memory of operand i, NULL: not in this graph. */
static crank_status execute(crank_context *context, const crank_call *call, const dnn_plan *plan, const attention *a, void *const operands[DNN_OPERANDS],
                            void *workspace)
{
    int64_t names[2 * DNN_OPERANDS + 8];
    void   *memory[2 * DNN_OPERANDS + 8];
    int     count = 0;
    float   scale = (float)a->scale, hidden = -INFINITY, one = 1;
#define OPERAND(name, pointer) (names[count] = (name), memory[count] = (void *)(pointer), count++)
    for (int i = 1; i < DNN_OPERANDS; i++)
        if (operands[i]) OPERAND(i, operands[i]);
    for (int s = 0; s < a->slots; s++) OPERAND(DNN_OFFSETS + s, a->offsets + (int64_t)s * (a->batch + 1));
    OPERAND(DNN_SCALE, &scale);
    OPERAND(DNN_HIDDEN, &hidden);
    if (plan->shape.backward) OPERAND(DNN_ONE, &one);
    OPERAND(DNN_QUERIES, a->lengths);
    OPERAND(DNN_KEYS, a->lengths);
#undef OPERAND
    cudnnBackendDescriptor_t pack = NULL;
    cudnnStatus_t            status = cudnnBackendCreateDescriptor(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, &pack);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, names);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count, memory);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendSetAttribute(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendFinalize(pack);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendExecute(room_of(cuda_of(call))->handle, plan->plan, pack);
    if (pack) cudnnBackendDestroyDescriptor(pack);
    if (status == CUDNN_STATUS_SUCCESS) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "cuDNN: attention: %s", cudnnGetErrorString(status));
}

/* stats [n,hq] -> lse [hq,n] for the tokens of segments. 32 x 32 through shared memory. */
__global__ void __launch_bounds__(256) turn_stats(attention a)
{
    __shared__ float cells[32][33];
    int x = (int)threadIdx.x % 32, y = (int)threadIdx.x / 32, token0 = (int)blockIdx.x * 32, head0 = (int)blockIdx.y * 32;
    int first = min(max(a.segments[0], 0), a.n), last = min(max(a.segments[a.segment_ends - 1], 0), a.n);
    for (int i = y; i < 32; i += 8)
        if (token0 + i < a.n && head0 + x < a.hq) cells[i][x] = a.stats[(int64_t)(token0 + i) * a.hq + head0 + x];
    __syncthreads();
    for (int i = y; i < 32; i += 8) {
        int token = token0 + x, head = head0 + i;
        if (head < a.hq && token >= first && token < last) ((float *)a.lse)[head * a.lse_head + token] = cells[x][i];
    }
}

crank_status attention_dnn(crank_context *context, const crank_call *call)
{
    dnn_shape shape = shape_of(call, false);
    dnn_plan *plan = plan_of(cuda_of(call), &shape);
    attention a = attention_of(call, ATTENTION_ROWS);
    if (!plan || !memory_serves(call, &a)) return attention_general(context, call);
    parts p = parts_of(&shape, a.n, plan->workspace);
    arrange(&a, &shape, &p, call->workspace);
    void *operands[DNN_OPERANDS] = {NULL};
    operands[DNN_Q] = a.q.data, operands[DNN_K] = a.k.data, operands[DNN_V] = a.v.data, operands[DNN_O] = a.o.data, operands[DNN_STATS] = a.stats;
    crank_status status = attention_begin(context, call, &a, call->in[0].dtype);
    if (status == CRANK_OK) status = execute(context, call, plan, &a, operands, (char *)call->workspace + p.plan);
    if (status != CRANK_OK) return status;
    turn_stats<<<dim3(blocks_for(a.n, 32), blocks_for(a.hq, 32)), 256, 0, cuda_stream(call)>>>(a);
    return cuda_launched(context, "statistics of attention");
}

crank_status attention_dnn_backward(crank_context *context, const crank_call *call)
{
    dnn_shape shape = shape_of(call, true);
    dnn_plan *plan = plan_of(cuda_of(call), &shape);
    attention a = attention_backward_of(call, ATTENTION_ROWS);
    if (!plan || !memory_serves(call, &a)) return attention_backward_general(context, call);
    parts p = parts_of(&shape, a.n, plan->workspace);
    char *base = (char *)call->workspace;
    arrange(&a, &shape, &p, base);
    void *operands[DNN_OPERANDS] = {NULL};
    operands[DNN_Q] = a.q.data, operands[DNN_K] = a.k.data, operands[DNN_V] = a.v.data, operands[DNN_O] = a.o.data, operands[DNN_DO] = a.dout.data;
    operands[DNN_DQ] = a.dq.data, operands[DNN_DK] = a.dk.data, operands[DNN_DV] = a.dv.data;
    operands[DNN_STATS] = a.stats, operands[DNN_DELTA] = base + p.delta, operands[DNN_DQ_SUM] = base + p.dq_sum;
    crank_status status = attention_begin(context, call, &a, call->in[1].dtype);
    return status == CRANK_OK ? execute(context, call, plan, &a, operands, base + p.plan) : status;
}
#endif
