/* group.cu - collectives over the GPUs of several processes, through NCCL, beside the device's own work.
 *
 * NCCL is loaded when a device joins a group (libnccl.so.2, or the file that CRANK_NCCL names): crank neither builds with it nor needs it for
 * one GPU. Its functions and numbers below are those of nccl.h, which have not changed since version 2.10.
 *
 * A collective is begun on a stream of its own that first waits for what the device's stream has queued so far, and is waited for by an
 * event. Both are recorded by a capture as the branches of a graph, so a captured step overlaps as a plain one does:
 *
 *     device's stream    .. dW_k ..  begun_b ...  dW_k+1 ..  dW_k+2 ......  wait for ended_b, update
 *     group's stream                 wait for begun_b, sum, ended_b
 *
 * The host polls while it waits: NCCL tells of a broken link only when it is asked, and a process that is gone tells nothing. */
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "device/cuda/cuda.h"
#include "device/cuda/plugin.h"

/* ---- NCCL ---- */

typedef struct nccl_comm *nccl_communicator;
typedef struct nccl_id {
    char bytes[128];
} nccl_id;
enum { NCCL_SUCCESS = 0, NCCL_IN_PROGRESS = 7, NCCL_UINT8 = 1, NCCL_FLOAT16 = 6, NCCL_FLOAT32 = 7, NCCL_FLOAT64 = 8, NCCL_BFLOAT16 = 9, NCCL_SUM = 0 };

typedef struct nccl_api {
    int (*version)(int *version);
    int (*unique_id)(nccl_id *id);
    int (*init_rank)(nccl_communicator *communicator, int size, nccl_id id, int rank);
    int (*abort)(nccl_communicator communicator);
    int (*async_error)(nccl_communicator communicator, int *error);
    const char *(*error_text)(int error);
    int (*all_reduce)(const void *from, void *to, size_t count, int type, int operation, nccl_communicator communicator, cudaStream_t stream);
    int (*reduce)(const void *from, void *to, size_t count, int type, int operation, int root, nccl_communicator communicator, cudaStream_t stream);
    int (*broadcast)(const void *from, void *to, size_t count, int type, int root, nccl_communicator communicator, cudaStream_t stream);
    int (*group_start)(void);
    int (*group_end)(void);
} nccl_api;

static bool load(nccl_api *api, char *why, size_t size)
{
    const char *named = getenv("CRANK_NCCL"), *path = named && *named ? named : "libnccl.so.2";
    void       *library = dlopen(path, RTLD_NOW | RTLD_LOCAL); /* stays: its threads may outlive a communicator */
    const struct {
        const char *name;
        void      **place;
    } functions[] = {{"ncclGetVersion", (void **)&api->version},
                     {"ncclGetUniqueId", (void **)&api->unique_id},
                     {"ncclCommInitRank", (void **)&api->init_rank},
                     {"ncclCommAbort", (void **)&api->abort},
                     {"ncclCommGetAsyncError", (void **)&api->async_error},
                     {"ncclGetErrorString", (void **)&api->error_text},
                     {"ncclAllReduce", (void **)&api->all_reduce},
                     {"ncclReduce", (void **)&api->reduce},
                     {"ncclBroadcast", (void **)&api->broadcast},
                     {"ncclGroupStart", (void **)&api->group_start},
                     {"ncclGroupEnd", (void **)&api->group_end}};
    if (!library) {
        const char *error = dlerror();
        snprintf(why, size, "%s", error ? error : path);
        return false;
    }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (!(*functions[i].place = dlsym(library, functions[i].name))) {
            snprintf(why, size, "%s has no %s", path, functions[i].name);
            return false;
        }
    return true;
}

extern "C" __attribute__((visibility("default"))) bool crank_cuda_describe_group(char *text, size_t size)
{
    nccl_api api;
    int      version = 0;
    if (!load(&api, text, size)) return false;
    if (api.version(&version) != NCCL_SUCCESS) {
        snprintf(text, size, "NCCL does not tell its version");
        return false;
    }
    snprintf(text, size, "NCCL %d.%d.%d", version / 10000, version % 10000 / 100, version % 100);
    return true;
}

/* ---- the group of a device ---- */

struct cuda_group {
    nccl_api           api;
    nccl_communicator  communicator; /* NULL once it is aborted */
    cudaStream_t       stream;
    const crank_group *processes;
    cudaEvent_t       *begun, *ended; /* by bucket */
    int                events;
};

static crank_status check(crank_context *context, const cuda_group *g, int error, const char *what)
{
    if (error == NCCL_SUCCESS || error == NCCL_IN_PROGRESS) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "process %d of %d: NCCL: %s: %s (NCCL_DEBUG=WARN tells more)", g->processes->rank, g->processes->size, what, g->api.error_text(error));
}

