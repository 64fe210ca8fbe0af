/* cpu.c - the CPU device: which instructions this processor and its system offer, memory, and the search for a body. */
#include <cpuid.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "device/cpu/bodies.h"
#include "device/cpu/product.h"
#include "device/operations.h"

#ifndef bit_AMX_TILE /* clang names them bit_AMXTILE and bit_AMXBF16, or not at all */
#define bit_AMX_TILE (1u << 24)
#define bit_AMX_BF16 (1u << 22)
#endif

static const char *const level_names[] = {"plain", "avx2", "avx512", "avx512bf16", "amx"};
enum { LEVELS = sizeof level_names / sizeof *level_names };

/* The register sets that the system saves on a switch of threads (XCR0). */
static uint64_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Linux hands out the large AMX tile state only to processes that ask for it. */
static bool ask_for_tiles(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}

cpu_level cpu_best_level(void)
{
    enum { SSE_AVX = 0x6, ZMM = 0xe6, TILES = 0x60000 };
    unsigned a, b, c, d, b7, c7, d7, a7_1, unused1, unused2, unused3;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE) || !__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return CPU_PLAIN;
    uint64_t saved = saved_registers();
    bool     vectors = (c & bit_AVX) && (c & bit_FMA) && (c & bit_F16C) && (saved & SSE_AVX) == SSE_AVX;
    if (!vectors || !(b7 & bit_AVX2)) return CPU_PLAIN;
    unsigned wanted = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((b7 & wanted) != wanted || (saved & ZMM) != ZMM) return CPU_AVX2;
    if (!__get_cpuid_count(7, 1, &a7_1, &unused1, &unused2, &unused3) || !(a7_1 & bit_AVX512BF16)) return CPU_AVX512;
    unsigned tiles = bit_AMX_TILE | bit_AMX_BF16;
    if ((d7 & tiles) != tiles || (saved & TILES) != TILES || !ask_for_tiles()) return CPU_AVX512BF16;
    return CPU_AMX;
}

int crank_cpu_levels(const char **names, int capacity)
{
    int count = (int)cpu_best_level() + 1;
    for (int i = 0; i < count && i < capacity; i++) names[i] = level_names[i];
    return count;
}

typedef struct cpu_state {
    cpu_level level;
    int       threads;
    size_t    cache;
} cpu_state;

int    cpu_threads(const crank_call *call) { return ((const cpu_state *)call->device->state)->threads; }
size_t cpu_cache(const crank_call *call) { return ((const cpu_state *)call->device->state)->cache; }

/* Operations that several fast ones do better than one plain one; the graph takes them apart where there is no body. */
static bool composed(const char *operation)
{
    static const char *const names[] = {"scale_columns", "scale_columns_backward", "glu_scaled", "glu_scaled_backward"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], operation)) return true;
    return false;
}

static bool find(crank_device *device, const char *operation, const crank_call *call, crank_body *body)
{
    const cpu_state *state = device->state;
    if (!operation_fits(operation, call, NULL, 0) || (state->level != CPU_PLAIN && composed(operation))) return false;
    for (const cpu_family *family = cpu_families; family->find; family++)
        if (family->level <= state->level && family->find(operation, call, state->threads, body)) return true;
    return false;
}

/* Large blocks start at 2 MiB and ask for large pages: fewer misses of the address cache in streaming kernels. */
static void *alloc(crank_context *context, crank_device *device, size_t bytes, const char *what)
{
    enum { LARGE_PAGE = 2 << 20 };
    (void)device;
    if (bytes < 2 * LARGE_PAGE) return crank_alloc(context, bytes, 1, what);
    size_t rounded = bytes <= SIZE_MAX - LARGE_PAGE ? (bytes + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE : bytes;
    void  *memory = rounded % LARGE_PAGE == 0 ? aligned_alloc(LARGE_PAGE, rounded) : NULL;
    if (!memory) {
        crank_fail(context, CRANK_FAILED, "out of memory: %zu bytes for %s", bytes, what);
        return NULL;
    }
    madvise(memory, rounded, MADV_HUGEPAGE);
    return memset(memory, 0, rounded);
}

static void release(crank_device *device, void *memory)
{
    (void)device;
    crank_free(memory);
}

static crank_status copy_bytes(crank_context *context, crank_device *device, void *to, const void *from, size_t bytes)
{
    (void)context, (void)device;
    if (bytes) memcpy(to, from, bytes);
    return CRANK_OK;
}

static crank_status synchronize(crank_context *context, crank_device *device)
{
    (void)context, (void)device;
    return CRANK_OK;
}

static crank_status join(crank_context *context, crank_device *device, const crank_group *group)
{
    (void)context;
    device->group = group;
    return CRANK_OK;
}

static void close_device(crank_device *device)
{
    if (!device) return;
    crank_free(device->state);
    crank_free(device);
}

/* What a few threads can hope to find again in the last cache. The system tells the sum over all groups of cores, a
 * thread reaches the cache of its own group, of 16 to 32 MiB on most processors. */
static size_t cache_share(void)
{
    long all = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return all > 0 && all < 32 << 20 ? (size_t)all : (size_t)32 << 20;
}

/* The level that `bodies` or CRANK_BODIES names, -1 with a message when this processor lacks it. The variable speaks
 * for the whole process, so it binds oneDNN too, which knows one level a process. */
static int choose_level(crank_context *context, const char *bodies)
{
    const char *environment = getenv("CRANK_BODIES");
    const char *wanted = bodies ? bodies : environment && *environment ? environment : NULL;
    int         best = (int)cpu_best_level(), level = 0;
    if (!wanted) return best;
    while (level < LEVELS && strcmp(level_names[level], wanted) != 0) level++;
    if (level <= best && !bodies) product_limit((cpu_level)level);
    if (level <= best) return level;
    if (level < LEVELS)
        crank_fail(context, CRANK_USAGE, "this processor or its system lacks \"%s\"; its best level is \"%s\"", wanted,
                   level_names[best]);
    else
        crank_fail(context, CRANK_USAGE, "\"%s\" is no level of CPU bodies: plain, avx2, avx512, avx512bf16 or amx",
                   wanted);
    return -1;
}

crank_device *crank_device_cpu(crank_context *context, const char *bodies)
{
    int level = choose_level(context, bodies);
    if (level < 0) return NULL;
    crank_device *device = crank_alloc(context, 1, sizeof *device, "a device");
    cpu_state    *state = device ? crank_alloc(context, 1, sizeof *state, "a device") : NULL;
    if (!state) {
        crank_free(device);
        return NULL;
    }
    *state = (cpu_state){.level = (cpu_level)level, .threads = crank_threads(context)};
    state->cache = cache_share();
    *device = (crank_device){
        .name = "cpu",
        .level = level_names[level],
        .host = true,
        .bf16 = level >= CPU_AVX512BF16,
        .state = state,
        .find = find,
        .alloc = alloc,
        .free = release,
        .upload = copy_bytes,
        .download = copy_bytes,
        .synchronize = synchronize,
        .close = close_device,
        .join = join,
    };
    return device;
}
