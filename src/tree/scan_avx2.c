/* scan_avx2.c - the scan for splits, compiled for AVX2. */
#include "tree/scan_body.h"

void scan_numbers_avx2(const packed *hist, int32_t bins, bool has_missing, const scan_leaf *leaf, double parent, split *best)
{
    scan_body(hist, bins, has_missing, leaf, parent, best);
}
