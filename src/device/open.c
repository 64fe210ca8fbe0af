/* open.c - opens a device by name; the CUDA plugin is loaded when it is asked for, once a process. */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "device/cuda/plugin.h"
#include "device/operations.h"

#define PLUGIN "libcrank-cuda.so"

typedef struct cuda_plugin {
    crank_cuda_count_function    *count;
    crank_cuda_describe_function *describe;
    crank_cuda_open_function     *open;
    crank_cuda_describe_group_function *describe_group;
    bool (*find)(crank_device *device, const char *operation, const crank_call *call, crank_body *body); /* of its devices */
    char why[512]; /* it cannot be used: the reason */
} cuda_plugin;

static cuda_plugin    plugin; /* loaded once, under `once`; `find` is taken from the first device, under a lock */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* NVIDIA's driver shows itself as a device file (or WSL's). CUDA's libraries take tens of megabytes: they are loaded on machines that
 * have it, and where a GPU is asked for by name. */
static bool driver_is_there(void) { return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0; }

/* Loads `path`; false: the reason is in plugin.why. */
static bool load_from(const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(plugin.why, sizeof plugin.why, "%s", dlerror());
        return false;
    }
    plugin.count = (crank_cuda_count_function *)dlsym(library, "crank_cuda_count");
    plugin.describe = (crank_cuda_describe_function *)dlsym(library, "crank_cuda_describe");
    plugin.open = (crank_cuda_open_function *)dlsym(library, "crank_cuda_open");
    plugin.describe_group = (crank_cuda_describe_group_function *)dlsym(library, "crank_cuda_describe_group");
    if (plugin.count && plugin.describe && plugin.open && plugin.describe_group) return true;
    snprintf(plugin.why, sizeof plugin.why, "%s is no crank plugin of this version", path);
    plugin.open = NULL;
    return false;
}

/* The folder of the running program, without a slash at the end. */
static bool own_folder(char *folder, size_t size)
{
    ssize_t length = readlink("/proc/self/exe", folder, size - 1);
    if (length <= 0) return false;
    folder[length] = '\0';
    char *slash = strrchr(folder, '/');
    if (slash) *slash = '\0';
    return slash != NULL;
}

static void load_plugin(void)
{
    static const char *const beside[] = {"", "/../lib/crank", "/../lib", "/../lib/x86_64-linux-gnu/crank"};
    const char *named = getenv("CRANK_CUDA_PLUGIN");
    char        folder[PATH_MAX], path[PATH_MAX + 64];
    if (named && *named) {
        load_from(named);
        return;
    }
    if (own_folder(folder, sizeof folder))
        for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
            snprintf(path, sizeof path, "%s%s/" PLUGIN, folder, beside[i]);
            if (access(path, R_OK) == 0) {
                load_from(path);
                return;
            }
        }
    if (!load_from(PLUGIN)) {
        char reason[256];
        snprintf(reason, sizeof reason, "%.250s", plugin.why);
        snprintf(plugin.why, sizeof plugin.why, "crank was built or installed without " PLUGIN ", which needs CUDA's nvcc (%s)", reason);
    }
}

/* Every call is checked against the operation table before the plugin sees it. */
static bool find_checked(crank_device *device, const char *operation, const crank_call *call, crank_body *body)
{
    return operation_fits(operation, call, NULL, 0) && plugin.find(device, operation, call, body);
}

static crank_device *open_cuda(crank_context *context, int ordinal, bool deterministic)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    char                   why[256] = "";
    if (!plugin.open || plugin.count(why, sizeof why) == 0) {
        crank_fail(context, CRANK_FAILED, "no GPU can be used: %s; take the device cpu or auto (crank doctor shows what there is)",
                   !plugin.open ? plugin.why : !driver_is_there() ? "this machine has no NVIDIA driver" : *why ? why : "CUDA finds no card");
        return NULL;
    }
    crank_device *device = plugin.open(context, ordinal, deterministic);
    if (!device) return NULL;
    pthread_mutex_lock(&lock);
    if (!plugin.find) plugin.find = device->find;
    pthread_mutex_unlock(&lock);
    device->find = find_checked;
    return device;
}

crank_device *crank_device_open(crank_context *context, const crank_device_options *options)
{
    const char *name = options->name ? options->name : "cpu";
    char        why[256] = "";
    if (!strcmp(name, "cpu")) return crank_device_cpu(context, options->bodies);
    if (!strcmp(name, "auto") && !driver_is_there()) return crank_device_cpu(context, options->bodies);
    pthread_once(&once, load_plugin);
    if (!strcmp(name, "auto")) {
        bool card = plugin.open && plugin.count(why, sizeof why) > 0;
        if (!card)
            crank_log(context, CRANK_WARNING, "this machine has an NVIDIA driver, and crank runs on the CPU: %s", !plugin.open ? plugin.why : *why ? why : "no card");
        return card ? open_cuda(context, 0, options->deterministic) : crank_device_cpu(context, options->bodies);
    }
    char *end = NULL;
    long  ordinal = !strcmp(name, "cuda") ? 0 : !strncmp(name, "cuda:", 5) && name[5] ? strtol(name + 5, &end, 10) : -1;
    if (ordinal < 0 || ordinal > 1023 || (end && *end)) {
        crank_fail(context, CRANK_USAGE, "`%s` is no device: cpu, cuda, cuda:N or auto", name);
        return NULL;
    }
    return open_cuda(context, (int)ordinal, options->deterministic);
}

bool crank_device_describe(int i, char *text, size_t size)
{
    if (!driver_is_there()) {
        snprintf(text, size, "this machine has no NVIDIA driver");
        return false;
    }
    pthread_once(&once, load_plugin);
    char why[256] = "";
    int  count = plugin.open ? plugin.count(why, sizeof why) : 0;
    if (i < count) return plugin.describe(i, text, size);
    snprintf(text, size, "%s", !plugin.open ? plugin.why : *why ? why : "no card");
    return false;
}

bool crank_device_describe_group(char *text, size_t size)
{
    if (!driver_is_there()) {
        snprintf(text, size, "this machine has no NVIDIA driver");
        return false;
    }
    pthread_once(&once, load_plugin);
    if (plugin.open) return plugin.describe_group(text, size);
    snprintf(text, size, "%s", plugin.why);
    return false;
}
