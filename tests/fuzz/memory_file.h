/* memory_file.h - a file in memory that has a path: for readers that open their input by name. */
#ifndef CRANK_FUZZ_MEMORY_FILE_H
#define CRANK_FUZZ_MEMORY_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

typedef struct memory_file {
    int  descriptor;
    char path[64];
} memory_file;

static inline memory_file memory_file_open(const uint8_t *data, size_t size)
{
    memory_file file = {.descriptor = memfd_create("input", MFD_CLOEXEC)};
    if (file.descriptor < 0) abort();
    for (size_t done = 0; done < size;) {
        ssize_t written = write(file.descriptor, data + done, size - done);
        if (written <= 0) abort();
        done += (size_t)written;
    }
    snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.descriptor);
    return file;
}

static inline void memory_file_close(const memory_file *file) { close(file->descriptor); }
#endif