/* Frees what NCCL has without waiting for other processes, which may have failed: kernels that wait for them end, and the stream with them. */
static void leave(cuda_group *g)
{
    if (g->communicator) g->api.abort(g->communicator);
    g->communicator = NULL;
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* NCCL has heard of an error, or the time is over. */
static crank_status look(crank_context *context, cuda_group *g, double waited)
{
    int          error = NCCL_SUCCESS;
    crank_status status = check(context, g, g->api.async_error(g->communicator, &error), "asking for errors");
    if (status == CRANK_OK) status = check(context, g, error, "a sum over processes");
    if (status == CRANK_OK && g->processes->patience > 0 && waited > g->processes->patience)
        status = crank_fail(context, CRANK_FAILED,
                            "process %d of %d waited %.0f s for the others (train.timeout): one of them has stopped or does something else. The same command goes on from the last checkpoint",
                            g->processes->rank, g->processes->size, waited);
    if (status != CRANK_OK) leave(g);
    return status;
}

crank_status cuda_wait(crank_context *context, cuda_device *state, const char *what)
{
    cuda_group *g = state->group;
    double      start = 0;
    if (!g || !g->communicator) return cuda_check(context, cudaStreamSynchronize(state->stream), what);
    for (long round = 0;; round++) {
        cudaError_t error = cudaStreamQuery(state->stream);
        if (error != cudaErrorNotReady) return cuda_check(context, error, what);
        (void)cudaGetLastError(); /* not ready is no error */
        if (round == 0) start = seconds();
        double waited = seconds() - start;
        if (round % 64 == 63) {
            crank_status status = look(context, g, waited);
            if (status != CRANK_OK) return status;
        }
        if (waited < 1e-4) sched_yield();
        else usleep(20);
    }
}

void cuda_group_close(cuda_device *state)
{
    cuda_group *g = state->group;
    if (!g) return;
    leave(g);
    for (int i = 0; i < g->events; i++) {
        cudaEventDestroy(g->begun[i]);
        cudaEventDestroy(g->ended[i]);
    }
    if (g->stream) cudaStreamDestroy(g->stream);
    free(g->begun);
    free(g->ended);
    free(g);
    state->group = NULL;
}

/* ---- joining ---- */

/* All processes have come so far; else an error in each, so that none waits for one that has left. */
static crank_status agree(crank_context *context, const crank_group *processes, crank_status status, const char *what)
{
    char   own[512] = "";
    double good = status == CRANK_OK;
    if (status != CRANK_OK) snprintf(own, sizeof own, "%s", crank_message(context));
    crank_status summed = processes->sum(context, processes, &good, 1, CRANK_F64, -1);
    if (summed != CRANK_OK) return summed;
    if (status != CRANK_OK) return crank_fail(context, status, "%s", own);
    if (good == processes->size) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "process %d of %d: %s failed in another process", processes->rank, processes->size, what);
}

static crank_status load_all(crank_context *context, cuda_group *g)
{
    char         why[384] = "";
    crank_status status = CRANK_OK;
    if (!load(&g->api, why, sizeof why))
        status = crank_fail(context, CRANK_USAGE,
                            "GPUs of several processes sum gradients with NCCL, which cannot be loaded: %s. Install it (libnccl2), name its file in CRANK_NCCL, start one process, or set model.device=cpu", why);
    return agree(context, g->processes, status, "loading NCCL");
}

static crank_status connect(crank_context *context, cuda_group *g)
{
    const crank_group *p = g->processes;
    struct {
        nccl_id id;
        int     error;
    } first;
    memset(&first, 0, sizeof first);
    if (p->rank == 0) first.error = g->api.unique_id(&first.id);
    crank_status status = p->broadcast(context, p, &first, sizeof first, 0);
    if (status == CRANK_OK) status = check(context, g, first.error, "making the group's key");
    if (status != CRANK_OK) return status;
    status = check(context, g, g->api.init_rank(&g->communicator, p->size, first.id, p->rank), "joining the group");
    return agree(context, p, status, "joining the group of GPUs");
}

