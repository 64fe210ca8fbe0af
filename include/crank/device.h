/* device.h - the device table: memory, copies, and a body for each operation of operations.h.
 *
 * A device finds a *body* (kernel) for an operation on given views. The CPU device tries bodies in this order: those for the
 * processor's best instructions (AMX, AVX-512 BF16, AVX-512, AVX2), then the plain body, which exists for every operation,
 * every float type and any strides, and which is the oracle of all others. A body says by returning NULL from its finder
 * that it does not serve these types, strides or sizes; which one was taken is told by name and stands in the plan's table. */
#ifndef CRANK_DEVICE_H
#define CRANK_DEVICE_H

#include "crank/tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct crank_device crank_device;

/* The processes that share a run, and their collectives on host memory (MPI's). All call the same collectives in the same order. A sum over
 * f32, bf16, f16 or f64 goes to process `root`, or with root < 0 to all; elsewhere the values are lost. */
typedef struct crank_group crank_group;
struct crank_group {
    int         rank, size;
    double      patience; /* seconds that a device waits for what others owe it before it gives up; 0: for ever */
    const void *table;    /* of the room that made it */
    crank_status (*sum)(crank_context *context, const crank_group *group, void *values, size_t count, crank_dtype dtype, int root);
    crank_status (*broadcast)(crank_context *context, const crank_group *group, void *bytes, size_t count, int root);
};

/* One call of a body. Views of optional operands that are absent have data == NULL and rank == -1. */
typedef struct crank_call {
    crank_device     *device;
    const crank_view *in;
    int               inputs;
    const crank_view *out;
    int               outputs;
    const void       *attributes; /* the operation's struct in operations.h, or NULL */
    void             *workspace;  /* at least what `workspace` asked for; contents undefined */
    void            **slot;       /* a place of this node that lives as long as the graph: a body keeps there what it
                                     prepares once (a primitive); freed through slot_free. NULL in immediate calls */
    void (**slot_free)(void *);
} crank_call;

typedef crank_status crank_kernel(crank_context *context, const crank_call *call);

typedef struct crank_body {
    const char   *name;      /* "plain", "avx2", "avx512", "onednn", "cuda", ... */
    crank_kernel *run;
    size_t        workspace; /* bytes that a call needs */
} crank_body;

struct crank_device {
    const char *name;   /* "cpu", "cuda:0" */
    const char *level;  /* "avx2", "avx512", "sm_90a": the set of bodies in use; equal bits are promised within one */
    bool        host;   /* its memory can be read and written by the host */
    bool        bf16;   /* products in bf16 are native */
    int64_t     room;   /* a frozen weight of 16 bits with a low-rank term of at most this rank should have as much room (crank_param_make_room) for
                           "matmul_augmented"; 0: there is no use for it */
    size_t      grain;  /* memory is taken in whole numbers of so many bytes; small requests share them. 0: it is not known */
    void       *state;
    /* A body for an operation on these views (data pointers may be NULL: only types, dims and strides count). False: none. */
    bool (*find)(crank_device *device, const char *operation, const crank_call *call, crank_body *body);
    void *(*alloc)(crank_context *context, crank_device *device, size_t bytes, const char *what); /* zeroed, 64-byte aligned (256 on a GPU) */
    void (*free)(crank_device *device, void *memory);
    crank_status (*upload)(crank_context *context, crank_device *device, void *to, const void *host, size_t bytes);
    crank_status (*download)(crank_context *context, crank_device *device, void *host, const void *from, size_t bytes);
    crank_status (*synchronize)(crank_context *context, crank_device *device);
    void (*close)(crank_device *device);
    /* Bodies that are called between capture_begin and capture_end are recorded instead of run; `launch` runs all of them at once, on
     * the same memory, as often as wanted. NULL where a run is a plain loop. */
    crank_status (*capture_begin)(crank_context *context, crank_device *device);
    crank_status (*capture_end)(crank_context *context, crank_device *device, void **program);
    crank_status (*launch)(crank_context *context, crank_device *device, void *program);
    void (*program_free)(crank_device *device, void *program);
    /* Bytes of device memory that are free, and all; NULL on a host device (the system tells). */
    crank_status (*memory)(crank_context *context, crank_device *device, size_t *available, size_t *total);
    /* Makes it one of a group of devices: what the operations "group_.." reach. The group outlives the device; all processes call it, once.
     * Before it, or in a group of one, these operations are copies. */
    crank_status (*join)(crank_context *context, crank_device *device, const crank_group *group);
    const crank_group *group; /* that it has joined, or NULL */
};

/* Opens a device by name: "cpu", "cuda" (the first card) or "cuda:N"; "auto" takes a card when there is one. `bodies` as for
 * crank_device_cpu. CUDA lives in a plugin, libcrank-cuda.so, which is looked for in $CRANK_CUDA_PLUGIN, beside the program, and in
 * the library folders of its installation. */
typedef struct crank_device_options {
    const char *name;          /* NULL: "cpu" */
    const char *bodies;        /* of the CPU device; may be NULL */
    bool        deterministic; /* only bodies that give the same bits every time; the CPU's always do */
} crank_device_options;
CRANK_API crank_device *crank_device_open(crank_context *context, const crank_device_options *options);

/* One line for each GPU that could be opened (i from 0); false past the last, with the reason in `text` when i is 0. */
CRANK_API bool crank_device_describe(int i, char *text, size_t size);

/* One line on the library that GPUs of several processes sum with; false: the reason why there is none. */
CRANK_API bool crank_device_describe_group(char *text, size_t size);

/* The CPU device. `bodies` restricts the choice for tests: "plain", "avx2", "avx512", "avx512bf16", "amx" name the highest
 * level that may be used; NULL the best that this processor has (CRANK_BODIES in the environment has the same effect). A
 * level that the processor lacks is an error. Freed with device->close. */
CRANK_API crank_device *crank_device_cpu(crank_context *context, const char *bodies);

/* "avx2", "avx512", ...: the levels that this processor can run, best last. Returns their number. */
CRANK_API int crank_cpu_levels(const char **names, int capacity);

/* Runs one operation at once (allocating its workspace): tests, spectra, calibration. */
CRANK_API crank_status crank_run_once(crank_context *context, crank_device *device, const char *operation, const crank_view *in,
                                      int inputs, const crank_view *out, int outputs, const void *attributes);

#ifdef __cplusplus
}
#endif
#endif
