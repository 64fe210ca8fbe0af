/* device.cu - the CUDA device: opening a card, memory, copies, the search for a body, and capture of a run for replay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "device/cuda/cuda.h"
#include "device/cuda/plugin.h"

crank_status cuda_check(crank_context *context, cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return CRANK_OK;
    return crank_fail(context, CRANK_FAILED, "CUDA: %s: %s", what, cudaGetErrorString(error));
}

crank_status cuda_launched(crank_context *context, const char *what) { return cuda_check(context, cudaGetLastError(), what); }

/* ---- bodies ---- */

static const cuda_entry *const rooms[] = {cuda_matmul, cuda_attention, cuda_head, cuda_norm, cuda_rows, cuda_elementwise, cuda_reduce, cuda_shape, cuda_update, cuda_sparse, cuda_select, cuda_quantized, cuda_scaled, cuda_columns, cuda_collectives};

static bool find(crank_device *device, const char *operation, const crank_call *call, crank_body *body)
{
    (void)device;
    for (const cuda_entry *room : rooms)
        for (const cuda_entry *entry = room; entry->operation; entry++)
            if (!strcmp(entry->operation, operation) && (!entry->serves || entry->serves(call))) {
                *body = (crank_body){entry->name, entry->run, entry->workspace ? entry->workspace(call) : 0};
                return true;
            }
    return false;
}

/* ---- memory ---- */

/* Behind a large allocation some bytes more: kernels of cuDNN read whole tiles of rows, past the last. */
enum { LARGE = 1 << 26, BEHIND = 1 << 22 };

static void *alloc(crank_context *context, crank_device *device, size_t bytes, const char *what)
{
    cuda_device *state = (cuda_device *)device->state;
    void        *memory = NULL;
    cudaError_t  error = cudaMalloc(&memory, bytes ? bytes + (bytes >= LARGE ? BEHIND : 0) : 1);
    if (error != cudaSuccess) {
        size_t available = 0, total = 0;
        (void)cudaGetLastError();
        cudaMemGetInfo(&available, &total);
        crank_fail(context, CRANK_FAILED, "out of GPU memory: %.1f MiB for %s, and %.1f of %.1f MiB are free: lower train.batch or data.context, or set memory.limit",
                   (double)bytes / 1048576.0, what, (double)available / 1048576.0, (double)total / 1048576.0);
        return NULL;
    }
    if (cuda_check(context, cudaMemsetAsync(memory, 0, bytes, state->stream), what) != CRANK_OK) {
        cudaFree(memory);
        return NULL;
    }
    return memory;
}

static void release(crank_device *device, void *memory)
{
    cuda_device *state = (cuda_device *)device->state;
    if (!memory) return;
    cudaStreamSynchronize(state->stream); /* what is queued may still use it */
    cudaFree(memory);
}

/* Pageable memory is staged before the call returns, so the caller may write it again at once. */
static crank_status upload(crank_context *context, crank_device *device, void *to, const void *host, size_t bytes)
{
    cuda_device *state = (cuda_device *)device->state;
    if (!bytes) return CRANK_OK;
    return cuda_check(context, cudaMemcpyAsync(to, host, bytes, cudaMemcpyHostToDevice, state->stream), "a copy to the GPU");
}

static crank_status download(crank_context *context, crank_device *device, void *host, const void *from, size_t bytes)
{
    cuda_device *state = (cuda_device *)device->state;
    if (!bytes) return CRANK_OK;
    if (state->group && cuda_wait(context, state, "waiting for the GPU") != CRANK_OK) return CRANK_FAILED; /* a copy would wait without looking */
    crank_status status = cuda_check(context, cudaMemcpyAsync(host, from, bytes, cudaMemcpyDeviceToHost, state->stream), "a copy from the GPU");
    return status == CRANK_OK ? cuda_check(context, cudaStreamSynchronize(state->stream), "waiting for the GPU") : status;
}

static crank_status synchronize(crank_context *context, crank_device *device)
{
    return cuda_wait(context, (cuda_device *)device->state, "waiting for the GPU");
}

/* ---- capture: what is queued between begin and end becomes a program that is launched at once ---- */

static crank_status capture_begin(crank_context *context, crank_device *device)
{
    cuda_device *state = (cuda_device *)device->state;
    return cuda_check(context, cudaStreamBeginCapture(state->stream, cudaStreamCaptureModeThreadLocal), "beginning a capture");
}

static crank_status capture_end(crank_context *context, crank_device *device, void **program)
{
    cuda_device    *state = (cuda_device *)device->state;
    cudaGraph_t     graph = NULL;
    cudaGraphExec_t executable = NULL;
    crank_status    status = cuda_check(context, cudaStreamEndCapture(state->stream, &graph), "ending a capture");
    if (status == CRANK_OK) status = cuda_check(context, cudaGraphInstantiate(&executable, graph, 0), "a captured run");
    if (graph) cudaGraphDestroy(graph);
    *program = executable;
    return status;
}