/* The first collectives make NCCL's connections and take their memory, before a run plans its own; one of known result shows that they work. */
static crank_status warm_up(crank_context *context, cuda_device *state, cuda_group *g)
{
    enum { BYTES = 16 << 20 };
    float        one = 1, *buffer = NULL;
    crank_status status = cuda_check(context, cudaMalloc(&buffer, BYTES), "memory to try the group with");
    if (status != CRANK_OK) return agree(context, g->processes, status, "trying the group of GPUs");
    status = cuda_check(context, cudaMemsetAsync(buffer, 0, BYTES, state->stream), "trying the group");
    if (status == CRANK_OK) status = cuda_check(context, cudaMemcpyAsync(buffer, &one, sizeof one, cudaMemcpyHostToDevice, state->stream), "trying the group");
    status = agree(context, g->processes, status, "trying the group of GPUs");
    if (status == CRANK_OK) status = check(context, g, g->api.all_reduce(buffer, buffer, 1, NCCL_FLOAT32, NCCL_SUM, g->communicator, state->stream), "a first sum");
    if (status == CRANK_OK) status = check(context, g, g->api.all_reduce(buffer + 1, buffer + 1, BYTES / sizeof one - 1, NCCL_FLOAT32, NCCL_SUM, g->communicator, state->stream), "a first sum");
    if (status == CRANK_OK) status = check(context, g, g->api.reduce(buffer + 1, buffer + 1, 1, NCCL_FLOAT32, NCCL_SUM, 0, g->communicator, state->stream), "a first sum to one");
    if (status == CRANK_OK) status = check(context, g, g->api.broadcast(buffer, buffer, 1, NCCL_FLOAT32, 0, g->communicator, state->stream), "a first broadcast");
    if (status == CRANK_OK) status = cuda_wait(context, state, "trying the group");
    if (status == CRANK_OK) status = cuda_check(context, cudaMemcpy(&one, buffer, sizeof one, cudaMemcpyDeviceToHost), "trying the group");
    if (status == CRANK_OK && one != (float)g->processes->size)
        status = crank_fail(context, CRANK_FAILED, "process %d of %d: NCCL sums %d ones to %g", g->processes->rank, g->processes->size, g->processes->size, (double)one);
    cudaFree(buffer);
    return agree(context, g->processes, status, "trying the group of GPUs");
}

crank_status cuda_join(crank_context *context, crank_device *device, const crank_group *processes)
{
    cuda_device *state = (cuda_device *)device->state;
    int          least = 0, most = 0;
    if (state->group || device->group) return crank_fail(context, CRANK_USAGE, "%s has joined a group already", device->name);
    device->group = processes;
    if (processes->size < 2) return CRANK_OK;
    /* A graph that is captured with registered buffers would bind its addresses to those of the other processes' graphs; who sets it decides. */
    setenv("NCCL_GRAPH_REGISTER", "0", 0);
    cuda_group *g = (cuda_group *)calloc(1, sizeof *g);
    if (!g) return crank_fail(context, CRANK_FAILED, "out of memory: a group of devices");
    g->processes = processes;
    state->group = g; /* from here on the device frees it */
    crank_status status = load_all(context, g);
    if (status == CRANK_OK) status = cuda_check(context, cudaDeviceGetStreamPriorityRange(&least, &most), "priorities of streams");
    if (status == CRANK_OK) status = cuda_check(context, cudaStreamCreateWithPriority(&g->stream, cudaStreamNonBlocking, most), "a stream");
    if (status == CRANK_OK) status = connect(context, g);
    if (status == CRANK_OK) status = warm_up(context, state, g);
    if (status != CRANK_OK) leave(g);
    return status;
}

/* ---- bodies ---- */

static crank_status reserve_events(crank_context *context, cuda_group *g, int bucket)
{
    while (g->events <= bucket) {
        size_t       bytes = ((size_t)g->events + 1) * sizeof(cudaEvent_t);
        cudaEvent_t *begun = (cudaEvent_t *)realloc(g->begun, bytes);
        if (begun) g->begun = begun;
        cudaEvent_t *ended = (cudaEvent_t *)realloc(g->ended, bytes);
        if (ended) g->ended = ended;
        if (!begun || !ended) return crank_fail(context, CRANK_FAILED, "out of memory: events of sums");
        crank_status status = cuda_check(context, cudaEventCreateWithFlags(&g->begun[g->events], cudaEventDisableTiming), "an event");
        if (status != CRANK_OK) return status;
        status = cuda_check(context, cudaEventCreateWithFlags(&g->ended[g->events], cudaEventDisableTiming), "an event");
        if (status != CRANK_OK) {
            cudaEventDestroy(g->begun[g->events]);
            return status;
        }
        g->events++;
    }
    return CRANK_OK;
}

static crank_status alive(crank_context *context, const cuda_group *g)
{
    if (g->communicator) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "process %d of %d: the group of GPUs has broken up", g->processes->rank, g->processes->size);
}

/* The group's stream goes on behind what is queued. */
static crank_status branch(crank_context *context, const crank_call *call, cuda_group *g, int bucket)
{
    crank_status status = alive(context, g);
    if (status == CRANK_OK) status = reserve_events(context, g, bucket);
    if (status == CRANK_OK) status = cuda_check(context, cudaEventRecord(g->begun[bucket], cuda_stream(call)), "beginning a sum");
    if (status == CRANK_OK) status = cuda_check(context, cudaStreamWaitEvent(g->stream, g->begun[bucket], 0), "beginning a sum");
    return status;
}

