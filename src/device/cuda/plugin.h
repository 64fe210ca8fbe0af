/* plugin.h - what the CUDA plugin (libcrank-cuda.so) shows to the program that loads it. */
#ifndef CRANK_DEVICE_CUDA_PLUGIN_H
#define CRANK_DEVICE_CUDA_PLUGIN_H

#include "crank/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Cards that CUDA sees; 0 with a reason when there is none. */
typedef int crank_cuda_count_function(char *why, size_t size);
/* One line on a card and the libraries; false: no such card. */
typedef bool crank_cuda_describe_function(int ordinal, char *text, size_t size);
/* One line on the library that sums over the GPUs of several processes; false: the reason why there is none. */
typedef bool crank_cuda_describe_group_function(char *text, size_t size);
/* A device on one card; NULL: message set. `deterministic`: only bodies that give the same bits every time. */
typedef crank_device *crank_cuda_open_function(crank_context *context, int ordinal, bool deterministic);

#ifdef __cplusplus
}
#endif
#endif
