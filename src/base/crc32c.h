/* crc32c.h - the Castagnoli checksum (polynomial 0x1EDC6F41, bits reflected), and TFRecord's mask of it. */
#ifndef CRANK_BASE_CRC32C_H
#define CRANK_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *data, size_t length);
/* Rotated and shifted: a checksum of data that hold checksums would be weak. */
static inline uint32_t crc32c_masked(const void *data, size_t length)
{
    uint32_t crc = crc32c(data, length);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}
#endif