static int type_of(crank_dtype dtype)
{
    switch (dtype) {
    case CRANK_F64: return NCCL_FLOAT64;
    case CRANK_BF16: return NCCL_BFLOAT16;
    case CRANK_F16: return NCCL_FLOAT16;
    default: return NCCL_FLOAT32;
    }
}

static crank_status copy_over(crank_context *context, const crank_call *call, const crank_view *x, const crank_view *y)
{
    if (x->data == y->data || !crank_view_bytes(x)) return CRANK_OK;
    return cuda_check(context, cudaMemcpyAsync(y->data, x->data, crank_view_bytes(x), cudaMemcpyDeviceToDevice, cuda_stream(call)), "a copy before a sum");
}

static crank_status run_sum(crank_context *context, const crank_call *call)
{
    const crank_group_attributes *a = (const crank_group_attributes *)call->attributes;
    cuda_group                   *g = cuda_of(call)->group;
    crank_status                  status = CRANK_OK;
    for (int i = 0; i < call->outputs - 1 && status == CRANK_OK; i++)
        if (cuda_present(&call->out[i])) status = copy_over(context, call, &call->in[i], &call->out[i]);
    if (!g || status != CRANK_OK) return status;
    if ((status = branch(context, call, g, a->bucket)) != CRANK_OK) return status;
    int error = g->api.group_start();
    for (int i = 0; i < call->outputs - 1 && error == NCCL_SUCCESS; i++) {
        const crank_view *y = cuda_present(&call->out[i]) ? &call->out[i] : &call->in[i];
        size_t            count = (size_t)crank_view_count(y);
        if (!count) continue;
        if (a->root[i] < 0) error = g->api.all_reduce(y->data, y->data, count, type_of(y->dtype), NCCL_SUM, g->communicator, g->stream);
        else error = g->api.reduce(y->data, y->data, count, type_of(y->dtype), NCCL_SUM, a->root[i], g->communicator, g->stream);
    }
    int ended = g->api.group_end();
    status = check(context, g, error != NCCL_SUCCESS ? error : ended, "a sum over processes");
    return status == CRANK_OK ? cuda_check(context, cudaEventRecord(g->ended[a->bucket], g->stream), "the end of a sum") : status;
}

static crank_status run_broadcast(crank_context *context, const crank_call *call)
{
    const crank_group_attributes *a = (const crank_group_attributes *)call->attributes;
    cuda_group                   *g = cuda_of(call)->group;
    if (!g) return CRANK_OK;
    crank_status status = branch(context, call, g, a->bucket);
    if (status != CRANK_OK) return status;
    int error = g->api.group_start();
    for (int i = 0; i < call->outputs - 1 && error == NCCL_SUCCESS; i++) {
        const crank_view *x = &call->in[i];
        if (crank_view_bytes(x)) error = g->api.broadcast(x->data, x->data, crank_view_bytes(x), NCCL_UINT8, a->root[i], g->communicator, g->stream);
    }
    int ended = g->api.group_end();
    status = check(context, g, error != NCCL_SUCCESS ? error : ended, "a broadcast");
    return status == CRANK_OK ? cuda_check(context, cudaEventRecord(g->ended[a->bucket], g->stream), "the end of a broadcast") : status;
}

static crank_status run_settle(crank_context *context, const crank_call *call)
{
    const crank_group_attributes *a = (const crank_group_attributes *)call->attributes;
    cuda_group                   *g = cuda_of(call)->group;
    if (!g) return CRANK_OK;
    if (a->bucket >= g->events) return crank_fail(context, CRANK_FAILED, "a sum over processes is waited for before it is begun");
    return cuda_check(context, cudaStreamWaitEvent(cuda_stream(call), g->ended[a->bucket], 0), "waiting for a sum");
}

static crank_status run_wait(crank_context *context, const crank_call *call)
{
    crank_status status = run_settle(context, call);
    for (int i = 0; i < call->outputs - 1 && status == CRANK_OK; i++)
        if (cuda_present(&call->out[i])) status = copy_over(context, call, &call->in[i], &call->out[i]);
    return status;
}

const cuda_entry cuda_collectives[] = {{"group_sum", "nccl", run_sum, NULL, NULL},
                                       {"group_broadcast", "nccl", run_broadcast, NULL, NULL},
                                       {"group_wait", "nccl", run_wait, NULL, NULL},
                                       {"group_settle", "nccl", run_settle, NULL, NULL},
                                       {NULL, NULL, NULL, NULL, NULL}};
