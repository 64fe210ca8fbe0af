/* doctor.c - crank doctor: what this machine has and what crank makes of it. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "task/machine.h"

/* The GPUs that could be used, or why there are none. */
static void put_cards(void)
{
    char text[512];
    int  count = 0;
    while (crank_device_describe(count, text, sizeof text)) printf("%s %s\n", count++ ? "                 " : "GPU              ", text);
    if (!count) printf("GPU               none: %s\n", text);
    if (count && crank_device_describe_group(text, sizeof text)) printf("sums over GPUs    %s\n", text);
    else if (count) printf("sums over GPUs    none, runs of several GPUs are refused: %s (install libnccl2, or name its file in CRANK_NCCL)\n", text);
}

static json_t *list_cards(void)
{
    char    text[512];
    json_t *list = json_array();
    for (int i = 0; crank_device_describe(i, text, sizeof text); i++) json_array_append_new(list, json_string(text));
    return list;
}

/* The library that GPUs of several processes sum with, or null. */
static json_t *group_library(void)
{
    char text[512];
    return crank_device_describe_group(text, sizeof text) ? json_string(text) : json_null();
}

static crank_status run(cli_call *cli)
{
    const char   *levels[16];
    int           count = crank_cpu_levels(levels, 16);
    crank_device *device = crank_device_cpu(cli->context, NULL);
    machine_rates rates;
    if (!device) return crank_last_status(cli->context);
    int64_t      at_start = memory_peak();
    crank_status status = machine_measure(cli->context, device, &rates);
    if (status == CRANK_OK && cli->common.json) {
        json_t *root = json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:f, s:f, s:f, s:o, s:o}", "version", crank_version(), "level", device->level, "threads",
                                 crank_threads(cli->context), "memory_total", (json_int_t)memory_total(), "memory_available",
                                 (json_int_t)memory_available(), "own_memory", (json_int_t)at_start, "f32_flops", rates.f32, "bf16_flops", rates.bf16,
                                 "copy_bytes", rates.copy, "gpus", list_cards(), "gpu_group", group_library());
        char *text = root ? json_text(cli->context, root, 0) : NULL;
        if (text) puts(text);
        else status = CRANK_FAILED;
        crank_free(text);
        json_decref(root);
    } else if (status == CRANK_OK) {
        printf("crank %s\n", crank_version());
        printf("threads           %d\n", crank_threads(cli->context));
        printf("CPU kernels       %s (this processor runs:", device->level);
        for (int i = 0; i < count; i++) printf(" %s", levels[i]);
        printf(")\n");
        printf("memory            %.1f GiB, %.1f available; crank itself takes %.0f MiB\n", (double)memory_total() / 1073741824.0,
               (double)memory_available() / 1073741824.0, (double)at_start / 1048576.0);
        printf("products in f32   %.0f GFLOP/s\n", rates.f32 * 1e-9);
        if (device->bf16) printf("products in bf16  %.0f GFLOP/s: `auto` computes in bf16\n", rates.bf16 * 1e-9);
        else printf("products in bf16  not native: `auto` computes in f32\n");
        printf("memory copy       %.1f GB/s (read + written)\n", rates.copy * 1e-9);
        put_cards();
    }
    device->close(device);
    return status;
}

const cli_verb verb_doctor = {
    .name = "doctor",
    .usage = "",
    .summary = "what this machine has: kernels, threads, memory, measured rates",
    .run = run,
};
