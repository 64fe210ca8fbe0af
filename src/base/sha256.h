/* sha256.h - the SHA-256 digest (FIPS 180-4) of bytes that come in pieces. */
#ifndef CRANK_BASE_SHA256_H
#define CRANK_BASE_SHA256_H

#include "crank/base.h"

typedef struct sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far */
    uint8_t block[64];
} sha256;

void sha256_start(sha256 *hash);
void sha256_add(sha256 *hash, const void *bytes, size_t length);
/* 64 lower-case hexadecimal digits and a NUL. */
void sha256_hex(sha256 *hash, char out[65]);
#endif
