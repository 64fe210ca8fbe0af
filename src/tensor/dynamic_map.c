/* dynamic_map.c - builds and searches the code map of 8-bit optimiser states. */
#include "tensor/dynamic_map.h"

#include <math.h>

/* Point i of n on an even grid from 0.1 to 1 in f32, each half counted from its own end. */
static float grid_point(int i, int n)
{
    float step = (1.0f - 0.1f) / (float)(n - 1);
    return i < n / 2 ? 0.1f + step * (float)i : 1.0f - step * (float)(n - 1 - i);
}

void dynamic_map(bool is_signed, float map[256])
{
    static const float decades[7] = {1e-6f, 1e-5f, 1e-4f, 1e-3f, 1e-2f, 1e-1f, 1};
    int                zero = is_signed ? 127 : 0, at = zero;
    map[at++] = 0;
    for (int i = 0; i < 7; i++) {
        int means = is_signed ? 1 << i : 2 << i;
        for (int j = 0; j < means; j++, at++) {
            map[at] = decades[i] * ((grid_point(j, means + 1) + grid_point(j + 1, means + 1)) / 2);
            if (is_signed) map[2 * zero - at] = -map[at];
        }
    }
    map[at] = 1;
}

uint8_t dynamic_nearest(const float map[256], float x)
{
    int below = 0, above = 255;
    if (x != x) x = 0;
    while (above - below > 1) {
        int middle = (below + above) / 2;
        if (map[middle] <= x) below = middle;
        else above = middle;
    }
    return (uint8_t)(x > 0.5f * (map[below] + map[above]) ? above : below);
}

uint8_t dynamic_nearest_signed(const float map[256], float x)
{
    uint8_t code = dynamic_nearest(map, x);
    if (x == 0 || x != x || !signbit(map[code]) == !signbit(x)) return code;
    return (uint8_t)(x > 0 ? code + 1 : code - 1);
}
