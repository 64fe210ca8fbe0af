/* scan_avx512.c - the scan for splits, compiled for AVX-512. */
#include "tree/scan_body.h"

void scan_numbers_avx512(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, double parent, split *best)
{
    scan_body(hist, bins, has_missing, leaf, parent, best);
}