static crank_status launch(crank_context *context, crank_device *device, void *program)
{
    return cuda_check(context, cudaGraphLaunch((cudaGraphExec_t)program, ((cuda_device *)device->state)->stream), "replaying a run");
}

static void program_free(crank_device *device, void *program)
{
    if (!program) return;
    cudaStreamSynchronize(((cuda_device *)device->state)->stream);
    cudaGraphExecDestroy((cudaGraphExec_t)program);
}

static crank_status memory_of(crank_context *context, crank_device *device, size_t *available, size_t *total)
{
    (void)device;
    return cuda_check(context, cudaMemGetInfo(available, total), "asking for memory");
}

/* ---- opening ---- */

typedef struct opened {
    crank_device device;
    cuda_device  state;
    char         name[32], level[32];
} opened;

static void close_device(crank_device *device)
{
    if (!device) return;
    opened *o = (opened *)device;
    cuda_group_close(&o->state);
    cuda_dnn_close(&o->state);
    cuda_plans_free(o->state.plans);
    if (o->state.lt) cublasLtDestroy(o->state.lt);
    if (o->state.stream) cudaStreamDestroy(o->state.stream);
    free(o);
}

extern "C" __attribute__((visibility("default"))) int crank_cuda_count(char *why, size_t size)
{
    int         count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error == cudaSuccess) return count;
    (void)cudaGetLastError();
    snprintf(why, size, "%s", cudaGetErrorString(error));
    return 0;
}

extern "C" __attribute__((visibility("default"))) bool crank_cuda_describe(int ordinal, char *text, size_t size)
{
    cudaDeviceProp p;
    int            driver = 0, runtime = 0;
    if (cudaGetDeviceProperties(&p, ordinal) != cudaSuccess) return false;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    snprintf(text, size, "%s, sm_%d%d, %.1f GiB, %d multiprocessors; driver for CUDA %d.%d, runtime %d.%d, cuBLASLt %zu", p.name, p.major, p.minor,
             (double)p.totalGlobalMem / 1073741824.0, p.multiProcessorCount, driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10,
             cublasLtGetVersion());
    return true;
}

extern "C" __attribute__((visibility("default"))) crank_device *crank_cuda_open(crank_context *context, int ordinal, bool deterministic)
{
    cudaDeviceProp p;
    int            count = 0;
    if (cuda_check(context, cudaGetDeviceCount(&count), "looking for a GPU") != CRANK_OK) return NULL;
    if (ordinal < 0 || ordinal >= count) {
        crank_fail(context, CRANK_USAGE, "there is no GPU %d: this machine has %d", ordinal, count);
        return NULL;
    }
    if (cuda_check(context, cudaSetDevice(ordinal), "choosing a GPU") != CRANK_OK) return NULL;
    if (cuda_check(context, cudaGetDeviceProperties(&p, ordinal), "a GPU's properties") != CRANK_OK) return NULL;
    if (p.major < 8) {
        crank_fail(context, CRANK_USAGE, "%s has compute capability %d.%d: crank's kernels need 8.0 or newer", p.name, p.major, p.minor);
        return NULL;
    }
    opened *o = (opened *)calloc(1, sizeof *o);
    if (!o) {
        crank_fail(context, CRANK_FAILED, "out of memory: a device");
        return NULL;
    }
    o->state.ordinal = ordinal, o->state.major = p.major, o->state.minor = p.minor;
    o->state.processors = p.multiProcessorCount, o->state.shared = p.sharedMemPerBlockOptin, o->state.deterministic = deterministic;
    snprintf(o->name, sizeof o->name, "cuda:%d", ordinal);
    snprintf(o->level, sizeof o->level, "sm_%d%d", p.major, p.minor);
    o->device.name = o->name, o->device.level = o->level, o->device.host = false, o->device.bf16 = true, o->device.room = 64, o->device.grain = (size_t)2 << 20, o->device.state = &o->state;
    o->device.find = find, o->device.alloc = alloc, o->device.free = release, o->device.upload = upload, o->device.download = download;
    o->device.synchronize = synchronize, o->device.close = close_device, o->device.capture_begin = capture_begin, o->device.capture_end = capture_end;
    o->device.launch = launch, o->device.program_free = program_free, o->device.memory = memory_of, o->device.join = cuda_join;
    if (cuda_check(context, cudaStreamCreateWithFlags(&o->state.stream, cudaStreamNonBlocking), "a stream") != CRANK_OK ||
        cublasLtCreate(&o->state.lt) != CUBLAS_STATUS_SUCCESS) {
        if (o->state.stream) crank_fail(context, CRANK_FAILED, "cuBLASLt cannot start on %s", p.name);
        close_device(&o->device);
        return NULL;
    }
    return &o->device;
}
