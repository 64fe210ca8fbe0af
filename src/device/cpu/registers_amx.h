/* registers_amx.h - the tile registers as all bodies here use them: eight of 16 rows of 64 bytes (16 words of two bf16, or 16 f32). They belong
 * to a thread between tiles_begin and tiles_end. */
#ifndef CRANK_DEVICE_CPU_REGISTERS_AMX_H
#define CRANK_DEVICE_CPU_REGISTERS_AMX_H

#include <immintrin.h>
#include <stdint.h>

enum { SIDE = 16 };

static void tiles_begin(void)
{
    struct {
        uint8_t  palette, start_row, reserved[14];
        uint16_t row_bytes[16];
        uint8_t  rows[16];
    } shape = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        shape.row_bytes[i] = SIDE * sizeof(uint32_t);
        shape.rows[i] = SIDE;
    }
    _tile_loadconfig(&shape);
}

static void tiles_end(void) { _tile_release(); }

#endif
