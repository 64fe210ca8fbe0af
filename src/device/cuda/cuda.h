/* cuda.h - what the rooms of the CUDA device share: its state, errors, views as kernels see them, and the table of bodies.
 *
 * The device is a plugin (libcrank-cuda.so) that the program loads when a GPU is asked for. It uses the public functions of crank
 * only. All work of a device goes to one stream; a body queues kernels and returns. Outside of its first call no body
 * allocates, waits, or reads device memory on the host, so that a run of a graph can be captured and replayed: what it must prepare (a
 * plan of cuBLASLt or cuDNN) it prepares at its first call and keeps in call->slot or with the device. */
#ifndef CRANK_DEVICE_CUDA_H
#define CRANK_DEVICE_CUDA_H

#include <cublasLt.h>
#include <cuda_runtime.h>

#include "crank/device.h"
#include "crank/operations.h"

typedef struct cuda_device {
    int              ordinal, major, minor; /* CUDA's number of the card; its compute capability */
    int              processors;            /* streaming multiprocessors */
    size_t           shared;                /* bytes of shared memory that one block may ask for */
    bool             deterministic;         /* only bodies that give the same bits every time */
    cudaStream_t     stream;
    cublasLtHandle_t lt;
    void            *dnn;                   /* cudnnHandle_t, made at the first use; NULL: none yet */
    struct cuda_plans *plans;               /* tuned products by shape */
    struct cuda_group *group;               /* the GPUs of other processes; NULL: alone */
} cuda_device;

static inline cuda_device *cuda_of(const crank_call *call) { return (cuda_device *)call->device->state; }
static inline cudaStream_t cuda_stream(const crank_call *call) { return cuda_of(call)->stream; }

/* CRANK_FAILED with what was tried and CUDA's word for it; CRANK_OK for cudaSuccess. */
crank_status cuda_check(crank_context *context, cudaError_t error, const char *what);
/* The same for the launch of a kernel. */
crank_status cuda_launched(crank_context *context, const char *what);

static inline bool cuda_present(const crank_view *view) { return view->rank >= 0; }
static inline bool cuda_is(const crank_view *view, crank_dtype dtype) { return view->dtype == dtype; }
static inline int64_t cuda_last(const crank_view *view) { return view->rank ? view->dims[view->rank - 1] : 1; }
static inline bool cuda_aligned(const void *pointer, size_t bytes) { return ((uintptr_t)pointer & (bytes - 1)) == 0; }

/* One body: whether it serves a call (types, dims, strides; data may be NULL) and the workspace that it needs (NULL: none). Entries of
 * one operation are tried in the order of the table. */
typedef struct cuda_entry {
    const char *operation, *name; /* name: "cuda", "cudnn", "cublaslt", ...: as the plan's table shows it */
    crank_kernel *run;
    bool (*serves)(const crank_call *call); /* NULL: all that operations.h allows */
    size_t (*workspace)(const crank_call *call);
} cuda_entry;

/* Each room's table ends with a NULL operation. */
extern const cuda_entry cuda_elementwise[], cuda_shape[], cuda_rows[], cuda_norm[], cuda_reduce[], cuda_matmul[], cuda_attention[],
    cuda_head[], cuda_sparse[], cuda_select[], cuda_quantized[], cuda_scaled[], cuda_columns[],
    cuda_update[], cuda_collectives[];

void cuda_plans_free(struct cuda_plans *plans);
void cuda_dnn_close(cuda_device *device); /* frees what attention made */

crank_status cuda_join(crank_context *context, crank_device *device, const crank_group *processes);
void         cuda_group_close(cuda_device *device);
/* Until the device's stream has done its work; in a group also until an error of another process is known, or its patience is over. */
crank_status cuda_wait(crank_context *context, cuda_device *device, const char *what);

#endif
